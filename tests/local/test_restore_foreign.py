"""Archives that others made, by the tools that people have: restored, or refused with a typed error."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.dataplane.archiver import Wall
from activities.dataplane.foreign import restore_foreign
from activities.dataplane.report import RestoreReport
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import make_archive
from tests.harness.trees import snapshot

KEY = "archives/ws1.tar.gz"
WHOLE_SECONDS = frozenset({"times"})
"""For forms that know no fractions."""


async def restore(tmp_path: Path, data: bytes) -> tuple[Path, RestoreReport]:
    """Restore these bytes as a foreign archive, inside all walls."""
    store = MemoryStore()
    info = await store.put_if(KEY, data, etag=None)
    target, spool = tmp_path / "target", tmp_path / "spool"
    target.mkdir()
    spool.mkdir()
    report = await restore_foreign(target, store, info, spool=spool, wall=Wall.DEMANDED)
    assert not list(spool.iterdir())
    return target, report


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What every tool can carry: files, folders, both kinds of links, odd names, whole seconds."""
    root = tmp_path / "source"
    (root / "sub/deep").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o711)
    (root / "sub/file").write_bytes(os.urandom(70_000))
    (root / "sub/deep" / ("n" * 120)).write_bytes(b"a name beyond v7")
    (root / ("d" * 90) / ("e" * 90)).mkdir(parents=True)
    (root / ("d" * 90) / ("e" * 90) / "file").write_bytes(b"a path beyond ustar")
    (root / "sp ace\n").write_bytes(b"x")
    (root / "exec").write_bytes(b"#!/bin/sh\n")
    (root / "exec").chmod(0o755)
    os.link(root / "sub/file", root / "zz-hard")
    (root / "link").symlink_to("sub/file")
    (root / "to-folder").symlink_to("sub")
    (root / "dangling").symlink_to("/nowhere/" + "x" * 150)
    (root / "sub").chmod(0o750)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (1_500_000_000, 1_500_000_000), follow_symlinks=False)
    return root


def run(*command: str | Path) -> bytes:
    """What a command prints; it must succeed."""
    return subprocess.run(command, check=True, capture_output=True).stdout


def gnu_tar(*options: str) -> Callable[[Path], bytes]:
    """A maker by GNU tar."""
    return lambda root: run("tar", "-cz", *options, "-C", root, ".")


def bsdtar(*options: str) -> Callable[[Path], bytes]:
    """A maker by libarchive."""
    return lambda root: run("bsdtar", "-cz", *options, "-f", "-", "-C", root, ".")


def busybox(root: Path) -> bytes:
    """A maker by busybox."""
    return run("busybox", "tar", "-cz", "-C", root, ".")


def python(form: int) -> Callable[[Path], bytes]:
    """A maker by Python's tarfile."""

    def make(root: Path) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", format=form) as archive:
            archive.add(root, arcname=".")
        return out.getvalue()

    return make


MAKERS = [
    pytest.param(gnu_tar("--format=gnu"), id="gnu"),
    pytest.param(gnu_tar("--format=oldgnu"), id="oldgnu"),
    pytest.param(gnu_tar("--format=posix"), id="gnu-posix"),
    pytest.param(gnu_tar("--format=posix", "--sparse", "--xattrs", "--acls"), id="gnu-posix-sparse-xattrs"),
    pytest.param(bsdtar("--format=pax"), id="bsd-pax", marks=pytest.mark.tool("bsdtar")),
    pytest.param(bsdtar("--format=gnutar"), id="bsd-gnutar", marks=pytest.mark.tool("bsdtar")),
    pytest.param(busybox, id="busybox", marks=pytest.mark.tool("busybox")),
    pytest.param(python(tarfile.PAX_FORMAT), id="python-pax"),
    pytest.param(python(tarfile.GNU_FORMAT), id="python-gnu"),
]


@pytest.mark.parametrize("make", MAKERS)
async def test_what_a_known_tool_made_comes_back(tmp_path: Path, tree: Path, make: Callable[[Path], bytes]) -> None:
    """Data, modes, owners, times and links are as they were."""
    target, report = await restore(tmp_path, make(tree))
    assert snapshot(target) == snapshot(tree)
    assert report.files == sum(path.is_file() and not path.is_symlink() for path in tree.rglob("*")) - 1


@pytest.mark.parametrize("make", MAKERS)
async def test_an_archive_cut_at_any_block_is_refused(
    tmp_path: Path, tree: Path, make: Callable[[Path], bytes]
) -> None:
    """Without its end-of-archive blocks a tar is not known to be whole; the gzip around it is sound here."""
    raw = gzip.decompress(make(tree))
    end = -(-len(raw.rstrip(b"\0")) // 512) * 512
    with pytest.raises(StorageError) as caught:
        await restore(tmp_path, gzip.compress(raw[:end]))
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", "old"])
async def test_sparse_files_of_every_form_come_back_with_their_holes(tmp_path: Path, version: str) -> None:
    """GNU tar has written four kinds of sparse maps over the years."""
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        for island in range(40):
            file.seek(island * 1_000_000)
            file.write(b"island %d" % island)
        file.truncate(50_000_000)
    (source / "after").write_bytes(b"what follows is still found")
    form = ["--format=gnu"] if version == "old" else ["--format=posix", f"--sparse-version={version}"]
    target, _ = await restore(tmp_path, gnu_tar("--sparse", *form)(source))
    assert snapshot(target, ignore=WHOLE_SECONDS) == snapshot(source, ignore=WHOLE_SECONDS)


async def test_attributes_of_users_come_back_and_others_are_counted(tmp_path: Path) -> None:
    """user.* is kept; trusted.*, ACLs and setuid of a stranger are not, and the report says so."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"x")
    os.setxattr(source / "file", "user.kept", b"\0\n=")
    os.setxattr(source / "file", "user.with=sign", b"1")
    (source / "file").chmod(0o6755)
    target, report = await restore(tmp_path, gnu_tar("--format=posix", "--xattrs")(source))
    assert os.getxattr(target / "file", "user.kept") == b"\0\n="
    assert os.getxattr(target / "file", "user.with=sign") == b"1"
    assert (target / "file").stat().st_mode & 0o7777 == 0o755
    assert report.skipped["setuid"] == 1


async def test_an_archive_appended_to_has_the_last_of_each_file(tmp_path: Path) -> None:
    """`tar -r` repeats names; the last one counts, as for every tar."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"first, and longer")
    archive = tmp_path / "a.tar"
    run("tar", "-cf", archive, "-C", source, ".")
    (source / "file").write_bytes(b"second")
    run("tar", "-rf", archive, "-C", source, ".")
    target, _ = await restore(tmp_path, gzip.compress(archive.read_bytes()))
    assert snapshot(target, ignore=WHOLE_SECONDS) == snapshot(source, ignore=WHOLE_SECONDS)


async def test_many_members_and_padding_are_one_stream(tmp_path: Path, tree: Path) -> None:
    """pigz, bgzip and ourselves write many members; tapes fill up with zeros."""
    raw = gzip.decompress(gnu_tar("--format=posix")(tree))
    pieces = [gzip.compress(raw[at : at + 777]) for at in range(0, len(raw), 777)]
    target, _ = await restore(tmp_path, b"".join(pieces) + bytes(1000))
    assert snapshot(target) == snapshot(tree)


async def test_an_archive_of_ours_restores_as_a_foreign_one(tmp_path: Path, tree: Path) -> None:
    """A copy of one of our archives under a foreign key is a tar.gz like any other."""
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(tree, store)
    found = await store.get(made.info.key)
    assert found is not None
    target, _ = await restore(tmp_path, found[0])
    assert snapshot(target) == snapshot(tree)
