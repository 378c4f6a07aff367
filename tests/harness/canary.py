"""A world around a volume that must stay as it is, and the look that shows whether it did.

The look shares no code with the data plane. It sees names, contents, kinds, modes, owners, sizes, inodes, numbers of
names, extended attributes, mtime and ctime, which nobody can set back; not atime, which reading may move.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from tests.harness.trees import ACL


class Facts(NamedTuple):
    """What is known of one name."""

    kind: int
    inode: int
    size: int
    content: object
    mode: int
    owner: tuple[int, int]
    names: int
    device: int
    mtime_ns: int
    ctime_ns: int
    xattrs: tuple[tuple[str, bytes], ...]


Changes = dict[bytes, tuple[Facts | None, Facts | None]]


class Canary:
    """``volume``: the empty folder to restore into. ``spool``: for temporary files, beside the world."""

    def __init__(self, folder: Path) -> None:
        self.world = folder / "world"
        self.volume = self.world / "a/b/volume"
        self.spool = folder / "spool"
        self.spool.mkdir()
        _make_world(self.world)
        self.volume.mkdir()
        self._before = self._look()

    @property
    def victim(self) -> bytes:
        """The absolute name of a file that is to be left alone; also ``../victim``, seen from the volume."""
        return os.fsencode(self.volume.parent / "victim")

    def changes(self) -> Changes:
        """What is not as it was outside the volume: before and now, by path. Empty is what is hoped for."""
        now = self._look()
        return {
            path: (self._before.get(path), now.get(path))
            for path in sorted(self._before.keys() | now.keys())
            if self._before.get(path) != now.get(path)
        }

    def settle(self) -> None:
        """Count changes from now on: the test itself has mounted something."""
        self._before = self._look()

    def losses(self) -> Changes:
        """Of the changes those that are more than metadata: what is new, gone, replaced, or has another content."""
        return {
            path: (before, now)
            for path, (before, now) in self.changes().items()
            if before is None or now is None or before[:4] != now[:4]
        }

    def _look(self) -> dict[bytes, Facts]:
        found: dict[bytes, Facts] = {}
        pending, volume = [os.fsencode(self.world)], os.fsencode(self.volume)
        while pending:
            path = pending.pop()
            found[path] = _facts(path)
            if found[path].kind == stat.S_IFDIR and path != volume:
                pending += [path + b"/" + name for name in os.listdir(path)]
        found[volume] = found[volume]._replace(
            size=0, mode=0, owner=(0, 0), names=0, mtime_ns=0, ctime_ns=0, xattrs=()
        )  # those are the restore's to change
        return found


def _make_world(world: Path) -> None:
    """Files, folders, links, modes, attributes and an ACL, at every distance from the volume."""
    near = world / "a/b"
    near.mkdir(parents=True)
    for folder in (world, world / "a", near):
        (folder / "victim").write_bytes(b"untouched")
        (folder / "victim").chmod(0o640)
        os.setxattr(folder / "victim", "user.mark", b"untouched")
        (folder / "open").mkdir()
        (folder / "open").chmod(0o777)
        (folder / "open/victim").write_bytes(b"untouched")
    (near / "volume-too").mkdir()
    (near / "volume-too/victim").write_bytes(b"untouched")
    (near / "setuid").write_bytes(b"#!/bin/sh\n")
    (near / "setuid").chmod(0o4755)
    (near / "link").symlink_to("victim")
    (near / "second-name").hardlink_to(near / "victim")
    os.mkfifo(near / "fifo")
    with contextlib.suppress(OSError):
        os.setxattr(near / "open", "system.posix_acl_default", ACL)


def _facts(path: bytes) -> Facts:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content: object = None
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    return Facts(
        kind,
        status.st_ino,
        status.st_size if kind != stat.S_IFDIR else 0,
        content,
        status.st_mode,
        (status.st_uid, status.st_gid),
        status.st_nlink,
        status.st_rdev,
        status.st_mtime_ns,
        status.st_ctime_ns,
        xattrs,
    )


def describe(volume: Path) -> dict[str, str]:
    """What a volume holds, in words: ``{"f": "0644 text", "l": "-> target", "d/": "0755", "p": "fifo 0600"}``."""
    found: dict[str, str] = {}
    base = os.fsencode(volume)
    pending = [base]
    while pending:
        folder = pending.pop()
        with contextlib.suppress(PermissionError):  # a folder of no mode, and we are not root
            pending += _describe_folder(folder, len(base) + 1, found)
    return found


def _describe_folder(folder: bytes, skip: int, found: dict[str, str]) -> list[bytes]:
    """Adds what is in one folder; answers the folders among it."""
    folders = []
    for name in os.listdir(folder):
        path = folder + b"/" + name
        status = os.lstat(path)
        key, mode = path[skip:].decode("latin-1"), f"{stat.S_IMODE(status.st_mode):04o}"
        if stat.S_ISDIR(status.st_mode):
            found[key + "/"] = mode
            folders.append(path)
        elif stat.S_ISLNK(status.st_mode):
            found[key] = "-> " + os.readlink(path).decode("latin-1")
        elif stat.S_ISREG(status.st_mode):
            found[key] = f"{mode} {_text(path, status)}"
        else:
            found[key] = f"{_special(status)} {mode}"
    return folders


def _special(status: os.stat_result) -> str:
    if stat.S_ISFIFO(status.st_mode):
        return "fifo"
    return "device" if status.st_rdev or not stat.S_ISCHR(status.st_mode) else "whiteout"


def _text(path: bytes, status: os.stat_result) -> str:
    if not 0 < status.st_size <= 64:
        return f"{status.st_size} bytes" if status.st_size else ""
    with open(path, "rb") as file:
        return file.read().decode("latin-1")
