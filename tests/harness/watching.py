"""The mover of a workspace as /proc shows it: who it is, and what it and its children take."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
_SAMPLE_SECONDS = 0.05
_WINDOW_SECONDS = 0.5


def mover_of(root: Path, workspace: str) -> int | None:
    """The process that holds the workspace's lock as its mover, if it lives. It leads a session of its own."""
    try:
        holder = json.loads((root / f".codehub/locks/{workspace}.lock").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    pid = int(holder["pid"])
    return pid if holder["doing"] == "mover" and _session(pid) == pid else None


def children_of(mover: int) -> list[int]:
    """Its own processes, the oldest first."""
    return sorted(pid for pid in _pids() if pid != mover and _session(pid) == mover)


class Watch:
    """Samples the movers of a workspace from a thread, within a ``with`` block.

    ``pss_bytes``: the most that a mover and its children had at a time, shared pages divided among those who share
    them. ``demand``: how many cores they took or waited for, over the busiest half second; on an idle machine that is
    what they took. ``samples``: how often they were seen. ``marks``: for movers in containers, words of which a
    process of theirs has one in the name of its control group.
    """

    def __init__(self, root: Path, workspace: str, *, marks: Callable[[], list[str]] | None = None) -> None:
        self._root = root
        self._workspace = workspace
        self._marks = marks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="watch")
        self.pss_bytes = 0
        self.demand = 0.0
        self.samples = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        began, spent = time.monotonic(), dict[str, int]()
        while not self._stop.wait(_SAMPLE_SECONDS):
            members = self._members()
            if not members:
                continue
            self.pss_bytes = max(self.pss_bytes, sum(map(pss_of, members)))
            self.samples += 1
            now = time.monotonic()
            if now - began >= _WINDOW_SECONDS:
                seen = {each.thread: each.nanoseconds for pid in members for each in _threads(pid)}
                more = sum(max(0, took - spent[thread]) for thread, took in seen.items() if thread in spent)
                self.demand = max(self.demand, more / 1e9 / (now - began))
                began, spent = now, seen

    def _members(self) -> list[int]:
        if self._marks is not None:
            marks = self._marks()
            return [pid for pid in _pids() if any(mark in _control_group(pid) for mark in marks)]
        mover = mover_of(self._root, self._workspace)
        return [] if mover is None else [pid for pid in _pids() if _session(pid) == mover]


@dataclass(frozen=True)
class _Thread:
    thread: str
    nanoseconds: int


def _threads(pid: int) -> Iterator[_Thread]:
    """Each thread with the time that it ran, or was ready to run."""
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            ran, waited, _ = (task / "schedstat").read_text().split()
            yield _Thread(str(task), int(ran) + int(waited))
    except _GONE:
        return


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except _GONE:
        return None


def _control_group(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except _GONE:
        return ""


def pss_of(pid: int) -> int:
    """Memory in bytes, shared pages divided among those who share them; 0 for a process that is gone, or going."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except _GONE:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
