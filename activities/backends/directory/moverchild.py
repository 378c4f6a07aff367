"""What a mover does before its own work begins: it makes sure that it ends with its worker, and its children with it.

Two walls. A thread waits for the end of the worker and then kills the process group, itself included. And the kernel
kills the mover when the fork server ends, which follows the worker; this one holds where the thread cannot run.
The archiver that a mover runs is of its group, and the kernel kills it when the mover ends.
"""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, reduction
from typing import Any

from activities.backends.base import MoverSpec
from activities.runtime import failpoints
from activities.runtime.linux.syscalls import die_with_parent_thread

_NAME = b"storage-mover"
_BEGUN = failpoints.declare("directory.mover.begun", effect="the mover lives and has the lock, its work not begun")

MoverEntry = Callable[[MoverSpec, str, int], None]
"""The mover's work: (spec, directory, descriptor of the lock that its children must inherit)."""


class InheritedFd:
    """A descriptor that travels to a child of the fork server; both then share the open file description."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self.fd),)


def _received(wrapped: Any) -> InheritedFd:
    return InheritedFd(wrapped.detach())


@dataclass(frozen=True)
class Task:
    """All that a mover is passed. ``entry`` is ``package.module:function``, a ``MoverEntry``."""

    entry: str
    spec: MoverSpec
    folder: str
    log: str
    lock: InheritedFd


def run(task: Task) -> None:
    """The main function of the mover's process."""
    os.setsid()
    _die_with_worker()
    _redirect(task.log)
    os.chdir("/")
    os.environ.update(task.spec.environment)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked by the fork server
    failpoints.reach_in_thread(_BEGUN)
    module, _, function = task.entry.partition(":")
    entry: MoverEntry = getattr(importlib.import_module(module), function)
    entry(task.spec, task.folder, task.lock.fd)


def _die_with_worker() -> None:
    die_with_parent_thread(_NAME)
    # The fork server ends when no process has the other end of its pipe. If movers kept it, it would outlive us.
    server: Any = multiprocessing.forkserver._forkserver
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
    worker = multiprocessing.parent_process()
    assert worker is not None
    threading.Thread(target=_watch, args=(worker.sentinel,), name="worker-watch", daemon=True).start()


def _watch(sentinel: int) -> None:
    connection.wait([sentinel])
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _redirect(log: str) -> None:
    """Output to the log, input from nowhere: a mover shares nothing with its worker's terminal."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nowhere), (1, out), (2, out)):
        os.dup2(source, target)
    os.close(out)
    os.close(nowhere)
