"""Volumes that are hostile to whoever reads them: links out, things that block, things that change under the walk.

Beside each volume stands something that must not be read: its content or its names in an archive would be a leak.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from activities.dataplane.archiver import Wall
from activities.dataplane.copy import Place, UploadRef, copy_segments, copy_tail
from activities.dataplane.plan import Plan, PlanLimits
from activities.dataplane.restore import ArchiveRestore
from activities.dataplane.tail import Origin
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import SMALL_PARTS, ignore, make_archive, plan_of
from tests.harness.canary import Canary
from tests.harness.restores import restore_whole
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


def members(raw: bytes) -> dict[bytes, tarfile.TarInfo]:
    """What is in an archive, by name, as Python reads it. The root is ``.``."""
    with tarfile.open(fileobj=io.BytesIO(raw)) as read:
        return {os.fsencode(member.name): member for member in read}


async def test_links_out_are_carried_and_not_followed(canary: Canary) -> None:
    """To files, folders and parents, absolute and relative, and to a FIFO that would block."""
    targets = [canary.victim, b"../victim", b"../open", b"..", b"/", b"../fifo", b"."]
    for number, target in enumerate(targets):
        os.symlink(target, os.fsencode(canary.volume / str(number)))
    raw = await raw_archive(canary)
    found = members(raw)
    assert found.pop(b".").isdir()
    assert [os.fsencode(found[b"%d" % number].linkname) for number in range(len(targets))] == targets
    assert len(found) == len(targets)
    assert all(member.issym() for member in found.values())
    assert SECRET not in raw
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
    await restore_whole(ArchiveRestore(restored, store, made.manifest, wall=Wall.DEMANDED))
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
    """The last step of an archive: the data segments, the second walk, the tail."""
    store = MemoryStore(min_part_bytes=0)
    upload = UploadRef(KEY, await store.create_upload(KEY, {}), "a-1")
    origin = Origin(archive_id="a-1")
    await copy_tail(plan, store, upload, Place(), before=[], origin=origin, progress=ignore, means=SMALL_PARTS)


async def data_alone(plan: Plan) -> None:
    """The step before it: what a second walk would notice is not noticed by one."""
    store = MemoryStore(min_part_bytes=0)
    upload = UploadRef(KEY, await store.create_upload(KEY, {}), "a-1")
    await copy_segments(plan, store, upload, Place(), done=[], accepted=ignore, progress=ignore, means=SMALL_PARTS)


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
        await data_alone(plan)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert not canary.changes()


DEPTH = 300
"""More folders than the walk keeps open."""


async def test_a_folder_that_is_renamed_out_of_the_tree_under_the_walk(canary: Canary) -> None:
    """So deep that the walk has let go of the outer folders: it does not go on where the way back up leads."""
    (canary.volume / "/".join("d" * DEPTH)).mkdir(parents=True)
    (canary.volume / "z").write_bytes(b"")
    inside = {b".", b"z", *(b"/".join([b"d"] * depth) for depth in range(1, DEPTH + 1))}
    ends = set()
    with moving(canary.volume / "d", canary.volume.parent / "moved"):
        for _ in range(ROUNDS):
            ends.add(await end_of_archive(canary, inside))
    assert ends <= {None, ErrorCode.VOLUME_CHANGED}


async def test_a_folder_that_is_renamed_out_while_it_is_open(canary: Canary) -> None:
    """Whatever the walk still holds of it: what is in an archive was in the volume."""
    (canary.volume / "d/e").mkdir(parents=True)
    ends = set()
    with moving(canary.volume / "d", canary.volume.parent / "moved"):
        for _ in range(ROUNDS):
            ends.add(await end_of_archive(canary, {b".", b"d", b"d/e"}))
    assert ends <= {None, ErrorCode.VOLUME_CHANGED}


ROUNDS = 60


async def end_of_archive(canary: Canary, may_be: set[bytes]) -> ErrorCode | None:
    """The code that it ends with; what is in it, where there is one, may be in it."""
    try:
        raw = await raw_archive(canary)
    except StorageError as error:
        return error.code
    finally:
        for left in canary.spool.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    assert members(raw).keys() <= may_be
    assert SECRET not in raw
    return None


@contextmanager
def again_and_again(step: Callable[[], object]) -> Iterator[None]:
    """Meanwhile a step is done over and over, as fast as can be."""
    ends = threading.Event()

    def work() -> None:
        while not ends.is_set():
            step()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def moving(folder: Path, elsewhere: Path) -> AbstractContextManager[None]:
    """Meanwhile a folder is now here, now there."""

    def there_and_back() -> None:
        folder.rename(elsewhere)
        time.sleep(random.random() / 300)
        elsewhere.rename(folder)
        time.sleep(random.random() / 100)

    return again_and_again(there_and_back)


SWAPS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "file and link out": (lambda path: path.write_bytes(b""), lambda path: path.symlink_to("../../open")),
    "folder and link out": (lambda path: path.mkdir(), lambda path: path.symlink_to("../../open")),
    "FIFO and file": (os.mkfifo, lambda path: path.write_bytes(b"")),
}


@pytest.mark.parametrize("what", SWAPS)
async def test_names_that_change_all_the_time(canary: Canary, what: str) -> None:
    """An archive comes to its end or to VolumeChanged, and never to what is outside."""
    folder = canary.volume / "d"
    folder.mkdir()
    names, ends = (folder / "one", folder / "other"), set()
    for make, name in zip(SWAPS[what], names, strict=True):
        make(name)

    def swap() -> None:
        for name in names:
            name.rename(folder / "x")
            (folder / "x").rename(name)

    with again_and_again(swap):
        for _ in range(ROUNDS):
            ends.add(await end_of_archive(canary, {b".", b"d", b"d/x", b"d/one", b"d/other"}))
    assert ends <= {None, ErrorCode.VOLUME_CHANGED}
