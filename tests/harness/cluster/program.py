"""A program in an enclosure, known from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.harness.enclosure import Enclosure, child_of
from worker.dev.process import Child

_LOOK_SECONDS = 0.01


class Program:
    """One program. ``start`` after ``kill`` runs it anew. Its log stands in ``folder`` under its name."""

    def __init__(self, name: str, enclosure: Enclosure, command: Sequence[str], folder: Path) -> None:
        self._enclosure = enclosure
        self._command = command
        self._name = name
        self._folder = folder
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """As seen from here, while it runs."""
        return child_of(self._child.pid) if self._child is not None and self._child.pid is not None else None

    @property
    def log(self) -> Path:
        """What it writes."""
        return self._folder / f"{self._name}.log"

    def start(self) -> None:
        """Start it, tied to the process that put it in there, which is tied to us."""
        command = self._enclosure.command(["setpriv", "--pdeathsig", "KILL", "--", *self._command])
        self._child = Child(self._name, command, log=self.log, pid_file=self._folder / f"{self._name}.pid")
        self._child.start()

    def wait_until(self, is_ready: Callable[[], bool], timeout: float) -> None:
        """Return when ``is_ready``. Raises ``PartFailed`` with the end of its log."""
        assert self._child is not None, "not started"
        self._child.wait_until(is_ready, timeout)

    def kill(self) -> None:
        """SIGKILL, and return when it is gone. Fine if it does not run."""
        if self._child is None:
            return
        while self._child.pid is not None:  # what put it in there ends as it did
            if (pid := self.pid) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_LOOK_SECONDS)
        self._child.kill()
