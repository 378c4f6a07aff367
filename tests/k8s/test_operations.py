"""Operations through the death of API server and node, and in use by Pods. Worker and mover die in
tests/fault/test_kills.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from tests.harness.homes import archived, provisioned
from tests.harness.kills import SEGMENT_BYTES, large_home, until_copying
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from tests.harness.stops import handle_of, tree_of, until
from tests.k8s.habitat import ClusterHabitat
from tests.k8s.nodes import cut_off
from worker.dev.temporal import TemporalServer


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A site on the cluster, with one worker."""
    async with open_site(
        tmp_path / "site", temporal_server, site_store, time_scale=0.5, CODEHUB_STORAGE_SEGMENT_BYTES=SEGMENT_BYTES
    ) as site:
        if not isinstance(site.habitat, ClusterHabitat):
            pytest.skip("STORAGE_TESTS_BACKEND is not k8s")
        site.start_worker()
        yield site


def habitat_of(site: Site) -> ClusterHabitat:
    assert isinstance(site.habitat, ClusterHabitat)
    return site.habitat


async def test_the_api_server_restarts_in_mid_archive(site: Site) -> None:
    """The mover copies on meanwhile, and its lease finds it again."""
    workspace, volume, tree = await large_home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    await until_copying(site, workspace)
    habitat_of(site).cluster.restart_apiserver()
    key = await archiving
    await site.storage.restore(key)
    assert tree_of(site.volume(workspace)) == tree


async def test_a_node_is_cut_off_in_mid_archive(site: Site) -> None:
    """The operation waits, says for which node, and starts no second mover; when it is back the archive ends."""
    workspace, volume, tree = await large_home(site)
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
