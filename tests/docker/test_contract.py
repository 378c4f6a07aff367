"""The backend's contract, on a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.state.record import VolumeState
from tests.contract.test_volume_backend import Place, VolumeBackendContract
from tests.docker.places import DockerPlace
from tests.fakes.records import RecordFile
from tests.harness.docker import Engine, OwnEngine


class TestDocker(VolumeBackendContract):
    """Volumes of one engine."""

    @pytest.fixture
    async def place(self, docker_engine: Engine) -> AsyncIterator[Place]:
        """The engine, with nothing on it."""
        if not isinstance(docker_engine, OwnEngine):
            pytest.skip("it looks into the engine's own folders")
        place = DockerPlace(docker_engine)
        yield place
        await place.close()

    @pytest.fixture
    def record(self, tmp_path: Path) -> RecordFile:
        """As the suite has it: nothing is made yet."""
        record = RecordFile(tmp_path / "record.json", "ws1")
        record.volume("u1", VolumeState.RESTORING)
        return record
