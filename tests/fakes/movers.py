"""Movers for tests: entries of a mover's process, without Temporal; and a backend with movers that are no process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from activities.backends.base import Fence, MoverSpec
from codehub_storage.errors import ErrorCode, StorageError


def idle(spec: MoverSpec, folder: str, lock_fd: int) -> None:
    """Serve until SIGTERM, then hand back the work (status 0)."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    _say(spec, "ready")
    stopped.wait()
    _say(spec, "handed-back")


def with_tar(spec: MoverSpec, folder: str, lock_fd: int) -> None:
    """A mover with a child that holds the lock; deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"], cwd=folder, pass_fds=(lock_fd,))
    _say(spec, f"tar {child.pid}")
    child.wait()


def fails(spec: MoverSpec, folder: str, lock_fd: int) -> None:
    """A mover that dies of an error at once."""
    print("about to fail", flush=True)
    raise RuntimeError("no such luck")


def reports(spec: MoverSpec, folder: str, lock_fd: int) -> None:
    """Says what surroundings it found, then serves."""
    _say(spec, "\n".join([os.getcwd(), os.environ.get("TEST_MARK", ""), str(os.getsid(0) == os.getpid())]))
    signal.pause()


def _say(spec: MoverSpec, word: str) -> None:
    path = Path(spec.environment["TEST_OUT"])
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{os.getpid()}\n{word}\n")
    fresh.rename(path)


# ------------------------------------------------------------ as a lease sees them


@dataclass
class LeasedMover:
    """Lives until it is stopped, or a test says that it has ``died``."""

    spec: MoverSpec
    died: str | None = None
    stops: int = 0

    async def wait(self, timeout: float) -> str | None:
        """See ``Mover``."""
        await asyncio.sleep(0 if self.died else min(timeout, 0.01))
        return self.died

    async def stop(self) -> None:
        """See ``Mover``."""
        self.stops += 1
        self.died = self.died or "it was stopped"


@dataclass
class LeasedMovers:
    """Of ``VolumeBackend`` what a lease calls. ``refuses``: what each attach raises first, if anything."""

    movers_outlive_worker: bool
    refuses: Callable[[], BaseException | None] = lambda: None
    movers: list[LeasedMover] = field(default_factory=list)
    detached: int = 0

    async def attach(self, spec: MoverSpec, *, fence: Fence, adopt_only: bool = False) -> LeasedMover:
        """See ``VolumeBackend``."""
        if (refusal := self.refuses()) is not None:
            raise refusal
        for mover in self.movers:
            if mover.spec == spec and mover.died is None:
                return mover
        if adopt_only:
            raise StorageError(ErrorCode.MOVER_FAILED, "nothing to adopt")
        self.movers.append(LeasedMover(spec))
        return self.movers[-1]

    async def detach(self, workspace_id: str, uid: str, *, fence: Fence, run_id: str | None = None) -> None:
        """See ``VolumeBackend``."""
        self.detached += 1
        for mover in self.movers:
            await mover.stop()
