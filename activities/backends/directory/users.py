"""Who uses a folder: processes with something of it open, and mounts of it or below it.

What cannot be seen: without root, the files of processes of other users; and those in a container whose /proc we are
not shown. A volume is made with mode 0700, so that without root only its owner and root get in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from activities.backends.base import VolumeUser
from activities.backends.directory import processes
from activities.backends.directory.processes import PROC, Process

_UNSEEN = (FileNotFoundError, ProcessLookupError, PermissionError)
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of a mountinfo: which part of which file system stands where."""

    device: bytes
    source: bytes
    target: bytes


def users_of(folder: Path, *, sessions: Collection[int] = ()) -> tuple[VolumeUser, ...]:
    """All that can be seen to use ``folder``, but for this process and the ``sessions`` of our own movers."""
    spot = os.fsencode(folder)
    others = [one for one in processes.everybody() if one.pid != os.getpid() and one.session not in sessions]
    busy = [VolumeUser(one.label) for one in others if _has_inside(one.pid, spot)]
    return (*busy, *(VolumeUser(name) for name in _mounts_of(spot, others)))


def mounts_below(folder: Path) -> list[str]:
    """Where something is mounted at or below ``folder``, as this process sees it."""
    return [os.fsdecode(mount.target) for mount in _mounts("self") if is_at_or_below(mount.target, os.fsencode(folder))]


def is_at_or_below(path: bytes, folder: bytes) -> bool:
    """True for the folder itself and all in it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _has_inside(pid: int, folder: bytes) -> bool:
    base = os.fsencode(PROC / str(pid))
    links = [base + b"/cwd", base + b"/root", base + b"/exe", *_listed(base + b"/fd")]
    return any(is_at_or_below(_target(link), folder) for link in links) or _maps(base + b"/maps", folder)


def _listed(folder: bytes) -> list[bytes]:
    try:
        return [folder + b"/" + name for name in os.listdir(folder)]
    except _UNSEEN:
        return []


def _target(link: bytes) -> bytes:
    try:
        return os.readlink(link)
    except _UNSEEN:
        return b""


def _maps(path: bytes, folder: bytes) -> bool:
    """Mapped files keep no descriptor. Lines: range, rights, offset, device, inode, path."""
    try:
        with open(path, "rb") as lines:
            return any(is_at_or_below(_plain(line.split(None, 5)[-1].rstrip(b"\n")), folder) for line in lines)
    except _UNSEEN:
        return False


def _mounts_of(folder: bytes, others: list[Process]) -> Iterator[str]:
    """Mounts at or below the folder, and bind mounts of it elsewhere, in each mount namespace that we may see."""
    own = list(_mounts("self"))
    device, inside = _place_on_device(folder, own)
    for owner, mounts in [("", own), *_other_namespaces(others)]:
        for mount in mounts:
            bound = mount.device == device and is_at_or_below(mount.source, inside)
            if bound or is_at_or_below(mount.target, folder):
                yield f"mount {os.fsdecode(mount.target)}{owner}"


def _place_on_device(folder: bytes, mounts: list[Mount]) -> tuple[bytes, bytes]:
    """The device of the folder, and its path counted from that file system's own root."""
    around = [mount for mount in mounts if mount.target != folder and is_at_or_below(folder, mount.target)]
    if not around:
        return b"", b""
    nearest = max(around, key=lambda mount: len(mount.target))
    below = os.path.relpath(folder, nearest.target)
    return nearest.device, os.path.join(nearest.source, below)


def _other_namespaces(others: list[Process]) -> Iterator[tuple[str, list[Mount]]]:
    seen = {_target(os.fsencode(PROC / "self/ns/mnt")), b""}
    for one in others:
        namespace = _target(os.fsencode(PROC / str(one.pid) / "ns/mnt"))
        if namespace not in seen:
            seen.add(namespace)
            yield f" of {one.label}", list(_mounts(str(one.pid)))


def _mounts(pid: str) -> Iterator[Mount]:
    try:
        lines = (PROC / pid / "mountinfo").read_bytes().splitlines()
    except (*_UNSEEN, OSError):
        return
    for line in lines:
        fields = line.split(b" ")
        yield Mount(fields[2], _plain(fields[3]), _plain(fields[4]))


def _plain(text: bytes) -> bytes:
    """Undo the kernel's octal escapes of blanks and line ends."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), text)
