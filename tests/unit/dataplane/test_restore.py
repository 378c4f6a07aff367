"""A restore reads no more than it needs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from activities.dataplane import feeding
from activities.dataplane.plan import PlanLimits
from activities.dataplane.restore import ArchiveRestore
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import make_archive
from tests.harness.trees import snapshot


class CountingStore(MemoryStore):
    """Knows how much was read."""

    read_bytes = 0

    async def read(self, *arguments: Any, **options: Any) -> AsyncIterator[bytes]:
        """See ``MemoryStore``."""
        async for piece in super().read(*arguments, **options):
            self.read_bytes += len(piece)
            yield piece


async def test_of_a_large_file_its_header_is_read_again_and_not_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its metadata is set when all of its pieces are there, which come in any order."""
    header_bytes, file_bytes = 4096, 200_000
    monkeypatch.setattr(feeding, "HEADER_BYTES", header_bytes)
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    for name in ("a", "b"):
        (root / name).write_bytes(os.urandom(file_bytes))
    store = CountingStore(min_part_bytes=0)
    limits = PlanLimits(segment_bytes=2 * file_bytes, large_file_bytes=file_bytes // 2)
    restore = ArchiveRestore(out, store, (await make_archive(root, store, limits=limits)).manifest)
    await restore.prepare()
    await restore.restore_segments(1, restore.data_segments)
    store.read_bytes = 0
    await restore.finish()
    assert 0 < store.read_bytes < file_bytes
    assert snapshot(out) == snapshot(root)
