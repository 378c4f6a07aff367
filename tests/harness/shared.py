"""The servers of a run: one Temporal and one S3 server of each kind, whatever the number of pytest's processes.

The process that was typed starts each when a test asks for it first, and stops all when the run has ended, also after
Ctrl-C; if it is killed, the kernel ends them with it. Workers of xdist are told where to ask, and test with a handle
that can do everything but start and stop. Tests share a server: they take workspace ids, places, queues and buckets of
their own. One that stops a server, or needs settings of its own, starts another (``tests.harness.marks``).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import pytest

from tests.harness.minio import Minio
from worker.dev.process import Child, PartFailed
from worker.dev.seaweed import Identity, Seaweed
from worker.dev.temporal import TemporalServer

_INPUT = "storage_tests_servers"
_WHO = ("admin", "reader")
_STOP = "stop"


@dataclass(frozen=True)
class Servers:
    """What each process of a run knows: where to ask, and whose keys the S3 servers know. ``reader`` may not write."""

    socket: str
    admin: Identity
    reader: Identity

    def temporal(self) -> TemporalServer:
        """A real dev server with our search attributes."""
        folder, ports = self._ask("temporal")
        return _theirs(_temporal(folder, ports))

    def seaweed(self) -> Seaweed:
        """SeaweedFS, which knows ``admin`` and ``reader``."""
        folder, ports = self._ask("seaweed")
        return _theirs(_seaweed(self, folder, ports))

    def minio(self) -> Minio:
        """MinIO, which knows ``admin``."""
        folder, ports = self._ask("minio")
        return _theirs(_minio(self, folder, ports))

    def _ask(self, what: str) -> tuple[Path, tuple[int, ...]]:
        """Its folder and ports, when it is ready. Raises ``PartFailed``."""
        told = ask(self.socket, what)
        if "failed" in told:
            raise PartFailed(told["failed"])
        return Path(told["folder"]), tuple(told["ports"])


class _Server(Protocol):
    child: Child
    ports: tuple[int, ...]

    def start(self) -> None: ...
    def stop(self) -> None: ...


def ask(address: str, what: str) -> dict[str, Any]:
    """What the process says that keeps the servers. It may have to start one first."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(f"{what}\n".encode())
        with connection.makefile() as answer:
            told = json.loads(answer.readline() or '{"failed": "the run ends"}')
            assert isinstance(told, dict)
            return told


def _temporal(folder: Path, ports: tuple[int, ...]) -> TemporalServer:
    """In memory: nobody starts it again. One partition of each task queue, as every mover has a queue of its own."""
    return TemporalServer(
        database=None,
        log=folder / "temporal.log",
        pid_file=folder / "temporal.pid",
        ports=ports,
        dynamic_config={"matching.numTaskqueueReadPartitions": 1, "matching.numTaskqueueWritePartitions": 1},
    )


def _seaweed(servers: Servers, folder: Path, ports: tuple[int, ...]) -> Seaweed:
    return Seaweed(folder / "seaweed", identities=[servers.admin, servers.reader], ports=ports)


def _minio(servers: Servers, folder: Path, ports: tuple[int, ...]) -> Minio:
    return Minio(folder / "minio", admin=servers.admin, ports=ports)


class _NotOurs(Child):
    """The process of a server that others keep, and that others use."""

    def __init__(self) -> None:
        super().__init__("a shared server", (), log=Path("/dev/null"), pid_file=Path("/dev/null"))

    def start(self) -> NoReturn:
        raise AssertionError("the whole run shares this server; a test that starts or stops one has its own (own_...)")

    def stop(self, grace: float = 0) -> NoReturn:
        self.start()

    def kill(self) -> NoReturn:
        self.start()


_Kind = TypeVar("_Kind", bound=_Server)


def _theirs(server: _Kind) -> _Kind:
    server.child = _NotOurs()
    return server


class Keeper:
    """Starts the servers and stops them, in a thread of its own: they are tied to the thread that starts them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cs-servers-"))
        self.servers = Servers(str(self.folder / "ask"), Identity("admin"), Identity("reader", ("Read", "List")))
        self._running: dict[str, _Server] = {}
        self.makers: dict[str, Callable[[], _Server]] = {
            "temporal": lambda: _temporal(self.folder, ()),
            "seaweed": lambda: _seaweed(self.servers, self.folder, ()),
            "minio": lambda: _minio(self.servers, self.folder, ()),
        }
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.servers.socket)
        self._listener.listen(128)
        self._thread = threading.Thread(target=self._serve, name="shared servers", daemon=True)
        self._thread.start()

    def stop(self, *, keep_logs: bool = False) -> None:
        """End all, and leave nothing; again is fine. ``keep_logs``: where they are is said."""
        if not self._thread.is_alive():
            return
        ask(self.servers.socket, _STOP)
        self._thread.join()
        self._listener.close()
        logs = list(self.folder.glob("*.log")) if keep_logs else []
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path not in logs:
                path.unlink()
        if logs:
            sys.stderr.write(f"\nlogs of the servers of this run: {self.folder}\n")
        else:
            self.folder.rmdir()

    def _serve(self) -> None:
        """One question after another: who asks for a server that is being started waits for it."""
        what = ""
        while what != _STOP:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError), connection.makefile("rw") as asked:  # it may have given up
                what = asked.readline().strip()
                told = self._stopped() if what == _STOP else self._started(what)
                asked.write(json.dumps(told) + "\n")

    def _started(self, what: str) -> dict[str, Any]:
        try:
            if what not in self._running:
                server = self.makers[what]()
                server.start()
                self._running[what] = server
        except Exception as error:  # whatever it is, who asked is told
            return {"failed": f"{type(error).__name__}: {error}"}
        return {"folder": str(self.folder), "ports": self._running[what].ports}

    def _stopped(self) -> dict[str, Any]:
        while self._running:
            self._running.popitem()[1].stop()
        return {}


_SERVERS = pytest.StashKey[Servers]()
_KEEPER = pytest.StashKey[Keeper]()


def begin(config: pytest.Config) -> None:
    """Keep servers for this run or, in a worker of xdist, learn who does."""
    told = getattr(config, "workerinput", {}).get(_INPUT)
    if told is None:
        keeper = Keeper()
        config.stash[_KEEPER] = keeper
        config.stash[_SERVERS] = keeper.servers
        config.add_cleanup(keeper.stop)
    else:
        found = json.loads(told)
        identities = {name: Identity(**{**found[name], "actions": tuple(found[name]["actions"])}) for name in _WHO}
        config.stash[_SERVERS] = Servers(found["socket"], **identities)


def tell_worker(config: pytest.Config, worker_input: dict[str, Any]) -> None:
    """Give a worker of xdist what ``begin`` learns there."""
    worker_input[_INPUT] = json.dumps(asdict(config.stash[_SERVERS]))


def end(session: pytest.Session) -> None:
    """Stop what this process keeps. Workers of xdist have ended by then."""
    keeper = session.config.stash.get(_KEEPER, None)
    if keeper is not None:
        keeper.stop(keep_logs=session.exitstatus == pytest.ExitCode.TESTS_FAILED)


@pytest.fixture(scope="session")
def shared_servers(request: pytest.FixtureRequest) -> Servers:
    """The servers of the run. None is started before it is asked for."""
    return request.config.stash[_SERVERS]
