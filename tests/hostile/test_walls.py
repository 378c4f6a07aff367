"""Links that stand under the writers, which no archive can bring about: the walls behind the order of the steps.

The walls around one of our archives: (1) the gate lets only clean regular files through; (2) no link exists while
writers run; (3) openat2 beneath the root; (4) Landlock. What each holds while the others are down is tested where they
can be taken down, in the archiver itself: ``archiver/tests/walls.rs``, and the tests of its modules.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.dataplane.archiver import Wall
from activities.dataplane.restore import ArchiveRestore
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.canary import Canary
from tests.hostile import own_segments
from tests.hostile.forging import Forged, forge, honest, tail

LONG = b"/".join([b"a", *[b"n" * 250] * 17])
THROUGH = {"a": "../open"}
SEGMENTS = {
    "small": honest(b"a/new"),
    "one that is there": honest(b"a/victim"),
    "long": honest(LONG),
    "large": own_segments.large_file(b"a/new"),
}


async def planted(canary: Canary, wall: Wall, segment: Forged, links: dict[str, str]) -> None:
    """Restore one segment while links stand in the volume; then the error that it ended with."""
    store = MemoryStore()
    archive = ArchiveRestore(canary.volume, store, await forge(store, segment, tail()), wall=wall)
    await archive.prepare()
    for name, target in links.items():
        (canary.volume / name).symlink_to(target)
    await archive.restore_segments(1, 1)


@pytest.mark.parametrize("wall", [Wall.DEMANDED, Wall.OFF])
@pytest.mark.parametrize("kind", SEGMENTS)
async def test_beneath_with_links_under_the_writers(tmp_path: Path, kind: str, wall: Wall) -> None:
    """None is followed, whatever is written: ArchiveCorrupt, with Landlock and without it."""
    canary = Canary(tmp_path)
    with pytest.raises(StorageError) as caught:
        await planted(canary, wall, SEGMENTS[kind], THROUGH)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
    assert not canary.changes()
