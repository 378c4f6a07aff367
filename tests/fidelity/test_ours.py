"""Each of our cells in docs/fidelity.md: archived, restored, and compared by tools that are not ours."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from activities.dataplane.archiver import Wall
from activities.dataplane.plan import PlanLimits
from activities.dataplane.report import RestoreReport
from activities.dataplane.restore import ArchiveRestore
from activities.dataplane.verify import verify_archive
from tests.fakes.memory_store import MemoryStore
from tests.fidelity.case import Case
from tests.fidelity.cases import CASES
from tests.fidelity.looking import ASPECTS, differences, look_at, rsync_would, without
from tests.fidelity.names import sizes_around
from tests.harness.archives import TINY, Made, ignore, make_archive
from tests.harness.restores import restore_whole
from tests.harness.trees import IS_ROOT

pytestmark = [
    pytest.mark.tool("find", "getfattr", "getfacl", "filefrag", "rsync"),
    pytest.mark.skipif(not IS_ROOT, reason="needs root: owners, devices, privileged attributes"),
]


class Round:
    """A tree, and the empty folder that an archive of it is restored into."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.target = folder / "target"
        self.source.mkdir(parents=True)
        self.target.mkdir()

    async def trip(self, limits: PlanLimits) -> tuple[Made, RestoreReport]:
        """Archive it, prove it, restore it."""
        store = MemoryStore(min_part_bytes=0)
        made = await make_archive(self.source, store, limits=limits)
        await verify_archive(store, made.info, made.manifest, progress=ignore)
        return made, await restore_whole(ArchiveRestore(self.target, store, made.manifest, wall=Wall.DEMANDED))


@pytest.fixture
def around(tmp_path: Path) -> Round:
    """Fresh folders."""
    return Round(tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
async def test_comes_back(around: Round, case: Case) -> None:
    """Every aspect of every path is as it was, but for what the row says; what is left out is counted."""
    case.make(os.fsencode(around.source))
    before = look_at(around.source)
    assert all(before[aspect] for aspect in case.aspects)
    made, report = await around.trip(case.limits)
    after = look_at(around.target)
    assert differences(before, look_at(around.source)) == []
    kept = tuple(aspect for aspect in ASPECTS if aspect != case.lost)
    assert differences(without(before, *case.absent), after, kept) == []
    if case.lost is not None:
        assert differences(before, after, (case.lost,)) != []
    if not case.beyond_path_max:
        assert rsync_would(around.source, around.target, *case.absent) == ""
    assert made.manifest.totals.skipped == case.skipped
    assert report.skipped == {}


async def test_files_of_any_length_around_a_cut(around: Round) -> None:
    """With cuts so small that all lengths around one, two and three pieces, and around blocks, are met."""
    sizes_around(os.fsencode(around.source), 512, 1024, 8192, 10_000, 16_384, 20_000, 24_576)
    for limits in (TINY, replace(TINY, large_file_bytes=8192), replace(TINY, large_file_bytes=1)):
        target = Round(around.source.parent / f"cut-{limits.large_file_bytes}")
        target.source = around.source
        await target.trip(limits)
        assert rsync_would(around.source, target.target) == ""
