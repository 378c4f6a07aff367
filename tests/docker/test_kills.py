"""Operations on the engine through the death of each part: worker, mover, engine; and after a run that nobody ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from codehub_storage.contracts import Phase
from tests.docker.habitat import DockerHabitat
from tests.harness.docker import inspected
from tests.harness.homes import archived, provisioned, record_of
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from tests.harness.stops import Tree, handle_of, phase_of, tree_of, until
from worker.dev.temporal import TemporalServer

HOME_BYTES = 96 << 20


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A site on the engine, with one worker."""
    async with open_site(tmp_path / "site", temporal_server, site_store, CODEHUB_STORAGE_SEGMENT_BYTES="8MiB") as site:
        if not isinstance(site.habitat, DockerHabitat):
            pytest.skip("STORAGE_TESTS_BACKEND is not local-docker")
        site.start_worker()
        yield site


async def home(site: Site) -> tuple[str, str, Tree]:
    """A volume that takes a while to archive: (workspace id, home_store_key, its tree)."""
    workspace, volume = await provisioned(site)
    for number in range(12):
        (site.volume(workspace) / f"noise-{number}").write_bytes(os.urandom(HOME_BYTES // 12))
    return workspace, volume, tree_of(site.volume(workspace))


async def until_copying(site: Site, workspace: str) -> str:
    """Return the mover's container once it copies."""

    async def copies() -> bool:
        return await phase_of(site, workspace) is Phase.COPYING and bool(site.habitat.movers(workspace))

    await until(copies, "nothing is copied")
    return site.habitat.movers(workspace)[0]


async def test_a_mover_goes_on_while_its_worker_is_replaced(site: Site) -> None:
    """Killed in mid-archive, the worker's successor adopts the container; the tree comes back equal."""
    workspace, volume, tree = await home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    mover = await until_copying(site, workspace)
    site.workers[0].kill()
    assert site.habitat.movers(workspace) == [mover]
    site.start_worker()
    key = await archiving
    history = [event async for event in handle_of(site, workspace).fetch_history_events()]
    leases = [
        event for event in history if event.activity_task_scheduled_event_attributes.activity_type.name == "hold_mover"
    ]
    assert len(leases) == 1, "the mover was replaced"
    assert not site.volume(workspace).exists()
    await site.storage.restore(key)
    assert tree_of(site.volume(workspace)) == tree


async def test_a_killed_mover_is_replaced(site: Site) -> None:
    """Archive goes on with another container; restore starts over on a volume of another uid."""
    workspace, volume, tree = await home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    await until_copying(site, workspace)
    site.habitat.kill_mover(workspace)
    key = await archiving
    restoring = asyncio.create_task(site.storage.restore(key))
    await until_copying(site, workspace)
    first = (await record_of(site, workspace)).volume
    site.habitat.kill_mover(workspace)
    await restoring
    record = await record_of(site, workspace)
    assert tree_of(site.volume(workspace)) == tree
    if record.volume == first:  # it had ended before the kill came
        pytest.fail("the kill came too late to prove anything")
    assert first is not None
    assert first.uid in record.given_up


@pytest.mark.field("O3")
@pytest.mark.parametrize("fall", ["stop", "kill", "crash"])
async def test_an_engine_starts_again_in_mid_archive(site: Site, fall: str) -> None:
    """It ends the mover, or finds it dead, and starts no mover by itself; the operation waits for it, and ends."""
    assert isinstance(site.habitat, DockerHabitat)
    engine = site.habitat.engine
    workspace, volume, tree = await home(site)
    archiving = asyncio.create_task(site.storage.archive(volume))
    mover = await until_copying(site, workspace)
    assert inspected(engine, mover)["HostConfig"]["RestartPolicy"]["Name"] == "no"
    getattr(engine, fall)()  # not in a thread: the engine would end with it
    engine.start()
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
