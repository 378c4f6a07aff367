"""Control workers forked from a process that has imported all of it: the time of a start goes into the test instead.

A worker so started is a process of its own, with its own session, environment, log and tie to its parent, which runs
``worker.control.main``; so is the fork server of its movers. Only the reading of modules is shared. One server for the
whole session, asked line by line.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import multiprocessing.util
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

from activities.backends.directory.movers import FORK_SERVER
from activities.runtime.linux.tied import tied
from worker.dev.process import Child, Process

_PR_SET_PDEATHSIG = 1


class ForkedWorker(Child):
    """A control worker. ``start`` after ``stop`` or ``kill`` runs it anew."""

    def __init__(self, name: str, *, log: Path, pid_file: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, (), log=log, pid_file=pid_file, environment=environment)
        self._variables = dict(environment)

    def _launch(self, log: IO[bytes]) -> Process:
        return _server().fork(self._variables, self.log)


class _Forked:
    """What ``subprocess.Popen`` offers, for a process that is no child of ours."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle: int | None = None
        with contextlib.suppress(ProcessLookupError):  # it has ended, and its parent has taken note
            self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """0 when it has ended; how is not known."""
        return 0 if self._has_ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Raises ``subprocess.TimeoutExpired``."""
        if not self._has_ended(timeout):
            raise subprocess.TimeoutExpired("worker.control", timeout or 0)
        return 0

    def terminate(self) -> None:
        """SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def _has_ended(self, timeout: float | None) -> bool:
        if self._handle is None:
            return True
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            return False
        os.close(self._handle)
        self._handle = None
        return True


class _Server:
    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            tied([sys.executable, "-m", __name__]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )

    def fork(self, environment: Mapping[str, str], log: Path) -> _Forked:
        """A worker with this environment, which writes to ``log``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps({"environment": dict(environment), "log": str(log)}) + "\n")
            self._process.stdin.flush()
            return _Forked(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End it. Workers that still live end with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@functools.cache
def _server() -> _Server:
    return _Server()


@pytest.fixture(scope="session", autouse=True)
def no_server_stays() -> Iterator[None]:
    """It begins with the first worker, and ends with the session."""
    yield
    if _server.cache_info().currsize:
        _server().close()


def main() -> None:
    """The server: a JSON object on each line of stdin is a worker; its pid is the answer. Ends with its stdin."""
    from activities.backends.directory.backend import PRELOAD
    from worker import control
    from worker.backends import MOVER_ENTRY

    for module in (*PRELOAD, MOVER_ENTRY.partition(":")[0]):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what was imported lives as long as each worker: none looks through it again
    sys.modules["__main__"] = control  # as `python -m worker.control` has it; movers ask for it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    server = os.getpid()
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become = functools.partial(_become, server, asked["environment"], asked["log"])
            _run(become, _start_fork_server, control.main)
        print(pid, flush=True)


def _become(server: int, environment: Mapping[str, str], log: str) -> None:
    """All that a process started by `Child` has of its own."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:
        os._exit(1)
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    null, to = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for source, target in ((null, 0), (to, 1), (to, 2)):
        os.dup2(source, target)
    for descriptor in (null, to):
        os.close(descriptor)


def _start_fork_server() -> None:
    """The one that movers are forked from, before this worker has threads: from now on Python's own finds it there."""
    multiprocessing.set_forkserver_preload([FORK_SERVER])
    spawn = multiprocessing.util.spawnv_passfds
    multiprocessing.util.spawnv_passfds = _fork_instead
    try:
        forkserver.ensure_running()
    finally:
        multiprocessing.util.spawnv_passfds = spawn


def _fork_instead(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
    """What ``spawnv_passfds`` does for a Python whose last argument is its program; it runs in a fork of ours."""
    pid = os.fork()
    if pid:
        return pid
    _close_all_but(*passfds)
    _run(lambda: exec(args[-1], {}))


def _close_all_but(*kept: int) -> None:
    after = 3
    for descriptor in sorted(kept):
        os.closerange(after, descriptor)
        after = descriptor + 1
    os.closerange(after, os.sysconf("SC_OPEN_MAX"))


def _run(*steps: Callable[[], object]) -> NoReturn:
    """These one after another, and then the end of the process, whatever the one who forked it was about to do."""
    status = 1
    try:
        for step in steps:
            step()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
