"""A Docker engine for tests: a real dockerd of our own, beside which nothing of the machine is touched.

Where that cannot be had (no root, no dockerd), the tests use the engine that ``DOCKER_HOST`` or the usual socket names,
and skip what would stop it. CI has its own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.harness.enclosure import Enclosure, can_enclose, child_of, kill_cgroup, remove_cgroups
from worker.dev.process import Child

_READY_SECONDS = 60.0
_STOP_SECONDS = 40.0
_CALL_SECONDS = 900.0
_LOOK_SECONDS = 0.05
ENGINE_SOCKET = "/var/run/docker.sock"
"""Where an engine is looked for; also in an enclosure, whose /run is its own."""


class EngineError(Exception):
    """A command of the engine failed; the message is what it said."""


class Engine:
    """An engine that others run. ``socket`` is its address, as ``DOCKER_HOST`` would have it.

    What listens at ``host_address`` on this machine can be reached from its containers.
    """

    is_own = False

    def __init__(self, address: str, program: str) -> None:
        self.socket = address
        self._program = program

    @property
    def host_address(self) -> str:
        """The machine's address on the default network."""
        [config, *_] = json.loads(self.docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"]
        return str(config["Gateway"])

    @property
    def id(self) -> str:
        """What the engine says that it is."""
        return self.docker("info", "--format", "{{.ID}}").strip()

    def docker(self, *arguments: str, input: bytes | None = None) -> str:
        """What ``docker ARGUMENTS`` printed. Raises ``EngineError``."""
        done = subprocess.run(
            [self._program, *arguments],
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            env=self.environment(),
            timeout=_CALL_SECONDS,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise EngineError(f"docker {' '.join(arguments)}: {said}")
        return done.stdout.decode(errors="replace")

    def environment(self) -> Mapping[str, str]:
        """What points the command line at this engine."""
        return {**os.environ, "DOCKER_HOST": self.socket}

    def has_image(self, name: str) -> bool:
        """Is there an image of that name."""
        return self.docker("image", "ls", "--quiet", name).strip() != ""

    def start(self) -> None:
        """Fine if it runs."""

    def stop(self) -> None:
        """In order, as an operator would. Its containers stop with it."""
        pytest.skip("stops the engine, and this one is not ours")

    def kill(self) -> None:
        """SIGKILL; its containers go on until it is started again."""
        self.stop()

    def crash(self) -> None:
        """SIGKILL to it and to all that it has started, containers too: what a power cut leaves."""
        self.stop()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It takes connections and answers nothing."""
        self.stop()
        yield


def _stands_still(pid: int) -> bool:
    """True once all threads of a process are stopped."""
    try:
        states = [each.read_text().rpartition(")")[2].split()[0] for each in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # one of them has just ended
        return False
    return set(states) == {"T"}


class OwnEngine(Engine):
    """A dockerd with folders, network and processes of its own. ``start`` after ``stop`` or ``kill`` has the same
    containers, images, volumes and id; after ``close`` nothing is left. Use it with ``with``.

    ``group``: by name or number, of its socket; each start makes that anew.
    """

    is_own = True

    def __init__(self, group: str = "root") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="storage-docker-"))
        super().__init__(f"unix://{self.folder}/docker.sock", _program())
        self.cgroup = self.folder.name
        self.enclosure = Enclosure(self.folder)
        self._group = group
        self._config = self.folder / "daemon.json"
        # Its id is made from this key, and the key's usual place is the machine's.
        self._config.write_text(json.dumps({"deprecated-key-path": str(self.folder / "key.json")}))
        self._child: Child | None = None

    @property
    def host_address(self) -> str:
        """The host's end of a link that leads nowhere else."""
        return self.enclosure.host_address

    def environment(self) -> Mapping[str, str]:
        """With the classic builder, which finds local images by name, and without anything of the user's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDKIT_"))}
        ours = {"DOCKER_HOST": self.socket, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(self.folder / "client")}
        return {**kept, **ours}

    @property
    def data_root(self) -> Path:
        """Where it keeps everything; its volumes are folders in ``volumes``."""
        return self.folder / "data"

    @property
    def pid(self) -> int | None:
        """The engine's process, as seen from here; ``None`` if it does not run."""
        return child_of(self._child.pid) if self._child is not None and self._child.pid is not None else None

    def __enter__(self) -> Self:
        try:
            self.enclosure.start()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start it, and return when it answers. Raises ``PartFailed``."""
        if self._child is None:
            self._child = Child(
                "dockerd",
                self.enclosure.command(self._command()),
                log=self.folder / "dockerd.log",
                pid_file=self.folder / "nsenter.pid",
            )
        self._child.start()
        try:
            self._child.wait_until(self.answers, _READY_SECONDS)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """In order. Fine if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; its containerd ends with it. Its containers go on. Fine if it does not run."""
        self._end(signal.SIGKILL)

    def crash(self) -> None:
        """SIGKILL to it and to all that it has started, containers too: what a power cut leaves."""
        self.kill()
        self.enclosure.kill_all()
        kill_cgroup(self.cgroup)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While it is stopped by a signal it takes connections and answers nothing."""
        pid = self.pid
        assert pid is not None
        assert self._child is not None
        assert self._child.pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            while not _stands_still(pid):  # its threads hear of it one after the other
                time.sleep(0.01)
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            os.kill(self._child.pid, signal.SIGCONT)  # it stops when its child does

    def close(self) -> None:
        """End it with all its containers, and remove every trace."""
        self.enclosure.stop()
        if self._child is not None:
            self._child.kill()
        remove_cgroups(self.cgroup)
        shutil.rmtree(self.folder)

    def answers(self) -> bool:
        """Is it ready."""
        with contextlib.suppress(OSError, http.client.HTTPException), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(self.socket.removeprefix("unix://"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status == http.HTTPStatus.OK
        return False

    def log(self) -> str:
        """What it has written."""
        return (self.folder / "dockerd.log").read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        """Signal the engine itself; the process that put it in there ends with it."""
        pid = self.pid
        if self._child is None or pid is None:
            return
        os.kill(pid, number)
        deadline = time.monotonic() + _STOP_SECONDS
        while self._child.pid is not None and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        if self._child.pid is not None:
            os.kill(pid, signal.SIGKILL)
        self._child.stop()

    def _command(self) -> list[str]:
        return [
            "dockerd",
            f"--config-file={self._config}",
            f"--host={self.socket}",
            f"--host=unix://{ENGINE_SOCKET}",  # for containers that mount it
            f"--data-root={self.data_root}",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/docker.pid",
            f"--cgroup-parent=/{self.cgroup}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--group={self._group}",
        ]


def _program() -> str:
    """The command line that came with the engine, before another version of it on the path."""
    beside = Path("/usr/bin/docker")
    return str(beside) if beside.exists() else (shutil.which("docker") or "docker")


def their_engine() -> Engine | None:
    """The engine that is used where we have none of our own; ``None``: start ours."""
    if os.environ.get("CI"):
        return None
    address = os.environ.get("DOCKER_HOST")
    if address is None and can_enclose() and all(map(shutil.which, ("dockerd", "debootstrap", "iptables"))):
        return None
    return Engine(address or f"unix://{ENGINE_SOCKET}", shutil.which("docker") or "docker")


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """Theirs, or one of our own for as long as this lasts."""
    theirs = their_engine()
    if theirs is not None:
        yield theirs
        return
    with OwnEngine() as engine:
        yield engine


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """The engine of the session. Tests share it: they take names of their own, and start again what they stop."""
    with running_engine() as engine:
        yield engine


def inspected(engine: Engine, what: str) -> Any:
    """Everything that the engine says of a container, volume, image or network."""
    return json.loads(engine.docker("inspect", what))[0]
