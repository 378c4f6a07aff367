"""Our own archives, written and restored by the data plane, compared by code that shares nothing with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.dataplane.confine import Wall
from activities.dataplane.restore import ArchiveRestore, restore_archive
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import TINY, Made, make_archive
from tests.harness.trees import make_rich_tree, snapshot


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(min_part_bytes=0)


async def _archive(tmp_path: Path, store: MemoryStore) -> tuple[Path, Made]:
    source = tmp_path / "source"
    source.mkdir()
    make_rich_tree(source)
    return source, await make_archive(source, store, limits=TINY)


async def test_a_rich_tree_comes_back_in_every_detail(tmp_path: Path, store: MemoryStore) -> None:
    """Modes, owners, times, links, ACLs, attributes, holes and odd names are as they were."""
    source, made = await _archive(tmp_path, store)
    target = tmp_path / "target"
    target.mkdir()
    report = await restore_archive(ArchiveRestore(target, store, made.manifest, wall=Wall.REQUIRED))
    assert snapshot(target) == snapshot(source)
    assert report.files == made.manifest.totals.files
    assert report.bytes == made.manifest.totals.file_bytes
    assert dict(report.skipped) == {}
