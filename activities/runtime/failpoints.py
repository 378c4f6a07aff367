"""Named points at which a test kills or holds a process, to prove what survives there.

A module that has an effect declares its points at import, so the list of tests is generated from the code and a new
effect without a test fails the suite. In production nothing is armed and a point only reads one variable.

``CODEHUB_STORAGE_FAILPOINT`` arms points, separated by commas: ``name[:N][:once=FILE][:pause=FILE]``.
``N``: the N-th time that this process reaches it since it was armed. ``once=FILE``: only the first process that comes
here; it makes FILE, which holds its pid.
``pause=FILE``: do not kill, but wait from ``FILE.reached`` (made here) until FILE exists. Only the task or thread that
reached the point waits. Without ``pause`` the process kills itself: nothing is flushed, closed or undone.
``@FILE`` in place of all this: FILE holds it and is read at every point, so a test arms a process that runs.
``CODEHUB_STORAGE_FAILPOINT_TRACE`` names a file to which every point is appended as it is reached.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "CODEHUB_STORAGE_FAILPOINT"
TRACE_VARIABLE = "CODEHUB_STORAGE_FAILPOINT_TRACE"
_POLL_SECONDS = 0.02

_points: dict[str, str] = {}
_reached: Counter[Armed] = Counter()
_counting = threading.Lock()


@dataclass(frozen=True)
class Armed:
    """One armed point: at which visit it fires, and how."""

    name: str
    visit: int = 1
    once: Path | None = None
    pause: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Armed:
        """``ValueError`` for what is not ``name[:N][:once=FILE][:pause=FILE]``."""
        name, *options = text.strip().split(":")
        visit, files = 1, dict[str, Path]()
        for option in options:
            word, is_file, path = option.partition("=")
            if is_file and word in ("once", "pause"):
                files[word] = Path(path)
            else:
                visit = int(option)
        return cls(name, visit, files.get("once"), files.get("pause"))


def declare(name: str, *, effect: str) -> str:
    """Announce a point, with what has, or has not, happened when it is reached. Returns the name.

    ``ValueError`` for a name that is taken.
    """
    if name in _points:
        raise ValueError(f"the failpoint {name!r} is declared twice")
    _points[name] = effect
    return name


def names() -> list[str]:
    """All declared points of the modules imported so far, sorted."""
    return sorted(_points)


def effect(name: str) -> str:
    """What the point was declared with. ``KeyError`` for one that is not declared."""
    return _points[name]


async def reach(name: str) -> None:
    """Kill this process or hold this task if the point is armed. ``KeyError`` for one that is not declared."""
    for gate in _gates(name):
        while not gate.exists():  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(_POLL_SECONDS)


def reach_in_thread(name: str) -> None:
    """The same for code that runs in a thread, or in a process without an event loop."""
    for gate in _gates(name):
        while not gate.exists():
            time.sleep(_POLL_SECONDS)


def _gates(name: str) -> Iterator[Path]:
    """The files to wait for; does not return where the point is armed to kill."""
    _ = _points[name]
    if trace := os.environ.get(TRACE_VARIABLE):
        with open(trace, "a") as file:  # appended whole: processes share it
            file.write(f"{name}\n")
    armed = _armed()
    if name not in armed:
        return
    for point in map(Armed.parse, armed.split(",")):
        if point.name == name and _is_time(point):
            if point.pause is None:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()
            else:
                point.pause.with_name(point.pause.name + ".reached").touch()
                yield point.pause


def _armed() -> str:
    text = os.environ.get(VARIABLE, "")
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text()
    except FileNotFoundError:
        return ""


def _is_time(point: Armed) -> bool:
    with _counting:
        _reached[point] += 1
        return _reached[point] == point.visit and _is_first(point.once)


def _is_first(marker: Path | None) -> bool:
    if marker is None:
        return True
    try:
        with marker.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True
