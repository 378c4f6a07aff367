"""Movers as child processes: started from a fork server with all imports done, watched, ended with their children."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from activities.backends.base import MoverSpec
from activities.backends.directory import lock as locks
from activities.backends.directory import moverchild
from activities.backends.directory.lock import MOVER, Holder, Lock
from activities.backends.directory.moverchild import InheritedFd, Task
from activities.backends.wait_policy import WaitPolicy
from activities.runtime.cancellation import run_to_end
from activities.runtime.linux import processes
from activities.runtime.linux.processes import Process
from activities.runtime.scratch import scratch_prefix
from codehub_storage.errors import ErrorCode, StorageError

FORK_SERVER = "activities.backends.directory.forkserver"  # only its name: to import it is to block SIGTERM
_LOG_BYTES = 4096
_LOG_LINES = 20
_starting = threading.Lock()


class DirectoryMover:
    """A mover that this process started."""

    def __init__(
        self, child: ForkServerProcess, process: Process, task: Task, lock: Path, wait_policy: WaitPolicy
    ) -> None:
        self.spec = task.spec
        self._child = child
        self._process = process
        self._log = Path(task.log)
        self._lock = lock
        self._wait_policy = wait_policy
        self._ended = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(child.sentinel, self._note_end)

    @property
    def session(self) -> int:
        """The session of the mover and of all its children: the mover's own process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """True while the mover itself runs."""
        return not self._ended.done()

    def is_for(self, spec: MoverSpec) -> bool:
        """True if this is the mover that a lease of ``spec`` would adopt."""
        mine = replace(self.spec, environment={})
        return mine == replace(spec, environment={})

    async def wait(self, timeout: float) -> str | None:
        """``None`` while it lives after ``timeout`` seconds, else why it ended."""
        await asyncio.wait([self._ended], timeout=timeout)
        if self.is_alive():
            return None
        await self._until_gone()
        return self._reason()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL for it and its children; returns when the lock shows that none of them is left."""
        if self.is_alive():
            processes.send(self._process, signal.SIGTERM)
            await asyncio.wait([self._ended], timeout=self._wait_policy.grace_seconds)
        await self._until_gone()

    async def _until_gone(self) -> None:
        """Kill what is left, until nothing is."""
        await self._wait_policy.until(self._is_gone, lambda: f"{self._process.label} or its children do not end")

    async def _is_gone(self) -> bool | None:
        is_gone = await run_to_end(self._kill)
        if not is_gone or self.is_alive():
            return None
        await run_to_end(self._sweep)
        return True

    def _sweep(self) -> None:
        """Remove what a killed mover could not."""
        for left in Path(tempfile.gettempdir()).glob(f"{scratch_prefix(self._process.pid)}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _kill(self) -> bool:
        """True if the lock is free, or another holder's: then nothing of this mover has it any more."""
        me = self._process
        processes.kill_session(me.pid, me.started, self._lock)
        # Not waitpid: the mover's children are not ours to wait for, and each of them holds the lock until it is gone.
        if locks.is_free(self._lock):
            return True
        holder = locks.read_holder(self._lock)
        return holder is not None and (holder.pid, holder.started) != (me.pid, me.started)

    def _note_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._child.sentinel)
        self._child.join(0)
        code = self._child.exitcode
        self._child.close()
        if not self._ended.done():
            self._ended.set_result(code)

    def _reason(self) -> str:
        code = self._ended.result()
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit status {code}"
        lines = last_lines(self._log)
        return f"mover {self._process.label} {how}" + (f"; its last lines:\n{lines}" if lines else "")


@dataclass(frozen=True)
class MoverStarter:
    """How movers are started. ``preload``: modules that the fork server imports once, for all of them.

    ``environment``: variables that they get besides those of this process.
    """

    entry: str
    preload: tuple[str, ...]
    wait_policy: WaitPolicy
    environment: Mapping[str, str] = field(default_factory=dict)

    async def start(self, spec: MoverSpec, folder: Path, log: Path, lock: Lock, lock_path: Path) -> DirectoryMover:
        """Start a mover and hand it ``lock``; ours is let go. ``MoverFailed`` if it dies while it starts."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(log, log.with_name(log.name + ".old"))
        spec = replace(spec, environment={**self.environment, **spec.environment})
        task = Task(self.entry, spec, os.fspath(folder), os.fspath(log), InheritedFd(lock.fd))
        # A daemon: a process that ends in order ends its movers, instead of waiting for them for ever.
        child = _context(self.entry, self.preload).Process(
            target=moverchild.run, args=(task,), name="mover", daemon=True
        )
        try:
            process = await run_to_end(lambda: _launch(child))
        except asyncio.CancelledError:
            if child.pid is not None:
                child.kill()
            raise
        # Signed before ours is let go: a lock whose holder is not named is waited for, not evicted.
        if process is not None:
            lock.sign(_holder(process, spec))
        lock.release()
        if process is None:
            raise StorageError(ErrorCode.MOVER_FAILED, f"the mover ended while it started: {last_lines(log)}")
        return DirectoryMover(child, process, task, lock_path, self.wait_policy)


def _context(entry: str, preload: tuple[str, ...]) -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([FORK_SERVER, moverchild.__name__, entry.partition(":")[0], *preload])
    return context


def _launch(child: ForkServerProcess) -> Process | None:
    with _starting:  # it sweeps multiprocessing's set of children, which nothing guards
        child.start()
    assert child.pid is not None
    return processes.look(child.pid)


def _holder(process: Process, spec: MoverSpec) -> Holder:
    return Holder(
        process.pid,
        process.started,
        processes.scope(),
        MOVER,
        run_id=spec.run_id,
        queue=spec.queue,
        volume_uid=spec.volume_uid,
    )


def last_lines(log: Path) -> str:
    """The end of a log, for a message; empty if there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-_LOG_LINES:])
    except FileNotFoundError:
        return ""
