"""Operations through the death of the engine, and in use by containers. Worker and mover die in
tests/fault/test_kills.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from tests.docker.habitat import DockerHabitat
from tests.harness.docker import inspected
from tests.harness.homes import archived
from tests.harness.kills import SEGMENT_BYTES, large_home, until_copying
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from tests.harness.stops import tree_of
from worker.dev.temporal import TemporalServer


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A site on the engine, with one worker."""
    async with open_site(
        tmp_path / "site", temporal_server, site_store, CODEHUB_STORAGE_SEGMENT_BYTES=SEGMENT_BYTES
    ) as site:
        if not isinstance(site.habitat, DockerHabitat):
            pytest.skip("STORAGE_TESTS_BACKEND is not local-docker")
        site.start_worker()
        yield site


@pytest.mark.field("O3")
@pytest.mark.parametrize("fall", ["stop", "kill", "crash"])
async def test_an_engine_starts_again_in_mid_archive(site: Site, fall: str) -> None:
    """It ends the mover, or finds it dead, and starts no mover by itself; the operation waits for it, and ends."""
    assert isinstance(site.habitat, DockerHabitat)
    engine = site.habitat.engine
    workspace, volume, tree = await large_home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    mover = await until_copying(site, workspace)
    assert inspected(engine, mover)["HostConfig"]["RestartPolicy"]["Name"] == "no"
    getattr(engine, fall)()  # not in a thread: the engine would end with it
    engine.start()
    key = await archiving
    await site.storage.restore(key)
    assert tree_of(site.volume(workspace)) == tree


async def test_stopped_containers_hold_a_home(site: Site) -> None:
    """The platform's normal state: refused before any byte moves, or removed where the caller allows it."""
    assert isinstance(site.habitat, DockerHabitat)
    workspace, key = await archived(site)
    volume = await site.storage.restore(key)
    engine = site.habitat.engine
    label = f"codehub.workspace={workspace}"
    mount = f"type=volume,source={volume},target=/home/dev"
    image = site.habitat.idle_image()
    engine.docker("run", "--name", f"dev-{workspace}", "--label", label, "--mount", mount, image, "/bin/sh", "-c", ":")
    with pytest.raises(StorageError, match=f"dev-{workspace}") as held:
        await site.storage.archive(volume)
    assert held.value.code is ErrorCode.VOLUME_IN_USE
    assert held.value.details["stopped"] is True
    assert await site.storage.archive(volume, remove_stopped=True) == key
    assert engine.docker("ps", "-aq", "--filter", f"label={label}").split() == []
