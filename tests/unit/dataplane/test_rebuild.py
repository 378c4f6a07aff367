"""A manifest from the archive alone is one to restore by."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.dataplane.plan import PlanLimits
from activities.dataplane.rebuild import verify_from_tail
from activities.dataplane.restore import ArchiveRestore
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import ignore, make_archive, restore_archive
from tests.harness.trees import snapshot


@pytest.mark.field("D6")
async def test_a_large_file_between_small_ones(tmp_path: Path) -> None:
    """Small files are one segment, though a large one's name stands between theirs."""
    root, target = tmp_path / "tree", tmp_path / "target"
    for each in (root, target):
        each.mkdir()
    for name, size in (("a", 1), ("b", 25 << 20), ("c", 1)):
        (root / name).write_bytes(b"x" * size)
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(root, store, limits=PlanLimits())
    rebuilt = await verify_from_tail(store, made.info, progress=ignore)
    await restore_archive(ArchiveRestore(target, store, rebuilt))
    assert snapshot(target) == snapshot(root)
