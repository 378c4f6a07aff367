"""Operations on the cluster through the death of each part: worker, mover, API server, node; and in use, by Pods."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from codehub_storage.contracts import Phase
from tests.harness.homes import archived, provisioned, record_of
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from tests.harness.stops import Tree, handle_of, phase_of, tree_of, until
from tests.k8s.habitat import ClusterHabitat
from tests.k8s.nodes import cut_off
from worker.dev.temporal import TemporalServer

HOME_BYTES = 96 << 20


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A site on the cluster, with one worker."""
    async with open_site(
        tmp_path / "site", temporal_server, site_store, time_scale=0.5, CODEHUB_STORAGE_SEGMENT_BYTES="8MiB"
    ) as site:
        if not isinstance(site.habitat, ClusterHabitat):
            pytest.skip("STORAGE_TESTS_BACKEND is not k8s")
        site.start_worker()
        yield site


def habitat_of(site: Site) -> ClusterHabitat:
    assert isinstance(site.habitat, ClusterHabitat)
    return site.habitat


async def home(site: Site) -> tuple[str, str, Tree]:
    """A volume that takes a while to archive: (workspace id, home_store_key, its tree)."""
    workspace, volume = await provisioned(site)
    for number in range(12):
        (site.volume(workspace) / f"noise-{number}").write_bytes(os.urandom(HOME_BYTES // 12))
    return workspace, volume, tree_of(site.volume(workspace))


async def until_copying(site: Site, workspace: str) -> str:
    """Return the mover's Pod once it copies."""

    async def copies() -> bool:
        return await phase_of(site, workspace) is Phase.COPYING and bool(site.habitat.movers(workspace))

    await until(copies, "nothing is copied")
    return site.habitat.movers(workspace)[0]


async def leases_of(site: Site, workspace: str) -> int:
    """How many movers the run has asked for."""
    history = [event async for event in handle_of(site, workspace).fetch_history_events()]
    types = [event.activity_task_scheduled_event_attributes.activity_type.name for event in history]
    return types.count("hold_mover")


async def test_a_mover_goes_on_while_its_worker_is_replaced(site: Site) -> None:
    """Killed in mid-archive, the worker's successor adopts the Pod; the tree comes back equal."""
    workspace, volume, tree = await home(site)
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
    """Archive goes on with another Pod; restore starts over on a volume of another uid."""
    workspace, volume, tree = await home(site)
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


async def test_the_api_server_restarts_in_mid_archive(site: Site) -> None:
    """The mover copies on meanwhile, and its lease finds it again."""
    workspace, volume, tree = await home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    await until_copying(site, workspace)
    habitat_of(site).cluster.restart_apiserver()
    key = await archiving
    await site.storage.restore(key)
    assert tree_of(site.volume(workspace)) == tree


async def test_a_node_is_cut_off_in_mid_archive(site: Site) -> None:
    """The operation waits, says for which node, and starts no second mover; when it is back the archive ends."""
    workspace, volume, tree = await home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    mover = await until_copying(site, workspace)
    habitat = habitat_of(site)
    node = str((habitat.find("pods", mover) or {})["spec"]["nodeName"])
    with cut_off(habitat.cluster, node):

        async def says_so() -> bool:
            pending = (await handle_of(site, workspace).describe()).raw_description.pending_activities
            return any(f"waiting for node {node}" in each.last_failure.message for each in pending)

        await until(says_so, "nobody says what is waited for")
        assert habitat.pods() == [mover]
    key = await archiving
    await site.storage.restore(key)
    assert tree_of(site.volume(workspace)) == tree


async def test_a_terminated_run_leaves_no_mover_although_no_worker_is_there(site: Site) -> None:
    """The mover sees that its run is closed, and ends by itself; the volume is as it was."""
    workspace, volume, tree = await home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    await until_copying(site, workspace)
    site.workers[0].kill()
    await handle_of(site, workspace).terminate("a test")
    with pytest.raises(StorageError):
        await archiving

    async def is_gone() -> bool:
        return not site.habitat.movers(workspace)

    await until(is_gone, "the mover stays")
    assert tree_of(site.volume(workspace)) == tree
    site.start_worker()
    await site.storage.archive(volume)


async def test_finished_pods_hold_a_home(site: Site) -> None:
    """The counterpart of stopped containers: refused before any byte moves, or removed where the caller allows it."""
    workspace, key = await archived(site)
    volume = await site.storage.restore(key)
    habitat = habitat_of(site)
    pod = habitat.run(f"dev-{workspace}", workspace, "true")
    habitat.until_phase(pod, "Succeeded")
    with pytest.raises(StorageError, match=pod) as held:
        await site.storage.archive(volume)
    assert held.value.code is ErrorCode.VOLUME_IN_USE
    assert held.value.details["stopped"] is True
    assert await site.storage.archive(volume, remove_stopped=True) == key
    assert habitat.pods() == []


async def test_a_retained_volume_is_named(site: Site) -> None:
    """Purge ends, and says what still has the bytes."""
    workspace, volume = await provisioned(site)
    habitat = habitat_of(site)
    claim = habitat.find("persistentvolumeclaims", volume)
    assert claim is not None
    name = claim["spec"]["volumeName"]
    path = f"/api/v1/persistentvolumes/{name}"
    found = habitat.cluster.api.get(path)
    found["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
    habitat.cluster.api.call("PUT", path, found)
    result = await (await site.storage.start_purge(volume, None)).result()
    assert result.removed == (volume,)
    assert result.leftovers == (f"persistent volume {name}: it is retained, with its data",)
    assert not site.habitat.folder(workspace).exists()
    habitat.cluster.api.delete(path)
