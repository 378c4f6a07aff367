"""A child process in our care: tied to us, logged to a file, and known again at the next start by its pid file.

Calls block; an event loop calls them in a thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from activities.runtime.linux import processes
from activities.runtime.linux.tied import tied

_LOOK_SECONDS = 0.05
_TAIL_LINES = 15


class StackError(Exception):
    """The embedded stack cannot do what it was asked."""


class PartFailed(StackError):
    """A part of the stack did not start, or ended; the message names its log and shows the last lines."""


def find_program(name: str, package: str) -> str:
    """The program beside this Python, where ``package`` puts it, or on the path. Raises ``PartFailed``."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise PartFailed(f"the program `{name}` is not installed (Python package {package})")
    return found


class Process(Protocol):
    """What a child needs of ``subprocess.Popen``."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Child:
    """One program. ``start`` after ``stop`` or ``kill`` runs it again.

    ``pid_file`` holds pid and start time while it runs, so that the next owner can end what a killed owner left.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        pid_file: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = tuple(command)
        self._pid_file = pid_file
        self._environment = environment
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it, after ending what an owner who was killed left behind. Fine if it runs."""
        if self.pid is not None:
            return
        end_leftover(self._pid_file)
        with self.log.open("ab") as log:
            self._process = self._launch(log)
        self._pid_file.write_text(f"{self._process.pid} {_start_time(self._process.pid)}")

    def _launch(self, log: IO[bytes]) -> Process:
        return subprocess.Popen(
            tied(self._command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self._environment,
            start_new_session=True,  # Ctrl-C in a terminal is for us; we end our children in their order
        )

    def wait_until(self, is_ready: Callable[[], bool], timeout: float) -> None:
        """Return when ``is_ready``. Raises ``PartFailed`` if it ends before, or is not ready after ``timeout`` s."""
        deadline = time.monotonic() + timeout
        while not is_ready():
            if self.pid is None:
                raise self.failure("ended while starting")
            if time.monotonic() > deadline:
                raise self.failure(f"is not ready after {timeout:.0f} s")
            time.sleep(_LOOK_SECONDS)

    def stop(self, grace: float = 15.0) -> None:
        """End it in order; by force after ``grace`` seconds. Fine if it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._forget()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Fine if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._forget()

    def failure(self, what: str) -> PartFailed:
        """The error for what happened to this child, with the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:] if self.log.exists() else []
        return PartFailed("\n".join([f"{self.name} {what}; its log is {self.log}", *lines]))

    def _forget(self) -> None:
        if self._process is not None:
            self._process.wait()
        self._process = None
        self._pid_file.unlink(missing_ok=True)


def end_leftover(pid_file: Path) -> None:
    """End the process that the file names, if it still is that one, and return when it is gone."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid, started = map(int, pid_file.read_text().split())
        while _start_time(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(_LOOK_SECONDS)
    pid_file.unlink(missing_ok=True)


def _start_time(pid: int) -> int | None:
    """In clock ticks since boot: with the pid it names one process. ``None`` if it is gone."""
    found = processes.look(pid)
    return found.started if found is not None else None
