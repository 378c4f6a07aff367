"""Each wall alone: what it holds while the others are down, and what it is known not to hold.

The walls around one of our archives: (1) the gate lets only clean regular files through; (2) no link exists while
writers run; (3) ``beneath``'s openat2; (4) Landlock. Around a foreign one: names, links last, openat2, Landlock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from activities.dataplane import beneath, dialects, foreign
from activities.dataplane.confine import Wall
from activities.dataplane.entries import FileType
from activities.dataplane.gate import Gate
from activities.dataplane.restore import ArchiveRestore
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import ignore
from tests.harness.canary import Canary
from tests.harness.trees import IS_ROOT
from tests.hostile import foreign_links, foreign_names, own_segments
from tests.hostile.case import Case
from tests.hostile.forging import Forged, forge, honest, tail

OUTWARD = [*foreign_names.CASES, *foreign_links.CASES]
LONG = b"/".join([b"a", *[b"n" * 250] * 17])


@pytest.fixture
def no_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the archive is written, whatever it is called."""
    monkeypatch.setattr(Gate, "admit_next", lambda self, entry, scanner: None)
    monkeypatch.setattr(Gate, "finish", lambda self: None)


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of foreign archives are taken as they are."""
    monkeypatch.setattr(dialects, "normal_path", lambda name: name.rstrip(b"/"))


@pytest.fixture
def links_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links of foreign archives are made when they come, before what is written behind them."""
    ordinary = foreign._Extraction._member

    def member(self: Any, found: dialects.Member) -> None:
        if found.entry.type in (FileType.SYMLINK, FileType.HARD_LINK):
            self._link(found.entry)
        else:
            ordinary(self, found)

    monkeypatch.setattr(foreign._Extraction, "_member", member)


@pytest.fixture
def no_openat2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are opened as any program would, through links and parents."""
    monkeypatch.setattr(beneath, "open_beneath", lambda at, path, flags: os.open(path or b".", flags, dir_fd=at))
    monkeypatch.setattr(beneath, "clean_components", lambda path: path.split(b"/"))


async def attempt(case: Case, canary: Canary, wall: Wall) -> None:
    """Restore; how it ends does not matter here, since walls are down that would have ended it otherwise."""
    try:
        await case.archive(canary).restore(canary, wall, ignore)
    except (StorageError, ValueError):
        return


@pytest.mark.usefixtures("no_gate", "no_openat2")
@pytest.mark.parametrize("case", own_segments.SEGMENTS, ids=lambda case: case.name)
async def test_landlock_without_the_gate(tmp_path: Path, case: Case) -> None:
    """Whatever the writers are given, inside Landlock they change nothing outside."""
    canary = Canary(tmp_path)
    await attempt(case, canary, Wall.REQUIRED)
    assert not canary.changes()


@pytest.mark.usefixtures("no_gate")
@pytest.mark.parametrize("case", own_segments.SEGMENTS, ids=lambda case: case.name)
async def test_beneath_without_the_gate(tmp_path: Path, case: Case) -> None:
    """Whatever the writers are given, their file operations stay below the root."""
    canary = Canary(tmp_path)
    await attempt(case, canary, Wall.OFF)
    assert not canary.changes()


async def planted(canary: Canary, wall: Wall, segment: Forged, links: dict[str, str]) -> None:
    """Restore one segment while links stand in the volume; then the error that it ended with."""
    store = MemoryStore()
    archive = ArchiveRestore(canary.volume, store, await forge(store, segment, tail()), wall=wall)
    await archive.prepare()
    for name, target in links.items():
        (canary.volume / name).symlink_to(target)
    await archive.restore_segments(1, 1)


THROUGH = {"a": "../open"}


@pytest.mark.usefixtures("no_openat2")
@pytest.mark.parametrize("name", [b"a/new", b"a/victim"])
async def test_landlock_with_links_under_the_writers(tmp_path: Path, name: bytes) -> None:
    """A clean name that leads through a link makes, replaces and changes nothing outside."""
    canary = Canary(tmp_path)
    with pytest.raises(StorageError) as caught:
        await planted(canary, Wall.REQUIRED, honest(name), THROUGH)
    assert caught.value.code is ErrorCode.ACCESS_DENIED
    assert not canary.changes()


@pytest.mark.usefixtures("no_openat2")
async def test_the_gate_alone_does_not_hold_against_links(tmp_path: Path) -> None:
    """Or the tests of the other walls would prove nothing: without them a link is followed to where it leads."""
    canary = Canary(tmp_path)
    await planted(canary, Wall.OFF, honest(b"a/new"), THROUGH)
    assert [path.rpartition(b"/")[2] for path in canary.losses()] == [b"new"]


@pytest.mark.parametrize("kind", ["small", "large", "long"])
async def test_beneath_with_links_under_the_writers(tmp_path: Path, kind: str) -> None:
    """None is followed, whatever is written: ArchiveCorrupt, without Landlock."""
    canary = Canary(tmp_path)
    segments = {"small": honest(b"a/new"), "long": honest(LONG), "large": own_segments.large_file(b"a/new")}
    with pytest.raises(StorageError) as caught:
        await planted(canary, Wall.OFF, segments[kind], THROUGH)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
    assert not canary.changes()


@pytest.mark.usefixtures("no_names")
@pytest.mark.parametrize("case", OUTWARD, ids=lambda case: case.name)
async def test_beneath_without_the_check_of_names(tmp_path: Path, case: Case) -> None:
    """Unclean names get as far as the file operations, which refuse them."""
    canary = Canary(tmp_path)
    await attempt(case, canary, Wall.OFF)
    assert not canary.changes()


@pytest.mark.usefixtures("links_first")
@pytest.mark.parametrize("case", foreign_links.CASES, ids=lambda case: case.name)
async def test_beneath_with_links_first(tmp_path: Path, case: Case) -> None:
    """Links that stand before files are written are not followed."""
    canary = Canary(tmp_path)
    await attempt(case, canary, Wall.OFF)
    assert not canary.changes()


@pytest.mark.usefixtures("no_names", "links_first", "no_openat2")
@pytest.mark.parametrize("case", OUTWARD, ids=lambda case: case.name)
async def test_landlock_without_any_other_wall(tmp_path: Path, case: Case) -> None:
    """Nothing outside is made, removed, replaced or written; metadata it does not hold, as documented."""
    canary = Canary(tmp_path)
    await attempt(case, canary, Wall.REQUIRED)
    assert not canary.losses()


@pytest.mark.skipif(not IS_ROOT, reason="the harm would be that an ordinary user cannot look any more")
@pytest.mark.usefixtures("no_names", "links_first", "no_openat2")
async def test_without_any_wall_these_cases_do_harm(tmp_path: Path) -> None:
    """Or the tests above would prove nothing."""
    harmed = []
    relative = [case for case in OUTWARD if case.name.startswith(("name: parent", "link: written through"))]
    for number, case in enumerate(relative):
        (tmp_path / str(number)).mkdir()
        canary = Canary(tmp_path / str(number))
        await attempt(case, canary, Wall.OFF)
        if canary.losses():
            harmed.append(case.name)
    assert len(harmed) >= 8, harmed
