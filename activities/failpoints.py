"""Named points at which a test kills or holds a process, to prove what survives there.

A module that has an effect declares its points at import, so the list of tests is generated from the code and a new
effect without a test fails the suite. In production nothing is armed and a point costs a look into the environment.

``CODEHUB_STORAGE_FAILPOINT`` arms points, separated by commas: ``name[:N][:once=FILE][:pause=FILE]``.
``N``: the N-th time that this process reaches it. ``once=FILE``: only the first process that comes here; it makes FILE.
``pause=FILE``: do not kill, but stand still, thread and event loop, from ``FILE.reached`` (made here) until FILE
exists. Without ``pause`` the process kills itself with SIGKILL: nothing is flushed, closed or undone.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "CODEHUB_STORAGE_FAILPOINT"
_POLL_SECONDS = 0.02

_points: dict[str, str] = {}
_reached: Counter[str] = Counter()


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
    """Announce a point and say what has, or has not, happened when it is reached. Answers the name.

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
    """What the point says of itself. ``KeyError`` for one that is not declared."""
    return _points[name]


def reach(name: str) -> None:
    """Kill or hold this process if the point is armed. ``KeyError`` for one that is not declared."""
    _ = _points[name]
    armed = os.environ.get(VARIABLE)
    if armed and name in armed:
        for one in map(Armed.parse, armed.split(",")):
            if one.name == name:
                _fire(one)


def _fire(point: Armed) -> None:
    _reached[point.name] += 1
    if _reached[point.name] != point.visit or not _is_first(point.once):
        return
    if point.pause is None:
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()
        return
    point.pause.with_name(point.pause.name + ".reached").touch()
    while not point.pause.exists():
        time.sleep(_POLL_SECONDS)


def _is_first(marker: Path | None) -> bool:
    if marker is None:
        return True
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
