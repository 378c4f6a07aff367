"""A walk in a process of its own: the same entries, and whichever side ends first, the other ends too."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.dataplane.ahead import Walked, Walker, _read, walk_ahead
from activities.dataplane.entries import LONGEST_PATH, Entry
from activities.dataplane.pool import ChildPool
from activities.dataplane.spool import pack_entry, unpack_entry
from activities.dataplane.threads import Stop, Stopped
from activities.dataplane.walk import MAX_OPEN_FOLDERS, change_fingerprint, walk
from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.trees import make_rich_tree

MANY = 20_000
"""Entries that fill pipe and buffers several times."""
FILLED = 0.5
"""Seconds after which a walk that nobody takes has filled them, and waits."""


@pytest.fixture
def walker(pool: ChildPool, tmp_path: Path) -> Iterator[Walker]:
    """A process that walks, and a folder for its pipe; in the end it has left the volume, and nothing there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield Walker(pool, folder)
    assert not list(folder.iterdir())
    with contextlib.suppress(FileNotFoundError):  # a test has killed it
        assert os.readlink(f"/proc/{pool.pids[0]}/cwd") == "/"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder with many names."""
    root = tmp_path / "many"
    root.mkdir()
    (root / "0").touch()
    for number in range(1, MANY):  # more names of one file are made sooner than files
        os.link(root / "0", root / f"{number:0100}")
    return root


def all_of(walked: Walked, stop: Stop) -> list[Entry]:
    """The entries; the packed form of each is it again."""
    found = []
    for entry, packed in walked:
        assert unpack_entry(packed) == entry
        found.append(entry)
    return found


async def still_walks(walker: Walker, tmp_path: Path) -> None:
    """After whatever was, the same process walks another tree."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    entries, _ = await walk_ahead(walker, other, all_of)
    assert [entry.path for entry in entries] == [b"", b"file"]


async def test_the_entries_are_the_same(walker: Walker, tmp_path: Path, many: Path) -> None:
    """With a process of its own, without one, and as the walk itself has them: every kind, and many."""
    rich = tmp_path / "rich"
    rich.mkdir()
    make_rich_tree(rich)
    folder = rich
    for number in range(MAX_OPEN_FOLDERS + 10):  # so deep that the walk closes outer folders and comes back to them
        folder /= "deeper"
        folder.mkdir()
        (folder / "z").touch()
        os.setxattr(folder / "z", "user.number", b"%d" % number)
    for root in (rich, many):
        expected = list(walk(root, xattrs=True)), await change_fingerprint(root)
        assert await walk_ahead(walker, root, all_of) == expected
        assert await walk_ahead(None, root, all_of) == expected


async def test_the_error_of_the_walk(walker: Walker, tmp_path: Path, many: Path) -> None:
    """At once, and after many entries were taken: what the walk says, and not that it was cut off."""
    with pytest.raises(StorageError) as caught:
        await walk_ahead(walker, tmp_path / "absent", all_of)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    folder = os.open(many, os.O_RDONLY)
    for _ in range(LONGEST_PATH // 200 + 1):
        os.mkdir("z" * 199, dir_fd=folder)
        inner = os.open("z" * 199, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    taken = []

    def take(walked: Walked, stop: Stop) -> None:
        for entry, _ in walked:
            taken.append(entry.path)

    with pytest.raises(StorageError) as caught:
        await walk_ahead(walker, many, take)
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert len(taken) > MANY
    await still_walks(walker, tmp_path)


async def test_the_error_of_who_takes(walker: Walker, tmp_path: Path, many: Path) -> None:
    """Before the first entry and amid many: it is raised, and the walk ends."""

    def take(walked: Walked, stop: Stop) -> None:
        raise ValueError("no more")

    def take_one(walked: Walked, stop: Stop) -> None:
        next(walked)
        time.sleep(FILLED)
        raise ValueError("no more")

    for taking in (take, take_one):
        with pytest.raises(ValueError, match="no more"):
            await walk_ahead(walker, many, taking)
    await still_walks(walker, tmp_path)


async def test_cancelled_while_it_takes(walker: Walker, tmp_path: Path, many: Path) -> None:
    """The walk is held back by the full pipe, and ends as well."""
    begun = threading.Event()

    def take(walked: Walked, stop: Stop) -> None:
        next(walked)
        time.sleep(FILLED)
        begun.set()
        while True:
            stop.check()
            time.sleep(0.01)

    task = asyncio.create_task(walk_ahead(walker, many, take))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await still_walks(walker, tmp_path)


async def test_cancelled_before_it_walks(walker: Walker, tmp_path: Path, many: Path) -> None:
    """The process may come to the pipe when nobody reads any more."""
    for _ in range(20):
        task = asyncio.create_task(walk_ahead(walker, many, all_of))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await still_walks(walker, tmp_path)


async def test_a_walk_that_is_killed(pool: ChildPool, walker: Walker, many: Path) -> None:
    """What was taken is not the whole, so it is an error."""

    def take(walked: Walked, stop: Stop) -> int:
        next(walked)
        os.kill(pool.pids[0], signal.SIGKILL)
        return sum(1 for _ in walked)

    with pytest.raises(StorageError) as caught:
        await walk_ahead(walker, many, take)
    assert caught.value.code is ErrorCode.MOVER_FAILED


def test_entries_that_were_cut_off(tmp_path: Path) -> None:
    """Without the end they are not the whole, wherever the cut is; nobody takes them for it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").touch()
    packed = [pack_entry(entry) for entry in walk(tree, xattrs=True)]
    stream = b"".join(len(each).to_bytes(4, "little") + each for each in packed)
    assert len(list(_read(io.BytesIO(stream + bytes(4))))) == 2
    for length in range(len(stream) + 4):
        with pytest.raises(Stopped):
            list(_read(io.BytesIO((stream + bytes(4))[:length])))


def sockets_of(pid: int) -> set[str]:
    """Those that a process holds."""
    held = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            held.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return held


def test_a_pool_beside_another() -> None:
    """Its process holds no socket of the others, so they see the end of their parent."""
    pool = ChildPool.fork(3)
    walker = ChildPool.fork(1, beside=pool)
    try:
        (pid,) = walker.pids
        ours = {f"socket:[{os.fstat(child._socket.fileno()).st_ino}]" for child in pool._children}
        deadline = time.monotonic() + 10
        while ours & sockets_of(pid) and time.monotonic() < deadline:
            time.sleep(0.01)  # it closes them when it comes to run
        assert not ours & sockets_of(pid)
    finally:
        walker.close()
        pool.close()
