"""What the host of an engine has to do with it: a disk that is full, and two hosts as two places."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from tests.docker.habitat import DockerHabitat
from tests.harness import image
from tests.harness.docker import OwnEngine
from tests.harness.homes import WORD, archived, provisioned, read
from tests.harness.relay import Relay
from tests.harness.s3server import S3Server
from tests.harness.site import Site, mark_place, open_site
from tests.harness.stops import tree_of
from worker.dev.temporal import TemporalServer
from worker.settings import variable

SMALL_BYTES = 4 << 20
SECOND = "second"


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A site on the engine, without a worker."""
    async with open_site(tmp_path / "site", temporal_server, site_store) as site:
        if not isinstance(site.habitat, DockerHabitat):
            pytest.skip("STORAGE_TESTS_BACKEND is not local-docker")
        yield site


@pytest.fixture
def second_host(temporal_server: TemporalServer) -> Iterator[DockerHabitat]:
    """Another engine, with volumes of its own."""
    with OwnEngine() as engine, Relay(engine.host_address, temporal_server.ports[0]) as to_temporal:
        habitat = DockerHabitat(engine, image.provide(engine), to_temporal)
        try:
            yield habitat
        finally:
            habitat.close()


async def test_a_full_disk_is_told_and_leaves_nothing(site: Site) -> None:
    """Volumes get the options that operators set; where a home does not fit, the archive stays and no volume does."""
    workspace, key = await provisioned(site_with_worker(site))
    (site.volume(workspace) / "large").write_bytes(bytes(range(256)) * (SMALL_BYTES // 128))
    tree = tree_of(site.volume(workspace))
    archive = await site.storage.archive(key)
    site.workers[0].kill()
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={SMALL_BYTES}"}
    site.start_worker(**{variable("docker_volume_options"): json.dumps(options)})
    with pytest.raises(StorageError) as full:
        await site.storage.restore(archive)
    assert full.value.code == ErrorCode.NO_SPACE
    assert not site.volume(workspace).exists()
    site.workers[1].kill()
    site.start_worker()
    await site.storage.restore(archive)
    assert tree_of(site.volume(workspace)) == tree


async def test_two_hosts_are_two_places(site: Site, second_host: DockerHabitat) -> None:
    """Each has its homes; a home is touched only where it is, and a cold one goes where it is asked for."""
    await mark_place(site, SECOND, second_host)
    settings = second_host.settings(site.environment[variable("s3_endpoint")])
    site_with_worker(site)
    site.start_worker(**{variable(name): str(value) for name, value in settings.items()} | {variable("place"): SECOND})
    there = site.workspace_id()
    key = await site.storage.provision(there, place=SECOND)
    (second_host.folder(there) / "file").write_text("on the second host")
    assert not site.volume(there).exists()
    with pytest.raises(StorageError) as wrong:
        await site.storage.archive(key)
    assert wrong.value.code == ErrorCode.WRONG_STORE
    here, archive = await archived(site, text="on the first host")
    moved = await site.storage.restore(archive, place=SECOND)
    assert (second_host.folder(here) / WORD).read_text() == "on the first host"
    with pytest.raises(StorageError) as wrong:
        await site.storage.restore(archive)
    assert wrong.value.code == ErrorCode.WRONG_STORE
    archive_there = await site.storage.archive(key, place=SECOND)
    await site.storage.restore(archive_there, place=SECOND)
    assert (second_host.folder(there) / "file").read_text() == "on the second host"
    await site.storage.archive(moved, place=SECOND)
    await site.storage.restore(archive)
    assert read(site, here) == "on the first host"


def site_with_worker(site: Site) -> Site:
    site.start_worker()
    return site
