"""Places on the engine of the session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.state.record import VolumeState
from tests.docker.habitat import DockerHabitat
from tests.docker.places import DockerPlace
from tests.fakes.records import RecordFile
from tests.harness.docker import Engine, OwnEngine
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from worker.dev.temporal import TemporalServer


@pytest.fixture
async def place(docker_engine: Engine) -> AsyncIterator[DockerPlace]:
    """The engine, with nothing on it."""
    if not isinstance(docker_engine, OwnEngine):
        pytest.skip("it looks into the engine's own folders")
    place = DockerPlace(docker_engine)
    yield place
    await place.close()


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A site on the engine, with one worker."""
    async with open_site(tmp_path / "site", temporal_server, site_store) as site:
        if not isinstance(site.habitat, DockerHabitat):
            pytest.skip("STORAGE_TESTS_BACKEND is not local-docker")
        site.start_worker()
        yield site


@pytest.fixture
async def record(tmp_path: Path, place: DockerPlace) -> RecordFile:
    """The record of ``ws1``, whose volume ``u1`` is ready and holds the word `work`."""
    record = RecordFile(tmp_path / "record.json", "ws1")
    record.volume("u1", VolumeState.RESTORING)
    await place.backend.create("ws1", "u1", restored_from=None, spec={}, fence=record.fence)
    record.volume("u1", VolumeState.READY)
    place.write("ws1", "work")
    return record
