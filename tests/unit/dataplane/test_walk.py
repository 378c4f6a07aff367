"""The walk: order, groups, what it refuses, and what the fingerprints see."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.dataplane.entries import LONGEST_PATH, FileType
from activities.dataplane.pool import ChildPool
from activities.dataplane.running import Port
from activities.dataplane.walk import MAX_OPEN_FOLDERS, change_fingerprint, content_fingerprint, show, walk
from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.trees import IS_ROOT, make_rich_tree

NOBODY = 65534


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    return root


def paths(root: Path) -> list[bytes]:
    return [entry.path for entry in walk(root, xattrs=False)]


def test_archive_order(tree: Path) -> None:
    """Bytewise by path component: what a folder holds stands between it and its longer-named sibling."""
    for name in ("a/x", "a.b/x", "a b", "B", "ab/c/d", "ab/c-"):
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    assert paths(tree) == [b"", b"B", b"a", b"a/x", b"a b", b"a.b", b"a.b/x", b"ab", b"ab/c", b"ab/c/d", b"ab/c-"]


def test_hard_links_name_the_first(tree: Path) -> None:
    """The first name in order is the file, whichever was made first; other kinds have groups too."""
    (tree / "z").write_text("data")
    os.link(tree / "z", tree / "m")
    (tree / "a").mkdir()
    os.link(tree / "z", tree / "a" / "first")
    os.mkfifo(tree / "p1")
    os.link(tree / "p1", tree / "p0")
    found = {entry.path: (entry.type, entry.target) for entry in walk(tree, xattrs=False)}
    assert found[b"a/first"] == (FileType.FILE, b"")
    assert found[b"m"] == found[b"z"] == (FileType.HARD_LINK, b"a/first")
    assert found[b"p0"] == (FileType.FIFO, b"")
    assert found[b"p1"] == (FileType.HARD_LINK, b"p0")


def test_names_outside_the_volume_do_not_matter(tree: Path, tmp_path: Path) -> None:
    """A file whose other name is elsewhere is a plain file."""
    (tree / "file").write_text("data")
    os.link(tree / "file", tmp_path / "outside")
    assert [entry.type for entry in walk(tree, xattrs=False)] == [FileType.DIRECTORY, FileType.FILE]


def test_deeper_than_folders_are_kept_open(tree: Path) -> None:
    """Hundreds of levels, and paths beyond PATH_MAX: found whole, and no descriptor is left open."""
    make_deep(tree, levels=MAX_OPEN_FOLDERS * 6, name="d" * 20)
    before = len(os.listdir("/proc/self/fd"))
    entries = list(walk(tree, xattrs=True))
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(entries) == 1 + 3 * MAX_OPEN_FOLDERS * 6
    assert max(len(entry.path) for entry in entries) > 4096


def test_deeper_than_an_archive_can_say(tree: Path) -> None:
    """Each folder of a chain has all names above it in its own: Unsupported, before that fills the memory."""
    make_deep(tree, levels=LONGEST_PATH // 201 + 1, name="d" * 200)
    with pytest.raises(StorageError) as caught:
        paths(tree)
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert caught.value.details["path"].startswith("ddd")


def make_deep(root: Path, *, levels: int, name: str) -> None:
    """A chain of folders, each with a file before and a link behind the next one."""
    at = os.open(root, os.O_RDONLY)
    for level in range(levels):
        os.close(os.open(b"a", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at))
        os.symlink(b"a", b"z%d" % level, dir_fd=at)
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


@pytest.mark.skipif(not IS_ROOT, reason="needs root to mount")
def test_nested_mounts_are_refused(tree: Path) -> None:
    """Another file system, and a bind mount of the same one, are not archived as if they were the volume's."""
    inner = tree / "in ner"
    inner.mkdir()
    for command in (["-t", "tmpfs", "none"], ["--bind", str(tree.parent)]):
        if subprocess.run(["mount", *command, str(inner)], capture_output=True).returncode:
            pytest.skip("mount is not allowed here")
        try:
            with pytest.raises(StorageError) as caught:
                paths(tree)
        finally:
            subprocess.run(["umount", str(inner)], check=True)
        assert caught.value.code is ErrorCode.UNSUPPORTED
        assert "in ner" in caught.value.message


def test_a_folder_that_vanishes(tree: Path) -> None:
    """Whoever deletes while we walk is told apart from a disk that fails."""
    (tree / "a").mkdir()
    steps = walk(tree, xattrs=False)
    assert [next(steps).path, next(steps).path] == [b"", b"a"]
    (tree / "a").rmdir()
    with pytest.raises(StorageError) as caught:
        next(steps)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED


def test_a_folder_that_becomes_a_link(tree: Path) -> None:
    """The walk does not follow it out of the volume."""
    (tree / "a").mkdir()
    steps = walk(tree, xattrs=False)
    assert [next(steps).path, next(steps).path] == [b"", b"a"]
    (tree / "a").rmdir()
    (tree / "a").symlink_to("/etc")
    with pytest.raises(StorageError) as caught:
        next(steps)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED


def walk_as_nobody(port: Port, root: str, chdir: bool) -> list[bytes]:
    """The paths that an ordinary user sees, in a process of its own."""
    if IS_ROOT:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    return [entry.path for entry in walk(root, xattrs=True, chdir=chdir)]


@pytest.mark.parametrize("chdir", [False, True])
@pytest.mark.parametrize("name", [None, "name"])
async def test_a_folder_that_may_not_be_entered(pool: ChildPool, chdir: bool, name: str | None) -> None:
    """Empty it is an entry like any other; with a name in it, that name is told."""
    with tempfile.TemporaryDirectory(dir="/tmp") as root:  # where an ordinary user can come to
        listed = Path(root) / "listed"
        listed.mkdir()
        if name:
            (listed / name).touch()
        if IS_ROOT:
            os.chown(root, NOBODY, NOBODY)
            os.chown(listed, NOBODY, NOBODY)
        listed.chmod(0o400)
        try:
            if name is None:
                assert await pool.run(walk_as_nobody, root, chdir) == [b"", b"listed"]
                return
            with pytest.raises(StorageError) as caught:
                await pool.run(walk_as_nobody, root, chdir)
        finally:
            listed.chmod(0o700)
    assert caught.value.code is ErrorCode.VOLUME_UNREADABLE
    assert caught.value.details["path"] == "listed/name"


@pytest.mark.skipif(IS_ROOT, reason="root may read everything")
def test_what_cannot_be_read_is_named(tree: Path) -> None:
    """A folder without read permission fails the walk instead of being left out."""
    (tree / "closed").mkdir(mode=0)
    with pytest.raises(StorageError) as caught:
        paths(tree)
    assert caught.value.code is ErrorCode.VOLUME_UNREADABLE
    assert caught.value.details["path"] == "closed"


def test_no_volume(tmp_path: Path) -> None:
    """A root that is not there is no empty tree."""
    with pytest.raises(StorageError):
        paths(tmp_path / "nothing")


def _rewrite_same_size_and_time(root: Path) -> None:
    before = os.lstat(root / "plain.txt")
    (root / "plain.txt").write_bytes(b"HELLO\n")
    os.utime(root / "plain.txt", ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: list[Callable[[Path], object]] = [
    lambda root: (root / "new").touch(),
    lambda root: (root / "plain.txt").chmod(0o600),
    lambda root: os.utime(root / "plain.txt"),
    lambda root: os.setxattr(root / "plain.txt", b"user.new", b"x"),
    lambda root: os.rename(root / "plain.txt", root / "renamed"),
    lambda root: (root / "socket").unlink(),
    lambda root: os.link(root / "empty", root / "more"),
    lambda root: (root / "fifo").unlink(),
    _rewrite_same_size_and_time,
]


@pytest.mark.parametrize("change", CHANGES)
async def test_change_fingerprint_sees(tree: Path, change: Callable[[Path], object]) -> None:
    """Whatever moves under us, even a write that puts the old times back."""
    make_rich_tree(tree)
    before = await change_fingerprint(tree)
    assert await change_fingerprint(tree) == before
    change(tree)
    assert await change_fingerprint(tree) != before


@pytest.mark.field("D1")
async def test_whatever_somebody_has_ends_the_walk(tree: Path) -> None:
    """Each name of whatever kind, the root too, if device and inode are among those asked for; no others."""
    make_rich_tree(tree)
    free = await change_fingerprint(tree)
    for path in [tree, *tree.rglob("*")]:
        status = path.lstat()
        held = {(status.st_dev, status.st_ino): "pid 1 (somebody)", (status.st_dev + 1, tree.stat().st_ino): "else"}
        with pytest.raises(StorageError, match=r"is used by pid 1 \(somebody\)") as error:
            await change_fingerprint(tree, held=held)
        assert error.value.code is ErrorCode.VOLUME_IN_USE
        names = {show(bytes(each.relative_to(tree))): each for each in tree.rglob("*")} | {".": tree}
        assert names[error.value.details["path"]].lstat().st_ino == status.st_ino
    assert await change_fingerprint(tree, held={(status.st_dev + 1, status.st_ino): "pid 1 (somebody)"}) == free


async def test_content_fingerprint_survives_a_copy(tree: Path, tmp_path: Path) -> None:
    """A faithful copy has the same content and another change fingerprint."""
    make_rich_tree(tree)
    copy_faithfully(tree, tmp_path / "copy")
    assert await content_fingerprint(tmp_path / "copy") == await content_fingerprint(tree)
    assert await change_fingerprint(tmp_path / "copy") != await change_fingerprint(tree)
    shutil.copyfile(tree / "empty", tmp_path / "copy" / "more")
    assert await content_fingerprint(tmp_path / "copy") != await content_fingerprint(tree)


def copy_faithfully(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-aT", source, target], check=True)
