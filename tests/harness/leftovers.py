"""Finds, and ends, what tests left running.

Every process that the session starts inherits a mark in its environment, so those are found too whose parents are
gone; those that were started with an environment of their own are found as descendants.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_MARK = "STORAGE_TESTS_SESSION"
_GRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_OURS = (b"multiprocessing.forkserver", b"multiprocessing.resource_tracker")
"""Helpers of Python's own that live as long as this process, and end with it."""


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    command: bytes
    is_marked: bool


def mark() -> None:
    """Mark all processes that this one starts from now on."""
    os.environ[_MARK] = str(os.getpid())


def end_all() -> list[str]:
    """Wait a moment for what is about to end, kill the rest, and answer what that was: pid and command line."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := _left()) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return [f"{each.pid} {each.command.replace(bytes(1), b' ').decode(errors='replace')[:200]}" for each in left]


def _left() -> list[_Process]:
    processes = {each.pid: each for path in Path("/proc").glob("[0-9]*") if (each := _read(path))}
    return [
        each for each in processes.values() if _is_ours(each, processes) and not any(w in each.command for w in _OURS)
    ]


def _is_ours(process: _Process, processes: dict[int, _Process]) -> bool:
    """Marked, or below us; never we ourselves."""
    if process.pid == os.getpid():
        return False
    if process.is_marked:
        return True
    above: _Process | None = process
    while above is not None and above.pid != os.getpid():
        above = processes.get(above.parent)
    return above is not None


def _read(path: Path) -> _Process | None:
    """``None`` for one that is gone, dead, or a thread of the kernel."""
    try:
        state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
        command = (path / "cmdline").read_bytes()
        environment = (path / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    if state in "ZX" or not command:
        return None
    return _Process(int(path.name), int(parent), command, f"{_MARK}={os.getpid()}".encode() in environment)
