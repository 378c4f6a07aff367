"""Every hostile archive of the table ends as the table says, and the world outside is unchanged.

All run twice, inside Landlock and without it: names, order and links are to be safe without the kernel's help.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from activities.dataplane.archiver import Wall
from activities.dataplane.rebuild import verify_from_tail
from activities.dataplane.report import RestoreReport
from activities.dataplane.restore import ArchiveRestore
from activities.dataplane.verify import verify_archive
from codehub_storage.errors import StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import ignore
from tests.harness.canary import Canary, describe
from tests.hostile import own_segments
from tests.hostile.case import Case, Harmless
from tests.hostile.table import CASES, FOREIGN, OWN


def test_the_table_is_long_and_says_each_thing_once() -> None:
    """At least 150 cases of different names, foreign ones and ours."""
    assert len({case.name for case in CASES}) == len(CASES) >= 150
    assert min(len(FOREIGN), len(OWN)) >= 100


@pytest.mark.parametrize("wall", [Wall.DEMANDED, Wall.OFF])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_it_ends_as_the_table_says(tmp_path: Path, case: Case, wall: Wall) -> None:
    """Its error, and no segment that is named in it counts as restored; or exactly the harmless tree."""
    canary, restored = Canary(tmp_path), list[int]()
    end = await end_of(case, canary, wall, restored.append)
    if isinstance(case.expected, Harmless):
        assert isinstance(end, RestoreReport), end
        assert describe(canary.volume) == dict(case.expected.tree)
        end.skipped.pop("owners", None)  # which only an ordinary user cannot set
        assert dict(end.skipped) == dict(case.expected.skipped)
    else:
        assert isinstance(end, StorageError), end
        assert end.code is case.expected, end
        assert end.details.get("segment") not in restored
    assert not canary.changes()
    assert not list(canary.spool.iterdir())


@pytest.mark.parametrize("case", own_segments.SEGMENTS, ids=lambda case: case.name)
async def test_a_segment_is_refused_where_it_is_written(tmp_path: Path, case: Case) -> None:
    """Not only by the comparison at the end: that would catch it too, with everything of it in the volume."""
    restored: list[int] = []
    with pytest.raises(StorageError) as caught:
        await write_it(case, Canary(tmp_path), restored)
    assert caught.value.code is case.expected
    assert caught.value.details.get("segment") not in restored


async def write_it(case: Case, canary: Canary, restored: list[int]) -> None:
    """The steps of a restore up to the last byte of data."""
    store = MemoryStore()
    _, manifest = await case.archive(canary).place(store)
    assert manifest is not None
    archive = ArchiveRestore(canary.volume, store, manifest, wall=Wall.OFF)
    await archive.prepare()
    await archive.restore_segments(1, archive.data_segments, restored=restored.append)


async def end_of(
    case: Case, canary: Canary, wall: Wall, restored: Callable[[int], None]
) -> RestoreReport | StorageError:
    """What a restore of this case comes to; any other error than a typed one fails the test."""
    try:
        return await case.archive(canary).restore(canary, wall, restored)
    except StorageError as error:
        return error


@pytest.mark.parametrize("case", OWN, ids=lambda case: case.name)
async def test_whoever_only_reads_it_gets_a_typed_error_or_nothing(tmp_path: Path, case: Case) -> None:
    """The proof with the manifest, and the proof from the tail alone."""
    canary, store = Canary(tmp_path), MemoryStore()
    info, manifest = await case.archive(canary).place(store)
    assert manifest is not None
    for proof in (
        verify_archive(store, info, manifest, progress=ignore),
        verify_from_tail(store, info, progress=ignore),
    ):
        try:
            await proof
        except StorageError:
            continue
    assert not canary.changes()
