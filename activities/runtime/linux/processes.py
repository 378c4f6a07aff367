"""Processes as /proc shows them: who they are, to which session they belong, and how to kill exactly those.

A process id alone is no identity: numbers are used again. A process is named by id, start time, boot and pid
namespace, and is killed through a pidfd that is checked after it was opened.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError)
_LISTINGS = 10


@dataclass(frozen=True)
class Process:
    """One process as it was when it was read. ``started`` is in clock ticks since boot."""

    pid: int
    name: str
    state: str
    session: int
    started: int

    @property
    def label(self) -> str:
        """As people read it."""
        return f"pid {self.pid} ({self.name})"


def look(pid: int) -> Process | None:
    """``None`` if there is no such process. A zombie counts as none: it holds nothing any more.

    A process of which only the first thread has ended looks like a zombie, and is none.
    """
    try:
        text = (PROC / str(pid) / "stat").read_bytes().decode("utf-8", "replace")
    except _GONE:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    if fields[0] in "ZX" and int(fields[17]) <= 1:
        return None
    return Process(pid, name, fields[0], session=int(fields[3]), started=int(fields[19]))


def everybody() -> Iterator[Process]:
    """All processes that /proc shows us, those too that were forked while the others were read."""
    told: set[int] = set()
    for _ in range(_LISTINGS):
        fresh = {int(entry) for entry in os.listdir(PROC) if entry.isdecimal()} - told
        if not fresh:
            return
        told |= fresh
        yield from filter(None, map(look, sorted(fresh)))


def scope() -> str:
    """Boot and pid namespace: only within one scope does a process id mean the same to two processes."""
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink(PROC / 'self/ns/pid')}"


def has_open(pid: int, path: Path) -> bool:
    """True if the process has this file open. False too where we may not see that."""
    wanted = os.stat(path)
    folder = PROC / str(pid) / "fd"
    try:
        return any(_is(folder / fd, wanted) for fd in os.listdir(folder))
    except (*_GONE, PermissionError):
        return False


def _is(link: Path, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(link), wanted)
    except (*_GONE, PermissionError):
        return False


@contextmanager
def _pinned(process: Process) -> Iterator[int | None]:
    """A pidfd of exactly this process; ``None`` if it has ended."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        now = look(process.pid)
        yield fd if now is not None and now.started == process.started else None
    finally:
        os.close(fd)


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process; gone is fine."""
    with _pinned(process) as fd:
        if fd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)


def kill_session(leader: int, started: int, lock: Path) -> list[Process]:
    """Kill a mover and all that it started; returns what was killed. Call again until no process is left.

    While the leader lives its start time proves that the session is the mover's. When it is dead, only members that
    hold ``lock`` are killed: so another session of the same number is never touched.
    """

    def is_leader(one: Process) -> bool:
        return (one.pid, one.started) == (leader, started)

    everyone = list(everybody())
    certain = any(is_leader(one) and one.session == leader for one in everyone)
    meant = [
        one for one in everyone if is_leader(one) or (one.session == leader and (certain or has_open(one.pid, lock)))
    ]
    for one in sorted(meant, key=is_leader, reverse=True):  # first the one that could start more
        send(one, signal.SIGKILL)
    return meant
