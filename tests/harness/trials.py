"""Kill trials: which there are, as one clean run tells, and one of them carried out on real processes."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from activities.runtime import failpoints
from codehub_storage.errors import StorageError
from tests.harness.site import Site
from worker import failpoint_wrappers  # noqa: F401 - declares the points of every call
from worker.dev.process import Child

READS = frozenset(
    {"get", "head", "read", "list_keys", "list_parts", "list_uploads", "list_versions"}
    | {"is_versioned", "identity", "inspect"}
)
"""Calls that change nothing, so a kill beside them differs little from one beside the call before."""
ENDS_ONLY = ("directory.", "mover.store.read.")
"""Points that are met once for each file or segment, or once: short runs take the first and the last visit."""

_LOOK_SECONDS = 0.02
PATIENCE_SECONDS = 600
"""After that a trial is stuck; nothing is measured by it."""


@dataclass(frozen=True)
class Trial:
    """Kill the process that reaches ``point`` for the ``visit``-th time during ``operation``."""

    operation: str
    point: str
    visit: int

    @property
    def role(self) -> str:
        """The kind of process that is killed."""
        return "mover" if self.point.startswith(("mover.", "directory.mover.")) else "control"

    @property
    def is_read(self) -> bool:
        """True beside a call that changes nothing. How often those are made differs a little from run to run."""
        return not self.point.startswith("directory.") and self.point.split(".")[2] in READS

    def __str__(self) -> str:
        return f"{self.operation} / {self.point}:{self.visit}"


def trials_of(operation: str, trace: Iterable[str], *, full: bool) -> list[Trial]:
    """All trials of an operation whose clean run left ``trace``; in the short form those that can differ most."""
    found = []
    for point, visits in sorted(Counter(trace).items()):
        if full or not point.startswith(ENDS_ONLY):
            every = [Trial(operation, point, visit) for visit in range(1, visits + 1)]
            found += [trial for trial in every if full or not trial.is_read]
        else:
            found += [Trial(operation, point, visit) for visit in sorted({1, visits})]
    return found


class Seat:
    """A site whose one worker process can be killed at any point, and is then replaced."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self._met: set[str] = set()
        self._folder = folder
        self._armed = folder / "armed"
        self._trace = folder / "trace"
        self._trials = 0
        self._worker: Child | None = None

    def ensure_worker(self) -> None:
        """A worker runs afterwards; it is armed by what ``kill`` writes, also while it runs."""
        if self._worker is None:
            self._worker = self.site.start_worker(
                **{failpoints.VARIABLE: f"@{self._armed}", failpoints.TRACE_VARIABLE: str(self._trace)}
            )
        self._worker.start()

    def traced(self) -> list[str]:
        """The points that were reached since the last call."""
        if not self._trace.exists():
            return []
        trace = self._trace.read_text().split()
        self._trace.unlink()
        self._met.update(trace)
        return trace

    def all_traced(self) -> set[str]:
        """The points that were ever reached here."""
        self.traced()
        return self._met

    async def kill(
        self, trial: Trial, call: Callable[[], Awaitable[object]], at_kill: Callable[[], Awaitable[object]]
    ) -> None:
        """Carry out a trial: ``call`` is killed, ``at_kill`` looks, the worker is replaced, the operation ends.

        Its own call ends it, or where that fails with an error that says so, the same call once more. A read that is
        not made this time is no trial.
        """
        self.traced()
        self._trials += 1
        marker = self._folder / f"killed-{self._trials}"
        self._armed.write_text(f"{trial.point}:{trial.visit}:once={marker}")
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(_called(call))
            pid = await _killed(marker, running)
            self._armed.unlink()
            if pid is None:
                assert trial.is_read, f"the operation ended without coming there, by {self.traced()}"
                return
            await at_kill()
            if self._worker is not None and self._worker.pid in (None, pid):
                self._worker.kill()  # dead already; its last thread may not be
            self.ensure_worker()


async def _called(call: Callable[[], Awaitable[object]]) -> None:
    try:
        await call()
    except StorageError as error:
        if not error.retryable:
            raise
        print(f"called again after {error!r} ({error.__cause__!r})")
        await call()


async def _killed(marker: Path, running: asyncio.Task[None]) -> int | None:
    """The process that is dead now; ``None`` if the operation ended before any was."""
    while True:
        is_over = running.done()
        if marker.exists() and (text := marker.read_text()):
            if not _is_alive(int(text)):
                return int(text)
        elif is_over:
            return None
        await asyncio.sleep(_LOOK_SECONDS)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX" and os.getpid() != pid
