"""The mounts of every mount namespace that can be seen, and where on its file system a path lies.

A path alone is not enough: a bind mount shows the same file under another one, and another namespace may have anything
mounted anywhere. A path and the mount that it was reached through identify one part of one file system.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from activities.runtime.linux.processes import PROC, Process

_ESCAPE = re.compile(rb"\\([0-7]{3})")


def is_at_or_below(path: bytes, folder: bytes) -> bool:
    """True for the directory itself and all in it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


@dataclass(frozen=True)
class Spot:
    """A path that counts from the root of its file system, and so is the same through every mount."""

    device: bytes
    path: bytes

    def is_in(self, folder: Spot) -> bool:
        """True for the directory itself and all in it."""
        return self.device == folder.device and is_at_or_below(self.path, folder.path)


@dataclass(frozen=True)
class Mount:
    """One line of a mountinfo: which part of which file system is mounted where. ``owner``: the process it is from."""

    number: int
    parent: int
    device: bytes
    source: bytes
    target: bytes
    owner: Process | None = None

    @property
    def label(self) -> str:
        """As people read it."""
        target = f"mount {os.fsdecode(self.target)}"
        return f"{target} of {self.owner.label}" if self.owner else target

    def spot(self, path: bytes) -> Spot | None:
        """Where ``path`` lies, which was reached through this mount; ``None`` if it cannot have been."""
        if not is_at_or_below(path, self.target):
            return None
        below = path[len(self.target.rstrip(b"/")) :]
        return Spot(self.device, self.source.rstrip(b"/") + below)


class Mounts:
    """Those of our own mount namespace, and of the namespaces of the processes that were added."""

    def __init__(self) -> None:
        self._views: dict[tuple[bytes, bytes], list[Mount]] = {}
        self._view_of: dict[int, list[Mount]] = {}
        self._by_number = {mount.number: mount for mount in own_mounts()}

    def __iter__(self) -> Iterator[Mount]:
        return iter(self._by_number.values())

    def add(self, process: Process) -> None:
        """Learn the mounts that this process sees."""
        folder = os.fsencode(PROC / str(process.pid))
        try:
            root = os.readlink(folder + b"/root")
            view = os.readlink(folder + b"/ns/mnt"), root
            if view not in self._views:
                self._views[view] = list(_mounts(folder, root, process))
        except OSError:  # it ended, or we may not look
            return
        self._view_of[process.pid] = self._views[view]
        for mount in self._views[view]:
            self._by_number.setdefault(mount.number, mount)  # the numbers are one for all namespaces

    def spot(self, number: int | None, path: bytes) -> Spot | None:
        """Where ``path`` lies, which was reached through the mount of this number. ``None`` for a mount that no added
        process has (any more); it may be detached."""
        mount = self._by_number.get(number or 0)
        return mount.spot(path) if mount else None

    def spot_of(self, process: Process, path: bytes) -> Spot | None:
        """Where ``path`` lies as the process sees it now."""
        around = [mount for mount in self._view_of.get(process.pid, ()) if is_at_or_below(path, mount.target)]
        if not around:
            return None
        nearest = max(reversed(around), key=lambda mount: len(mount.target))  # of two on one point the later is seen
        return nearest.spot(path)

    def is_in(self, mount: Mount, folder: Spot) -> bool:
        """True for a mount of the directory or of something in it, at any path, and for one mounted in it."""
        around = self._by_number.get(mount.parent)
        stands = around.spot(mount.target) if around else None
        return Spot(mount.device, mount.source).is_in(folder) or (stands is not None and stands.is_in(folder))


def own_mounts() -> Iterator[Mount]:
    """As this process sees them."""
    return _mounts(os.fsencode(PROC / "self"))


def mounts_below(folder: Path) -> list[str]:
    """Paths at or below ``folder`` where something is mounted, as this process sees it."""
    return [os.fsdecode(mount.target) for mount in own_mounts() if is_at_or_below(mount.target, os.fsencode(folder))]


def _mounts(process: bytes, root: bytes = b"/", owner: Process | None = None) -> Iterator[Mount]:
    """``root``: that of the process, from which its targets count; ours count from our own."""
    with open(process + b"/mountinfo", "rb") as lines:
        for line in lines:
            number, parent, device, source, target = line.split(b" ", 5)[:5]
            path = root.rstrip(b"/") + _plain(target)
            yield Mount(int(number), int(parent), device, _plain(source), path.rstrip(b"/") or b"/", owner)


def _plain(text: bytes) -> bytes:
    """Undo the kernel's octal escapes of blanks and line ends."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), text)


def mount_of(path: Path, mountinfo: bytes | None = None) -> tuple[str, str, frozenset[str]]:
    """Mount point, file system and options of ``path``, which has no links in it, by the kernel's own list."""
    best: tuple[str, str, frozenset[str]] = ("/", "unknown", frozenset())
    table = (PROC / "self/mountinfo").read_bytes() if mountinfo is None else mountinfo
    for line in table.splitlines():
        fields, _, rest = line.partition(b" - ")
        words = fields.split()
        point = os.fsdecode(_plain(words[4]))
        is_above = path.is_relative_to(point)
        if is_above and len(point) >= len(best[0]):  # of two on one point the later one is seen
            best = (point, os.fsdecode(rest.split()[0]), frozenset(os.fsdecode(words[5]).split(",")))
    return best
