"""The plan: same tree, same cuts; what is cut where, and what is refused."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from activities.dataplane.entries import FileType
from activities.dataplane.plan import MIB, Plan, PlanLimits
from activities.dataplane.segments import SegmentKind
from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.archives import TINY, plan_of
from tests.harness.trees import IS_ROOT, make_rich_tree

LIMITS = PlanLimits(segment_bytes=20_000, large_file_bytes=15_000, min_part_bytes=0)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    return root


def fill(root: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * size)


def paths(plan: Plan) -> list[list[bytes]]:
    return [[spooled.entry.path for spooled in plan.entries(segment)] for segment in plan.segments]


async def test_a_new_process_comes_to_the_same_plan(tree: Path) -> None:
    """A mover that takes over must find what its predecessor found."""
    make_rich_tree(tree)
    first, second = await plan_of(tree), await plan_of(tree)
    assert first.summary == second.summary
    assert first.segments == second.segments
    assert first.summary.data_segments == len(first.segments) > 5


async def test_other_cuts_have_another_digest(tree: Path) -> None:
    """The change fingerprint says that the tree is the same; only the cut digest says that the plan is not."""
    make_rich_tree(tree)
    first, second = await plan_of(tree), await plan_of(tree, PlanLimits(segment_bytes=5000, min_part_bytes=0))
    assert first.summary.change_fingerprint == second.summary.change_fingerprint
    assert first.summary.cut_digest != second.summary.cut_digest


@pytest.mark.skipif(not IS_ROOT, reason="needs root: makes a device")
async def test_what_is_left_out_is_in_the_digest(tree: Path) -> None:
    """Devices change the tail alone; so a mover that is told otherwise may not go on with an upload."""
    fill(tree, {"file": 10})
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    without, allowed = await plan_of(tree), await plan_of(tree, replace(TINY, allow_devices=True))
    assert without.segments == allowed.segments
    assert without.summary.change_fingerprint == allowed.summary.change_fingerprint
    assert without.summary.cut_digest != allowed.summary.cut_digest


async def test_segments_are_runs_in_archive_order(tree: Path) -> None:
    """Small files in order, then the pieces of large ones; every file once."""
    rng = random.Random(5)
    fill(tree, {f"d{rng.randrange(9)}/f{number}": rng.randrange(1, 18_000) for number in range(120)})
    plan = await plan_of(tree, LIMITS)
    kinds = [segment.kind for segment in plan.segments]
    assert kinds == sorted(kinds)
    small = [
        path for segment, names in zip(plan.segments, paths(plan), strict=True) for path in names if not segment.cut
    ]
    assert small == sorted(small, key=lambda path: path.split(b"/"))
    large = {names[0] for segment, names in zip(plan.segments, paths(plan), strict=True) if segment.cut}
    assert len(small) + len(large) == 120
    assert [segment.number for segment in plan.segments] == list(range(1, len(plan.segments) + 1))
    for segment, names in zip(plan.segments, paths(plan), strict=True):
        assert (segment.first, segment.last) == (names[0], names[-1])


async def test_segments_end_between_half_and_five_quarters(tree: Path) -> None:
    """Neither too short for a part, but for the last, nor too long for memory."""
    rng = random.Random(7)
    fill(tree, {f"f{number:04}": rng.randrange(1, 15_000) for number in range(200)})
    plan = await plan_of(tree, LIMITS)
    weights = [segment.weight for segment in plan.segments]
    assert min(weights[:-1]) >= 10_000
    assert max(weights) <= 10_000 + 15_000 + 2048


async def test_larger_trees_get_larger_segments(tree: Path) -> None:
    """The number of parts is bounded, so their size grows."""
    fill(tree, {f"f{number:04}": 9000 for number in range(50)} | {"large": 400_000})
    plan = await plan_of(tree, PlanLimits(segment_bytes=10_000, max_segments=12, min_part_bytes=0))
    assert 6 < len(plan.segments) <= 12
    assert plan.limits.segment_bytes > 10_000


async def test_past_the_limit(tree: Path) -> None:
    """Said before a byte is moved, with both numbers."""
    fill(tree, {"large": 100_000})
    with pytest.raises(StorageError) as caught:
        await plan_of(tree, PlanLimits(segment_bytes=1000, max_segment_bytes=2000, max_segments=10))
    assert caught.value.code is ErrorCode.ARCHIVE_TOO_LARGE
    assert caught.value.details["limit_bytes"] == 20_000


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20_000 * MIB)
        file.seek(9_000 * MIB)
        file.write(b"island")


async def test_a_hole_costs_no_segment(tree: Path) -> None:
    """Twenty sparse gigabytes are a few pieces, not hundreds; the limit of size counts data."""
    make_sparse(tree / "sparse")
    plan = await plan_of(tree, PlanLimits())
    assert len(plan.segments) <= 2
    assert sum(length for _, length in plan.holes[plan.segments[0].start]) > 19_999 * MIB
    cuts = [segment.cut for segment in plan.segments if segment.cut]
    assert sum(cut.length for cut in cuts) == 20_000 * MIB


async def test_what_is_left_out_is_counted(tree: Path) -> None:
    """Sockets always, devices unless they are allowed; neither is in the content, both in the change fingerprint."""
    make_rich_tree(tree)
    skipped = {"sockets": 1}
    if IS_ROOT:
        os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
        skipped["devices"] = 1
    plan = await plan_of(tree)
    assert plan.summary.totals.skipped == skipped
    (tree / "socket").unlink()
    after = await plan_of(tree)
    assert after.summary.content_fingerprint != plan.summary.content_fingerprint  # the root's own time moved
    assert after.summary.entries == plan.summary.entries
    if IS_ROOT:
        allowed = await plan_of(tree, PlanLimits(allow_devices=True))
        assert allowed.summary.totals.specials == plan.summary.totals.specials + 1
        assert "devices" not in allowed.summary.totals.skipped


async def test_further_names_of_what_is_left_out(tree: Path) -> None:
    """They are left out and counted too: as hard links they would lead to nothing, and nobody could restore them."""
    make_rich_tree(tree)
    os.link(tree / "socket", tree / "a socket")
    skipped = {"sockets": 2}
    if IS_ROOT:
        os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
        os.link(tree / "null", tree / "zz-null")
        skipped["devices"] = 2
    plan = await plan_of(tree)
    assert plan.summary.totals.skipped == skipped
    archived = {spooled.entry.path for spooled in plan.tail_entries()}
    assert archived.isdisjoint((b"socket", b"a socket", b"null", b"zz-null"))
    if IS_ROOT:
        allowed = await plan_of(tree, PlanLimits(allow_devices=True))
        found = {spooled.entry.path: spooled.entry for spooled in allowed.tail_entries()}
        assert (found[b"zz-null"].type, found[b"zz-null"].target) == (FileType.HARD_LINK, b"null")
        assert allowed.summary.totals.skipped == {"sockets": 2}


@pytest.mark.field("D8")
async def test_whiteouts_go_into_every_archive(tree: Path) -> None:
    """With all their names, whether devices are allowed or not, since they give access to nothing."""
    os.mknod(tree / "gone", 0o20000, os.makedev(0, 0))
    os.link(tree / "gone", tree / "zz-gone")
    plan, allowed = await plan_of(tree), await plan_of(tree, PlanLimits(allow_devices=True))
    assert plan.summary.totals.skipped == {}
    assert (plan.summary.totals.specials, plan.summary.totals.hard_links) == (1, 1)
    assert plan.summary.content_fingerprint == allowed.summary.content_fingerprint


async def test_folders_come_last_inner_before_outer(tree: Path) -> None:
    """So a plain reader without root's rights can set their modes as they come."""
    make_rich_tree(tree)
    tail = [spooled.entry.path for spooled in (await plan_of(tree)).tail_entries()]
    folders = [path for path in tail if not path or ((tree / os.fsdecode(path)).is_dir() and path != b"outward")]
    assert tail[-1] == b""
    assert tail[-len(folders) :] == folders
    for at, path in enumerate(folders):
        assert not any(later.startswith(path + b"/") for later in folders[at:] if path)


async def test_an_empty_volume(tree: Path) -> None:
    """It has no data segment, and is still an archive: its root."""
    plan = await plan_of(tree)
    assert plan.segments == ()
    assert [spooled.entry.path for spooled in plan.tail_entries()] == [b""]


async def test_what_no_tool_can_open_stands_apart(tree: Path) -> None:
    """A path beyond PATH_MAX goes into segments that tar does not read."""
    at = os.open(tree, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=at)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    fill(tree, {"short": 10})
    plan = await plan_of(tree)
    assert [(segment.is_far, segment.entries, segment.kind) for segment in plan.segments] == [
        (False, 1, SegmentKind.FILES),
        (True, 1, SegmentKind.FILES),
    ]
    assert [len(names[0]) for names in paths(plan)] == [5, 30 * 201 + 4]
    shutil.rmtree(tree)
