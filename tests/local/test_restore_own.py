"""Our own archives, written and restored by the data plane, compared by code that shares nothing with it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from activities.dataplane.archiver import Wall
from activities.dataplane.restore import ArchiveRestore
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import TINY, Made, make_archive, restore_archive
from tests.harness.trees import IS_ROOT, make_rich_tree, snapshot

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
REPOSITORY = Path(__file__).parents[2]


class Archived:
    """A rich tree, its archive, and an empty folder to restore into."""

    def __init__(self, source: Path, target: Path, store: MemoryStore, made: Made) -> None:
        self.source = source
        self.target = target
        self.store = store
        self.made = made

    def restore(self, **options: object) -> ArchiveRestore:
        """A restore of it, inside all walls."""
        return ArchiveRestore(self.target, self.store, self.made.manifest, wall=Wall.DEMANDED, **options)  # type: ignore[arg-type]


@pytest.fixture
async def archived(tmp_path: Path) -> Archived:
    """Cut so small that every kind of segment occurs several times."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    make_rich_tree(source)
    store = MemoryStore(min_part_bytes=0)
    return Archived(source, target, store, await make_archive(source, store, limits=TINY))


async def test_a_rich_tree_comes_back_in_every_detail(archived: Archived) -> None:
    """Modes, owners, times, links, ACLs, attributes, holes and odd names are as they were."""
    report = await restore_archive(archived.restore())
    assert snapshot(archived.target) == snapshot(archived.source)
    assert report.files == archived.made.manifest.totals.files
    assert report.bytes == archived.made.manifest.totals.file_bytes
    assert dict(report.skipped) == {}


async def test_every_step_may_run_twice(archived: Archived) -> None:
    """A retry in the same mover finds what the first attempt left, and comes to the same end."""
    restore = archived.restore()
    await restore.prepare()
    await restore.prepare()
    await restore.restore_segments(1, restore.data_segments)
    await restore.restore_segments(1, restore.data_segments)
    await restore.finish()
    await restore.finish()
    await restore.sync()
    assert snapshot(archived.target) == snapshot(archived.source)


async def test_there_is_no_link_while_parallel_writers_run(archived: Archived) -> None:
    """The second wall: neither symbolic nor hard links exist before the last segment is done."""
    restore, seen = archived.restore(), []

    def look(number: int) -> None:
        for folder, folders, files in os.walk(archived.target):
            for name in folders + files:
                status = os.lstat(os.path.join(folder, name))
                seen.append(stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink > 1))

    await restore.prepare()
    await restore.restore_segments(1, restore.data_segments, restored=look)
    assert len(seen) > 100
    assert not any(seen)


async def test_folders_are_closed_and_bare_while_parallel_writers_run(archived: Archived) -> None:
    """0700 without default ACLs, even where the volume's root came with one that its folders would inherit."""
    os.chmod(archived.target, 0o2775)
    acl = os.getxattr(archived.source / "a.b", "system.posix_acl_default")
    os.setxattr(archived.target, "system.posix_acl_default", acl)
    restore = archived.restore()
    await restore.prepare()
    for folder, _, _ in os.walk(archived.target):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert not [name for name in os.listxattr(folder) if "posix_acl" in name]
    await restore.restore_segments(1, restore.data_segments)
    await restore.finish()
    assert snapshot(archived.target) == snapshot(archived.source)


async def test_a_flipped_byte_anywhere_is_found_and_its_segment_not_reported(archived: Archived) -> None:
    """One bit of each data segment in turn; the others come back."""
    key = archived.made.info.key
    restore = archived.restore()
    await restore.prepare()
    segments = archived.made.manifest.segments
    for number in range(1, restore.data_segments + 1):
        segment = segments[number - 1]
        at = segment.offset + segment.stored_bytes // 2
        archived.store.corrupt(key, at)
        restored: list[int] = []
        with pytest.raises(StorageError) as caught:
            await restore.restore_segments(number, number, restored=restored.append)
        assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
        assert caught.value.details == {"segment": number}
        assert restored == []
        archived.store.corrupt(key, at)
    await restore.restore_segments(1, restore.data_segments)


def children() -> list[str]:
    """Programs that this process has started and that still are."""
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return [pid for pid in task.read_text().split() if b"codehub-archive" in Path(f"/proc/{pid}/comm").read_bytes()]


class StallingStore(MemoryStore):
    """Hands out half of each range, then nothing, and says so."""

    def __init__(self) -> None:
        super().__init__(min_part_bytes=0)
        self.stalled = asyncio.Event()
        self.opened = 0
        self.closed = 0

    async def read(
        self, key: str, *, offset: int = 0, length: int | None = None, etag: str, version_id: str | None = None
    ) -> AsyncIterator[bytes]:
        assert length is not None
        self.opened += 1
        try:
            async for chunk in super().read(key, offset=offset, length=length // 2, etag=etag):
                yield chunk
            self.stalled.set()
            await asyncio.Event().wait()
        finally:
            self.closed += 1


async def test_cancelling_ends_the_program_and_closes_the_reads(archived: Archived) -> None:
    """When the cancelled call is over, no program and no connection of it is left."""
    await archived.restore().prepare()
    stalling = StallingStore()
    found = await archived.store.get(archived.made.info.key)
    assert found is not None
    info = await stalling.put_if(archived.made.info.key, found[0], etag=None)
    manifest = archived.made.manifest
    assert manifest.object is not None
    manifest = manifest.model_copy(update={"object": manifest.object.model_copy(update={"etag": info.etag})})
    restore = ArchiveRestore(archived.target, stalling, manifest, wall=Wall.DEMANDED, lanes=3)
    task = asyncio.create_task(restore.restore_segments(1, restore.data_segments))
    await stalling.stalled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []
    assert stalling.closed == stalling.opened


@needs_root
async def test_a_full_volume_is_no_space(archived: Archived, tmp_path: Path) -> None:
    """A disk that fills up while our writers run: NoSpace, whatever the preflight thought."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess_run("mount", "-t", "tmpfs", "-o", "size=96k,nr_inodes=200", "tmpfs", small)
    try:
        restore = ArchiveRestore(small, archived.store, archived.made.manifest, wall=Wall.DEMANDED)
        with pytest.raises(StorageError) as caught:
            await restore.prepare()
        assert caught.value.code is ErrorCode.NO_SPACE
        for target in (small / "in", small / "again"):
            target.mkdir()
        totals = archived.made.manifest.totals.model_copy(update={"file_bytes": 0, "files": 0, "directories": 0})
        manifest = archived.made.manifest.model_copy(update={"totals": totals})
        restore = ArchiveRestore(small / "in", archived.store, manifest, wall=Wall.DEMANDED)
        with pytest.raises(StorageError) as caught:
            await restore_archive(restore)
        assert caught.value.code is ErrorCode.NO_SPACE
    finally:
        subprocess_run("umount", small)


def subprocess_run(*command: str | Path) -> bytes:
    """What a command prints; it must succeed."""
    return subprocess.run(command, check=True, capture_output=True).stdout


@needs_root
async def test_an_ordinary_user_gets_all_but_owners_and_privileged_attributes(
    archived: Archived,
) -> None:
    """What the kernel does not let a user set is skipped and counted; everything else is there and compared."""
    report = await as_user(archived.store, archived.made, lambda target: _look_as_user(target, archived.source))
    assert report["files"] == archived.made.manifest.totals.files
    assert set(report["skipped"]) == {"owners", "trusted_xattrs", "security_xattrs"}
    assert report["skipped"]["trusted_xattrs"] == 2


def _look_as_user(target: Path, source: Path) -> None:
    unprivileged = frozenset({"owners", "xattrs"})
    assert snapshot(target, ignore=unprivileged) == snapshot(source, ignore=unprivileged)
    assert os.getxattr(target / "plain.txt", "user.comment") == b"with = and \n and \0 in it"
    assert os.getxattr(target / "a.b", "system.posix_acl_default")


async def as_user(store: MemoryStore, made: Made, look: Callable[[Path], None] = lambda target: None) -> Any:
    """Restore in a program that has dropped all rights; answers its report."""
    found = await store.get(made.info.key)
    assert found is not None
    # Not below tmp_path, whose parents are closed to others.
    with tempfile.TemporaryDirectory(prefix="as-user-") as name:
        share = Path(name)
        share.chmod(0o755)
        (share / "archive").write_bytes(found[0])
        (share / "manifest").write_bytes(made.manifest.to_json())
        (share / "target").mkdir()
        os.chown(share / "target", 65534, 65534)
        command: list[str | Path] = [sys.executable, "-m", "tests.unit.dataplane_read.as_user", share / "target"]
        printed = await asyncio.to_thread(
            lambda: subprocess.run(
                [*command, share / "archive", share / "manifest"],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'client'}"},
                capture_output=True,
                check=False,
                text=True,
            )
        )
        assert printed.returncode == 0, printed.stderr
        look(share / "target")
        return json.loads(printed.stdout)


async def test_paths_that_no_tool_can_name_come_back(tmp_path: Path) -> None:
    """Beyond PATH_MAX tar can neither read nor write; our own code does both, small files and large ones."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    contents = {b"small": b"x" * 100, b"empty": b"", b"big": os.urandom(50_000)}
    with deep(source, make=True) as folder:
        for name, content in contents.items():
            fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=folder)
            os.write(fd, content)
            os.setxattr(fd, "user.x", b"1")
            os.fchmod(fd, 0o640)
            os.utime(fd, ns=(7, 10**18 + 7))
            os.close(fd)
        os.symlink("small", "link", dir_fd=folder)
        os.link("small", "zz", src_dir_fd=folder, dst_dir_fd=folder)
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(source, store, limits=TINY)
    await restore_archive(ArchiveRestore(target, store, made.manifest, wall=Wall.DEMANDED))
    with deep(target) as folder:
        for name, content in contents.items():
            fd = os.open(name, os.O_RDONLY, dir_fd=folder)
            status = os.fstat(fd)
            assert os.pread(fd, 1 << 20, 0) == content
            assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, 10**18 + 7)
            assert os.getxattr(fd, "user.x") == b"1"
            os.close(fd)
        assert os.readlink("link", dir_fd=folder) == "small"
        assert os.stat("zz", dir_fd=folder).st_ino == os.stat("small", dir_fd=folder).st_ino


@contextmanager
def deep(root: Path, *, make: bool = False) -> Iterator[int]:
    """A folder twenty long names below ``root``, step by step, as no path leads there."""
    at = os.open(root, os.O_RDONLY)
    for _ in range(20):
        if make:
            os.mkdir("n" * 250, dir_fd=at)
        inner = os.open("n" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    yield at
    os.close(at)


@pytest.mark.parametrize("entries", [0, 1])
async def test_a_home_of_almost_nothing_comes_back(tmp_path: Path, entries: int) -> None:
    """A provisioned workspace that nobody used has a tail and no data segment."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir(mode=0o755)
    target.mkdir()
    if entries:
        (source / "only").write_bytes(b"")
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(source, store)
    await restore_archive(ArchiveRestore(target, store, made.manifest, wall=Wall.DEMANDED))
    assert snapshot(target) == snapshot(source)


@needs_root
async def test_devices_come_back_where_they_may_be_made(tmp_path: Path) -> None:
    """An archive that holds a device restores it; an ordinary user's restore counts it instead."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    os.mknod(source / "null", 0o020644, os.makedev(1, 3))
    os.link(source / "null", source / "zz")
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(source, store, limits=replace(TINY, allow_devices=True))
    await restore_archive(ArchiveRestore(target, store, made.manifest, wall=Wall.DEMANDED))
    assert snapshot(target) == snapshot(source)
    report = await as_user(store, made)
    assert report["skipped"]["devices"] == 2
