"""Operations through the death of worker and mover, and after a run that nobody ends.

On Docker and Kubernetes, whose movers outlive their worker. What only one of them has is in tests/docker/test_kills.py
and tests/k8s/test_operations.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codehub_storage import StorageError
from tests.harness.habitats import BACKEND
from tests.harness.homes import record_of
from tests.harness.kills import SEGMENT_BYTES, large_home, leases_of, until_copying
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from tests.harness.stops import handle_of, tree_of, until_no_mover
from worker.dev.temporal import TemporalServer

pytestmark = pytest.mark.skipif(BACKEND == "directory", reason="movers of folders end with their worker")


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A site with one worker."""
    async with open_site(
        tmp_path / "site", temporal_server, site_store, time_scale=0.5, CODEHUB_STORAGE_SEGMENT_BYTES=SEGMENT_BYTES
    ) as site:
        site.start_worker()
        yield site


async def test_a_mover_goes_on_while_its_worker_is_replaced(site: Site) -> None:
    """Killed in mid-archive, the worker's successor adopts the container or Pod; the tree comes back equal."""
    workspace, volume, tree = await large_home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    mover = await until_copying(site, workspace)
    site.workers[0].kill()
    assert site.habitat.movers(workspace) == [mover]
    site.start_worker()
    key = await archiving
    assert await leases_of(site, workspace) == 1, "the mover was replaced"
    assert not site.volume(workspace).exists()
    await site.storage.restore(key)
    assert tree_of(site.volume(workspace)) == tree


async def test_a_killed_mover_is_replaced(site: Site) -> None:
    """Archive goes on with another one; restore starts over on a volume of another uid."""
    workspace, volume, tree = await large_home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    await until_copying(site, workspace)
    site.habitat.kill_mover(workspace)
    key = await archiving
    assert await leases_of(site, workspace) > 1
    restoring = asyncio.create_task(site.storage.restore(key))
    await until_copying(site, workspace)
    first = (await record_of(site, workspace)).volume
    site.habitat.kill_mover(workspace)
    await restoring
    assert tree_of(site.volume(workspace)) == tree
    assert first is not None
    assert (await record_of(site, workspace)).is_given_up(first.uid), "the kill came too late to prove anything"


async def test_a_terminated_run_leaves_no_mover_although_no_worker_is_there(site: Site) -> None:
    """The mover sees that its run is closed, and ends by itself; the volume is as it was."""
    workspace, volume, tree = await large_home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    await until_copying(site, workspace)
    site.workers[0].kill()
    await handle_of(site, workspace).terminate("a test")
    with pytest.raises(StorageError):
        await archiving
    await until_no_mover(site, workspace)
    assert tree_of(site.volume(workspace)) == tree
    site.start_worker()
    await site.storage.archive(volume)
