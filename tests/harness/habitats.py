"""Where volumes live, as a test sees it past our own code: one habitat for each backend.

``STORAGE_TESTS_BACKEND`` says which one a session's sites stand on, so the same tests run on all of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

BACKEND = os.environ.get("STORAGE_TESTS_BACKEND") or "directory"


class Habitat(Protocol):
    """One place's volumes."""

    def settings(self, s3_endpoint: str) -> Mapping[str, Any]:
        """What workers and `init` are told of it and of the store there, by the names of the settings."""
        ...

    def key(self, workspace_id: str) -> str:
        """The volume's name."""
        ...

    def folder(self, workspace_id: str) -> Path:
        """The root of the volume's tree; missing where the volume is."""
        ...

    def make_stranger(self, workspace_id: str) -> None:
        """A volume of the workspace's name that we did not make."""
        ...

    def remove_stranger(self, workspace_id: str) -> None:
        """Remove it again."""
        ...

    def lose(self, workspace_id: str) -> None:
        """Remove a volume of ours as somebody would who knows nothing of us."""
        ...

    def using(self, workspace_id: str) -> AbstractContextManager[str]:
        """Somebody who uses the volume; by a word that tells who."""
        ...

    def elsewhere(self) -> AbstractContextManager[None]:
        """While it lasts, what workers reach is another place, and empty, under the same address."""
        ...

    def movers(self, workspace_id: str) -> list[str]:
        """Our movers of the workspace that live."""
        ...

    def kill_mover(self, workspace_id: str) -> None:
        """SIGKILL to each of them."""
        ...

    def control_groups(self, workspace_id: str) -> list[str]:
        """Words in the names of the control groups of our movers that are containers."""
        ...

    def has_trash(self, workspace_id: str) -> bool:
        """Does an unfinished deletion stand somewhere."""
        ...


class DirectoryHabitat:
    """Folders below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)

    def settings(self, s3_endpoint: str) -> Mapping[str, Any]:
        """See ``Habitat``."""
        return {"volume_root": str(self.root)}

    def key(self, workspace_id: str) -> str:
        """See ``Habitat``."""
        return f"ws_{workspace_id}_home"

    def folder(self, workspace_id: str) -> Path:
        """See ``Habitat``."""
        return self.root / self.key(workspace_id)

    def make_stranger(self, workspace_id: str) -> None:
        """See ``Habitat``."""
        self.folder(workspace_id).mkdir()

    def remove_stranger(self, workspace_id: str) -> None:
        """See ``Habitat``."""
        shutil.rmtree(self.folder(workspace_id))

    def lose(self, workspace_id: str) -> None:
        """``rm -rf`` of the folder."""
        shutil.rmtree(self.folder(workspace_id))

    @contextlib.contextmanager
    def using(self, workspace_id: str) -> Iterator[str]:
        """This process, with a file open."""
        held = os.open(self.folder(workspace_id), os.O_RDONLY)
        try:
            yield f"pid {os.getpid()}"
        finally:
            os.close(held)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """As if the disk were not mounted. Nothing may be made there."""
        away = self.root.with_name("away")
        self.root.rename(away)
        self.root.mkdir()
        try:
            yield
            assert list(self.root.iterdir()) == []
        finally:
            self.root.rmdir()
            away.rename(self.root)

    def movers(self, workspace_id: str) -> list[str]:
        """By the log that each has open."""
        log = str(self.root / ".codehub/logs" / workspace_id)
        return [pid for pid in filter(str.isdecimal, os.listdir("/proc")) if _writes_to(pid, log)]

    def kill_mover(self, workspace_id: str) -> None:
        """See ``Habitat``."""
        for pid in self.movers(workspace_id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def control_groups(self, workspace_id: str) -> list[str]:
        """None are containers."""
        return []

    def has_trash(self, workspace_id: str) -> bool:
        """See ``Habitat``."""
        return (self.root / ".codehub/trash" / workspace_id).exists()


def _writes_to(pid: str, log: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/1").startswith(log + ".log")
    except OSError:
        return False


def new_habitat(request_root: Path) -> Habitat:
    """The habitat of a new site. Containers and Pods need what ``prepare_habitats`` set up."""
    if BACKEND == "local-docker":
        from tests.docker import habitat as docker

        return docker.current()
    if BACKEND == "k8s":
        from tests.k8s import habitat as kubernetes

        return kubernetes.new()
    return DirectoryHabitat(request_root)


@pytest.fixture(scope="session", autouse=True)
def prepare_habitats(request: pytest.FixtureRequest) -> Iterator[None]:
    """The engine or the cluster of the session, if its sites stand on one."""
    with ExitStack() as exits:
        if BACKEND == "local-docker":
            from tests.docker.habitat import prepared

            names = ("docker_engine", "docker_image", "temporal_server")
            exits.enter_context(prepared(*(request.getfixturevalue(name) for name in names)))
        elif BACKEND == "k8s":
            from tests.k8s.habitat import prepared as prepared_cluster

            names = ("cluster", "temporal_server", "store_admin")
            exits.enter_context(prepared_cluster(*(request.getfixturevalue(name) for name in names)))
        yield
