"""Volumes that are hostile to whoever reads them: links out, things that block, things that change under the walk.

Beside each volume stands something that must not be read: its content or its names in an archive would be a leak.
"""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from activities.dataplane.confine import Wall
from activities.dataplane.copy import UploadRef, copy_tail
from activities.dataplane.entries import FileType
from activities.dataplane.pack import pack_segment
from activities.dataplane.plan import Plan, PlanLimits
from activities.dataplane.restore import ArchiveRestore, restore_archive
from activities.dataplane.tail import Origin
from activities.dataplane.threads import run_blocking
from activities.dataplane.walk import MAX_OPEN_FOLDERS, change_fingerprint, walk
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import ignore, make_archive, plan_of
from tests.harness.canary import Canary
from tests.harness.trees import snapshot

KEY = "ws1/home.tar.gz"
SECRET = b"untouched"
"""What stands in every victim of the canary's world."""


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    """The volume is to be read this time."""
    return Canary(tmp_path)


async def raw_archive(canary: Canary) -> bytes:
    """All raw bytes of an archive of the volume."""
    store = MemoryStore(min_part_bytes=0)
    await make_archive(canary.volume, store, spool=canary.spool)
    found = await store.get(KEY)
    assert found is not None
    return gzip.decompress(found[0])


async def test_links_out_are_carried_and_not_followed(canary: Canary) -> None:
    """To files, folders and parents, absolute and relative, and to a FIFO that would block."""
    targets = [canary.victim, b"../victim", b"../open", b"..", b"/", b"../fifo", b"."]
    for number, target in enumerate(targets):
        os.symlink(target, os.fsencode(canary.volume / str(number)))
    entries = list(walk(canary.volume, xattrs=True))
    assert [entry.target for entry in entries[1:]] == targets
    assert {entry.type for entry in entries[1:]} == {FileType.SYMLINK}
    assert SECRET not in await raw_archive(canary)
    assert not canary.changes()


OPTIONS = (
    *(b"--checkpoint=1", b"--checkpoint-action=exec=touch pwned", b"--to-command=touch pwned", b"-T", b"--", b"-"),
    *(
        b"-I touch pwned",
        b"--files-from=list",
        b"-C",
        b"--exclude=*",
        b"@list",
        b"list",
        b"*",
        b"?",
        b"[a-z]",
        b"!x",
        b"~",
    ),
    *(b"#list", b"\\n", b"\\101", b"a\nb", b"a\n--checkpoint=1", b"$(touch pwned)", b"`touch pwned`", b";x", b"host:x"),
)


async def test_names_that_look_like_options_are_names(canary: Canary, tmp_path: Path) -> None:
    """To tar, to a shell, to a list of names: they come back, and nothing was done because of them."""
    for name in OPTIONS:
        (canary.volume / os.fsdecode(name)).write_bytes(b"../victim\n" + name)
    (canary.volume / "-d").mkdir()
    (canary.volume / "-d/--checkpoint-action=exec=sh").write_bytes(b"")
    (canary.volume / "-l").symlink_to("--help")
    restored = tmp_path / "restored"
    restored.mkdir()
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(canary.volume, store, spool=canary.spool)
    await restore_archive(ArchiveRestore(restored, store, made.manifest, wall=Wall.REQUIRED))
    assert snapshot(restored) == snapshot(canary.volume)
    assert not list(tmp_path.rglob("pwned"))
    assert not canary.changes()


REPLACED: dict[str, Callable[[Path], object]] = {
    "link out": lambda path: path.symlink_to("../victim"),
    "link to a FIFO": lambda path: path.symlink_to("../fifo"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "FIFO": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "other file": lambda path: path.write_bytes(SECRET),
}


@pytest.mark.parametrize("size", [len(SECRET), 50_000], ids=["small", "large"])
@pytest.mark.parametrize("how", REPLACED)
async def test_a_file_that_was_replaced_after_the_walk(canary: Canary, how: str, size: int) -> None:
    """VolumeChanged, whoever reads it, tar or our own code; a FIFO holds nobody up."""
    file = canary.volume / "file"
    file.write_bytes(bytes(size))
    plan = await plan_of(canary.volume, PlanLimits(large_file_bytes=10_000), spool=canary.spool)
    file.unlink()
    REPLACED[how](file)
    with pytest.raises(StorageError) as caught:
        await finish(plan)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert not canary.changes()


async def finish(plan: Plan) -> None:
    """The last step of an archive: the data segment (these trees have but one), the second walk, the tail."""
    store = MemoryStore(min_part_bytes=0)
    upload = UploadRef(KEY, await store.create_upload(KEY, {}), "a-1")
    await copy_tail(plan, store, upload, records=[], origin=Origin(archive_id="a-1"), progress=ignore)


async def test_a_folder_that_became_a_link_to_its_like_outside(canary: Canary) -> None:
    """Nothing is read through it, although there is a file of the same name, size, mode and times."""
    inside, outside = canary.volume / "d", canary.volume.parent / "open"
    inside.mkdir()
    (inside / "victim").write_bytes(b"-" * len(SECRET))
    times = os.stat(outside / "victim")
    os.utime(inside / "victim", ns=(times.st_atime_ns, times.st_mtime_ns))
    plan = await plan_of(canary.volume, PlanLimits(), spool=canary.spool)
    inside.rename(canary.volume / "elsewhere")
    inside.symlink_to("../open")
    with pytest.raises(StorageError) as caught:
        await run_blocking(lambda stop: ignore(pack_segment(plan, plan.segment(1), stop, min_bytes=0)))
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert not canary.changes()


def test_a_folder_that_is_renamed_out_of_the_tree_under_the_walk(canary: Canary) -> None:
    """So deep that the walk has let go of the outer folders: it does not go on where the way back up leads."""
    depth = MAX_OPEN_FOLDERS * 2
    (canary.volume / "/".join("d" * depth)).mkdir(parents=True)
    (canary.volume / "z").write_bytes(b"")
    steps = walk(canary.volume, xattrs=True)
    for _ in range(depth + 1):
        next(steps)
    (canary.volume / "d").rename(canary.volume.parent / "moved")
    with pytest.raises(StorageError) as caught:
        list(steps)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    (canary.volume.parent / "moved").rename(canary.volume / "d")


async def test_a_folder_that_is_renamed_out_while_it_is_open(canary: Canary) -> None:
    """The walk still holds it and ends in there; but it is not the tree that was planned."""
    (canary.volume / "d/e").mkdir(parents=True)
    before = await change_fingerprint(canary.volume)
    steps = walk(canary.volume, xattrs=True)
    assert [next(steps).path for _ in range(3)] == [b"", b"d", b"d/e"]
    (canary.volume / "d").rename(canary.volume.parent / "moved")
    assert b"victim" not in {entry.path.rpartition(b"/")[2] for entry in steps}
    (canary.volume.parent / "moved").rename(canary.volume / "d")
    assert await change_fingerprint(canary.volume) != before


SWAPS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "file and link out": (lambda path: path.write_bytes(b""), lambda path: path.symlink_to("../../open")),
    "folder and link out": (lambda path: path.mkdir(), lambda path: path.symlink_to("../../open")),
    "FIFO and file": (os.mkfifo, lambda path: path.write_bytes(b"")),
}


@contextmanager
def swapping(folder: Path, one: Callable[[Path], object], other: Callable[[Path], object]) -> Iterator[None]:
    """Meanwhile a name in ``folder`` is now this, now that, as fast as can be."""
    ends, names = threading.Event(), (folder / "one", folder / "other")
    one(names[0])
    other(names[1])

    def swap() -> None:
        while not ends.is_set():
            for name in names:
                name.rename(folder / "x")
                (folder / "x").rename(name)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


@pytest.mark.parametrize("what", SWAPS)
def test_names_that_change_all_the_time(canary: Canary, what: str) -> None:
    """A walk comes to its end or to VolumeChanged, and never to what is outside."""
    folder = canary.volume / "d"
    folder.mkdir()
    ends = set()
    with swapping(folder, *SWAPS[what]):
        for _ in range(2000):
            try:
                found = {entry.path for entry in walk(canary.volume, xattrs=True)}
            except StorageError as error:
                ends.add(error.code)
            else:
                assert found <= {b"", b"d", b"d/x", b"d/one", b"d/other"}
    assert ends <= {ErrorCode.VOLUME_CHANGED}
