"""Sites on a real Docker engine: volumes of the engine, movers of our image, servers reached over a link."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.docker.places import IDLE_COMMAND, provide_idle_image
from tests.harness.docker import Engine, OwnEngine
from tests.harness.relay import Relay
from worker.dev.temporal import TemporalServer

_current: list[DockerHabitat] = []


class DockerHabitat:
    """The engine's volumes."""

    def __init__(self, engine: OwnEngine, image: str, temporal: Relay) -> None:
        self.engine = engine
        self._image = image
        self._temporal = temporal
        self._stores: dict[str, Relay] = {}

    def settings(self, s3_endpoint: str) -> Mapping[str, Any]:
        """See ``Habitat``. The store is reached by a relay, as the engine's network knows only one address of ours."""
        port = int(s3_endpoint.rpartition(":")[2])
        if s3_endpoint not in self._stores:
            self._stores[s3_endpoint] = Relay(self.engine.host_address, port).__enter__()
        return {
            "backend": "local-docker",
            "docker_host": self.engine.socket,
            "mover_image": self._image,
            "mover_temporal_address": self._temporal.address,
            "mover_s3_endpoint": f"http://{self._stores[s3_endpoint].address}",
        }

    def key(self, workspace_id: str) -> str:
        """See ``Habitat``."""
        return f"ws_{workspace_id}_home"

    def folder(self, workspace_id: str) -> Path:
        """See ``Habitat``."""
        return self.engine.data_root / "volumes" / self.key(workspace_id) / "_data"

    def make_stranger(self, workspace_id: str) -> None:
        """See ``Habitat``."""
        self.engine.docker("volume", "create", self.key(workspace_id))

    def remove_stranger(self, workspace_id: str) -> None:
        """See ``Habitat``."""
        self.engine.docker("volume", "rm", self.key(workspace_id))

    def lose(self, workspace_id: str) -> None:
        """``docker volume rm``, which is what a prune does to a volume that no container has."""
        self.engine.docker("volume", "rm", self.key(workspace_id))

    @contextlib.contextmanager
    def using(self, workspace_id: str) -> Iterator[str]:
        """A running container."""
        name = f"user-of-{workspace_id}"
        mount = f"type=volume,source={self.key(workspace_id)},target=/home/dev"
        image = self.idle_image()
        self.engine.docker("run", "-d", "--name", name, "--mount", mount, image, *IDLE_COMMAND)
        try:
            yield name
        finally:
            self.engine.docker("rm", "-f", name)

    def idle_image(self) -> str:
        """An image whose containers do nothing."""
        return provide_idle_image(self.engine)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """The engine with another id; its volumes are there all the same. Nothing may be made or deleted."""
        before, own = self.engine.docker("volume", "ls", "-q"), self.engine.id
        key = self.engine.folder / "key.json"
        self.engine.stop()
        key.rename(key.with_name("kept-key.json"))
        self.engine.start()
        try:
            assert self.engine.id != own, "the engine is still the same place"
            yield
            assert self.engine.docker("volume", "ls", "-q") == before
        finally:
            self.engine.stop()
            key.with_name("kept-key.json").replace(key)
            self.engine.start()

    def movers(self, workspace_id: str) -> list[str]:
        """See ``Habitat``."""
        label = f"label=codehub-storage.workspace={workspace_id}"
        return self.engine.docker("ps", "-q", "--no-trunc", "--filter", label).split()

    def kill_mover(self, workspace_id: str) -> None:
        """See ``Habitat``."""
        for container in self.movers(workspace_id):
            self.engine.docker("kill", container)

    def control_groups(self, workspace_id: str) -> list[str]:
        """See ``Habitat``."""
        return self.movers(workspace_id)

    def has_trash(self, workspace_id: str) -> bool:
        """The engine deletes at once or not at all."""
        return False

    def close(self) -> None:
        """End the relays."""
        for relay in self._stores.values():
            relay.__exit__(None, None, None)


@contextlib.contextmanager
def prepared(engine: Engine, image: str, temporal: TemporalServer) -> Iterator[None]:
    """Make the habitat of this session's sites."""
    assert isinstance(engine, OwnEngine), "sites need an engine of our own: their volumes are looked into"
    with Relay(engine.host_address, temporal.ports[0]) as to_temporal:
        habitat = DockerHabitat(engine, image, to_temporal)
        _current.append(habitat)
        try:
            yield
        finally:
            _current.clear()
            habitat.close()


def current() -> DockerHabitat:
    """The habitat that ``prepared`` made."""
    [habitat] = _current
    return habitat
