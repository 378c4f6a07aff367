"""What a mover and its children take: at most 256 MiB whatever the tree is, and more than one core if it is there."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.watching import Watch
from worker.dev.temporal import TemporalServer

FULL = bool(os.environ.get("STORAGE_TESTS_N"))
LIMIT_BYTES = 256 << 20
MIB, GIB = 1 << 20, 1 << 30

pytestmark = pytest.mark.timeout(7200 if FULL else 900)


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> AsyncIterator[Site]:
    """A site with one worker and the settings that operators get; nothing here is timed out early."""
    async with open_site(tmp_path / "site", temporal_server, seaweed, time_scale=1) as opened:
        opened.start_worker()
        yield opened


def sparse(root: Path) -> None:
    """One file, nearly all hole: 2 GB, in the long form 20."""
    size = (20 if FULL else 2) * GIB
    with (root / "sparse").open("wb") as file:
        for island in range(8):
            file.seek(size // 8 * island)
            file.write(b"island")
        file.truncate(size)


def incompressible(root: Path) -> None:
    """1 GB that no compressor makes smaller, in the long form 4: a large file, and others beside it."""
    source = random.Random(11)
    sizes = [512 * MIB, *[8 * MIB] * 64] * (4 if FULL else 1)
    for number, size in enumerate(sizes):
        with (root / f"random-{number}").open("wb") as file:
            for _ in range(size // (8 * MIB)):
                file.write(source.randbytes(8 * MIB))


def many(root: Path) -> None:
    """50,000 small files, in the long form 200,000, of which some have two names."""
    for folder in range(200 if FULL else 50):
        here = root / f"folder-{folder}"
        here.mkdir()
        for number in range(1000):
            (here / f"a file with an ordinary name {number}").write_bytes(b"%d\n" % number)
        (here / "twin").hardlink_to(here / "a file with an ordinary name 0")


@pytest.mark.parametrize("make", [sparse, incompressible, many], ids=lambda make: make.__name__)
async def test_memory_is_bounded(site: Site, make: Callable[[Path], None]) -> None:
    """PSS of the mover and its children, sampled while it archives and while it restores."""
    workspace = site.workspace_id()
    key = await site.storage.provision(workspace)
    await asyncio.to_thread(make, site.volume(workspace))
    with Watch(site.root, workspace) as archiving:
        archive = await site.storage.archive(key)
    with Watch(site.root, workspace) as restoring:
        await site.storage.restore(archive)
    for name, watch in (("archive", archiving), ("restore", restoring)):
        print(f"{make.__name__}: {name} took {watch.pss_bytes >> 20} MiB and {watch.demand:.1f} cores")
        assert watch.samples, f"{name} was never seen"
        assert 0 < watch.pss_bytes <= LIMIT_BYTES, f"{name}: {watch.pss_bytes >> 20} MiB"
    await site.storage.purge(key, archive)  # the store's disk is the session's


async def test_packing_takes_more_than_one_core(site: Site) -> None:
    """Over its busiest half second the mover ran, or was ready to run, on more than one core."""
    workspace = site.workspace_id()
    key = await site.storage.provision(workspace)
    words = random.Random(5).randbytes(4096).hex().encode()
    for number in range(96):
        (site.volume(workspace) / f"text-{number}").write_bytes((b"%d " % number + words) * 512)
    with Watch(site.root, workspace) as watch:
        await site.storage.archive(key)
    assert watch.demand > 1.2, f"{watch.demand:.2f} cores in {watch.samples} samples"
