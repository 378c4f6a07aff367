"""A file that becomes something else, at each moment of its archive: ``VolumeChanged``, naming it, and no archive."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.dataplane.copy import Place, UploadRef, copy_segments, copy_tail
from activities.dataplane.plan import MIB, Plan, PlanLimits
from activities.dataplane.segments import SegmentRecord
from activities.dataplane.tail import Origin
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import SMALL_PARTS, ignore, plan_of
from tests.harness.moments import at_its_first_read
from tests.harness.trees import IS_ROOT

KEY = "ws1/home.tar.gz"
ORIGIN = Origin(archive_id="a-1", workspace_id="ws1")
LIMITS = PlanLimits(segment_bytes=12 * MIB, large_file_bytes=14 * MIB)
SIZES = {"a file among others": 12 * MIB, "a file of its own": 24 * MIB}
"""So long that most of them is still to be read when the first bytes were."""

NAME = "folder/victim"
Change = Callable[[Path], object]


def _grow(victim: Path) -> None:
    with victim.open("ab") as file:
        file.write(b"more")


def _rewrite(victim: Path) -> None:
    """As long as before, and with its old times."""
    times = victim.stat()
    with victim.open("r+b") as file:
        file.write(b"other")
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))


def _replace(victim: Path) -> None:
    """By the same content with the same times, as an editor does that saves."""
    shutil.copy2(victim, victim.with_name("saved"))
    victim.with_name("saved").replace(victim)


def _become(make: Change) -> Change:
    def change(victim: Path) -> None:
        (victim.rmdir if victim.is_dir() else victim.unlink)()
        make(victim)

    return change


def _move_the_folder_away(victim: Path) -> None:
    victim.parent.rename(victim.parents[2] / "outside")


def _lead_elsewhere(victim: Path) -> None:
    _move_the_folder_away(victim)
    victim.parent.symlink_to(victim.parents[2] / "outside")


def _become_a_file(victim: Path) -> None:
    shutil.rmtree(victim.parent)
    victim.parent.write_bytes(b"was a folder")


CHANGES: dict[str, Change] = {
    "shrinks": lambda victim: os.truncate(victim, 10),
    "is emptied": lambda victim: os.truncate(victim, 0),
    "grows": _grow,
    "is rewritten": _rewrite,
    "vanishes": lambda victim: victim.unlink(),
    "is replaced": _replace,
    "becomes a symbolic link": _become(lambda victim: victim.symlink_to("zz")),
    "becomes a folder": _become(lambda victim: victim.mkdir()),
    "becomes a FIFO": _become(lambda victim: os.mkfifo(victim)),
    "gets another mode": lambda victim: victim.chmod(0o600),
    "gets an attribute": lambda victim: os.setxattr(victim, "user.new", b"1"),
    "gets another name": lambda victim: os.link(victim, victim.parents[1] / "zz"),
    "goes with its folder": _move_the_folder_away,
    "has a folder that becomes a link": _lead_elsewhere,
    "has a folder that becomes a file": _become_a_file,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    (root / "before").write_bytes(b"before")
    (root / "folder/zz").write_bytes(b"behind")
    return root


async def archive(plan: Plan, after_reading: Callable[[], object] = lambda: None) -> StorageError:
    """The error that it ends with. ``after_reading`` is called between the last read and the second walk."""
    store = MemoryStore(min_part_bytes=0)
    with pytest.raises(StorageError) as caught:
        await _copy(plan, store, after_reading)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert await store.head(KEY) is None
    return caught.value


async def _copy(plan: Plan, store: MemoryStore, after_reading: Callable[[], object]) -> None:
    upload = UploadRef(KEY, await store.create_upload(KEY, {}), "a-1")
    records, place, at_end = list[SegmentRecord](), Place(), plan.summary.data_segments == 0
    while not at_end:  # with parts this small nothing of the data is left to the tail
        batch = await copy_segments(
            plan, store, upload, place, done=[], accepted=ignore, progress=ignore, means=SMALL_PARTS
        )
        records, place, at_end = records + batch.records, batch.next, batch.at_end
    assert place.segment > plan.summary.data_segments
    after_reading()
    await copy_tail(plan, store, upload, place, before=records, origin=ORIGIN, progress=ignore, means=SMALL_PARTS)


def assert_names_it(error: StorageError, how: str) -> None:
    """Or its folder, or what else was in there, where that is what changed."""
    is_of_folder = how in (
        "goes with its folder",
        "has a folder that becomes a link",
        "has a folder that becomes a file",
    )
    assert error.details["path"] in ((NAME, "folder", "folder/zz") if is_of_folder else (NAME,)), error
    assert error.details["path"] in error.message


@pytest.fixture(params=SIZES)
def victim(tree: Path, request: pytest.FixtureRequest) -> Path:
    """The file, as long as it takes to be read by one or the other."""
    path = tree / NAME
    path.write_bytes(os.urandom(SIZES[request.param]))
    return path


@pytest.mark.parametrize("how", CHANGES)
async def test_between_the_walk_and_its_reading(tree: Path, victim: Path, how: str) -> None:
    """What is read is not what was planned."""
    plan = await plan_of(tree, LIMITS)
    CHANGES[how](victim)
    assert_names_it(await archive(plan), how)


@pytest.mark.parametrize("how", CHANGES)
async def test_in_the_middle_of_its_reading(tree: Path, victim: Path, how: str) -> None:
    """It was as planned when it was opened, and its first bytes were read."""
    plan = await plan_of(tree, LIMITS)
    with at_its_first_read(victim, lambda: CHANGES[how](victim)) as done:
        error = await archive(plan)
    assert done.is_set()
    assert_names_it(error, how)


@pytest.mark.parametrize("how", CHANGES)
async def test_between_its_reading_and_the_second_walk(tree: Path, victim: Path, how: str) -> None:
    """All bytes are as planned; only the second walk can tell, and it tells which file it was."""
    plan = await plan_of(tree, LIMITS)
    assert_names_it(await archive(plan, lambda: CHANGES[how](victim)), how)


OTHERS: dict[str, tuple[Change, str]] = {
    "a new file": (lambda root: (root / "new").touch(), "new"),
    "a new file in a folder": (lambda root: (root / "folder/a").touch(), "folder/a"),
    "a new folder": (lambda root: (root / "empty/inner").mkdir(), "empty/inner"),
    "a folder goes": (lambda root: (root / "empty").rmdir(), "empty"),
    "a folder's mode": (lambda root: (root / "empty").chmod(0o500), "empty"),
    "a folder becomes a file": (lambda root: _become(lambda path: path.touch())(root / "empty"), "empty"),
    "a folder is renamed": (lambda root: (root / "empty").rename(root / "renamed"), "empty"),
    "the root's mode": (lambda root: root.chmod(0o700), "."),
    "a link goes": (lambda root: (root / "link").unlink(), "link"),
    "a link leads elsewhere": (lambda root: _lead(root / "link", "elsewhere"), "link"),
    "a new link": (lambda root: (root / "a link").symlink_to("x"), "a link"),
    "a FIFO goes": (lambda root: (root / "pipe").unlink(), "pipe"),
    "a further name goes": (lambda root: (root / "before too").unlink(), "before"),
    "a new socket": (lambda root: os.mknod(root / "folder/new socket", 0o140600), "folder"),
    "a socket goes": (lambda root: (root / "socket").unlink(), "."),
}


def _lead(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


@pytest.mark.parametrize("what", OTHERS)
async def test_any_other_change_that_only_the_second_walk_sees(tree: Path, what: str) -> None:
    """The name that came, went or changed; its folder only where nothing else can be named."""
    (tree / "empty").mkdir()
    (tree / "link").symlink_to("before")
    os.mkfifo(tree / "pipe")
    os.mknod(tree / "socket", 0o140600)
    os.link(tree / "socket", tree / "socket too")
    if IS_ROOT:
        os.mknod(tree / "device", 0o20600, os.makedev(1, 3))
        os.link(tree / "device", tree / "device too")
    os.link(tree / "before", tree / "before too")
    plan = await plan_of(tree, LIMITS)
    change, path = OTHERS[what]
    error = await archive(plan, lambda: change(tree))
    assert error.details["path"] == path


async def test_what_cannot_be_named(tree: Path) -> None:
    """A socket that no archive holds got another mode: said without a name, and no archive either."""
    os.mknod(tree / "socket", 0o140600)
    plan = await plan_of(tree, LIMITS)
    error = await archive(plan, lambda: (tree / "socket").chmod(0o640))
    assert error.details == {}
