"""The plan as this side asks for it and reads it: its table, and limits that arrive.

How a tree is cut is shown by the archiver's own tests, archiver/src/plan/tests.rs.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from activities.dataplane.plan import MIB, Plan, PlanLimits
from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.archives import TINY, plan_of
from tests.harness.trees import IS_ROOT, make_rich_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    return root


def fill(root: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        (root / name).write_bytes(b"x" * size)


def pieces(plan: Plan) -> list[int]:
    """Bytes of each piece of a large file."""
    return [segment.piece.length for segment in plan.segments() if segment.piece is not None]


async def test_a_new_process_comes_to_the_same_plan(tree: Path) -> None:
    """A mover that takes over must find what its predecessor found."""
    make_rich_tree(tree)
    first, second = await plan_of(tree), await plan_of(tree)
    assert first.folder != second.folder
    assert first.summary == second.summary
    assert list(first.segments()) == list(second.segments())


async def test_the_table_is_what_the_summary_says(tree: Path) -> None:
    """Data first, then the tail, which ends with the root; all entries of the tree are in one of them."""
    make_rich_tree(tree)
    plan = await plan_of(tree)
    segments = list(plan.segments())
    kinds = [segment.kind for segment in segments]
    assert plan.summary.data_segments == sum(kind != "tail" for kind in kinds) > 5
    assert kinds == sorted(kinds, key=["files", "large", "tail"].index)
    assert sum(segment.entries for segment in segments) == plan.summary.entries
    assert segments[-1].last == ""
    assert plan.summary.totals.files == plan.summary.files > 0
    assert sum(segment.raw_bytes for segment in segments if segment.piece) > sum(pieces(plan)) > 0


async def test_an_empty_volume(tree: Path) -> None:
    """It has no data segment, and is still an archive: its root."""
    plan = await plan_of(tree)
    assert (plan.summary.data_segments, plan.summary.entries, plan.summary.file_bytes) == (0, 1, 0)
    assert [(segment.kind, segment.entries) for segment in plan.segments()] == [("tail", 1)]


# ------------------------------------------------------------ limits


async def test_the_size_of_a_segment_arrives(tree: Path) -> None:
    """The change fingerprint says that the tree is the same; only the cut digest says that the plan is not."""
    fill(tree, {f"f{number}": 3000 for number in range(10)})
    first, second = await plan_of(tree), await plan_of(tree, replace(TINY, segment_bytes=20_000))
    assert first.summary.data_segments > second.summary.data_segments
    assert first.summary.change_fingerprint == second.summary.change_fingerprint
    assert first.summary.cut_digest != second.summary.cut_digest


@pytest.mark.parametrize(
    ("large_from", "kind"), [(None, "files"), (3 * MIB + 1, "files"), (3 * MIB, "large"), (1, "large")]
)
async def test_what_is_large_arrives(tree: Path, large_from: int | None, kind: str) -> None:
    """Three quarters of a segment, where nobody says otherwise."""
    fill(tree, {"file": 3 * MIB - (large_from is None)})
    plan = await plan_of(tree, PlanLimits(large_file_bytes=large_from))
    assert next(plan.segments()).kind == kind


async def test_the_most_segments_arrive(tree: Path) -> None:
    """Fewer are allowed than there would be, so they are larger."""
    fill(tree, {"large": 100_000})
    some, few = await plan_of(tree), await plan_of(tree, replace(TINY, max_segments=5))
    assert some.summary.data_segments > 5 >= few.summary.data_segments > 1


async def test_past_the_limit(tree: Path) -> None:
    """Said before a byte is moved, with both numbers."""
    fill(tree, {"large": 100_000})
    with pytest.raises(StorageError) as caught:
        await plan_of(tree, PlanLimits(segment_bytes=1000, max_segment_bytes=2000, max_segments=10))
    assert caught.value.code is ErrorCode.ARCHIVE_TOO_LARGE
    assert caught.value.details["limit_bytes"] == 20_000
    assert caught.value.details["bytes"] >= 100_000


@pytest.mark.field("L8")
async def test_holes_of_nearly_all_that_a_number_holds() -> None:
    """Refused at once: nothing is done in proportion to them, and no sum overflows."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:  # a file system that has such files
        root = Path(name) / "tree"
        root.mkdir()
        for number in range(3):
            with (root / f"f{number}").open("wb") as file:
                file.truncate(9_223_372_036_854_771_711)
        with pytest.raises(StorageError) as caught:
            async with asyncio.timeout(5):
                await plan_of(root, PlanLimits())
    assert caught.value.code is ErrorCode.ARCHIVE_TOO_LARGE


@pytest.mark.skipif(not IS_ROOT, reason="needs root: makes a device")
async def test_whether_devices_go_arrives(tree: Path) -> None:
    """They change the tail alone, so a mover that is told otherwise may not go on with an upload."""
    fill(tree, {"file": 10})
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    without, allowed = await plan_of(tree), await plan_of(tree, replace(TINY, allow_devices=True))
    assert (without.summary.totals.skipped, without.summary.totals.specials) == ({"devices": 1}, 0)
    assert (allowed.summary.totals.skipped, allowed.summary.totals.specials) == ({}, 1)
    assert without.summary.change_fingerprint == allowed.summary.change_fingerprint
    assert without.summary.cut_digest != allowed.summary.cut_digest


@pytest.mark.field("D8")
async def test_whiteouts_go_into_every_archive(tree: Path) -> None:
    """With all their names, whether devices are allowed or not, since they give access to nothing."""
    os.mknod(tree / "gone", 0o20000, os.makedev(0, 0))
    os.link(tree / "gone", tree / "zz-gone")
    plan, allowed = await plan_of(tree), await plan_of(tree, PlanLimits(allow_devices=True))
    assert plan.summary.totals.skipped == {}
    assert (plan.summary.totals.specials, plan.summary.totals.hard_links) == (1, 1)
    assert plan.summary.content_fingerprint == allowed.summary.content_fingerprint
