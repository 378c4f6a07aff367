"""Who uses a directory: processes that have something of it, and mounts of it or in it.

Device and inode decide. They are read through each process's own links in /proc. Those lead to what the process has,
whatever its name there: by another mount, in another mount namespace, below another root. They do not show what lies
*below* the directory. Where we know the mount that something was reached through, its path on the file system does. A
walk of the directory can look for all that any process has.

What cannot be seen is listed in DESIGN.md, under "What cannot be fenced". A volume is made with mode 0700, so that
without root only its owner and root get in.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from activities.runtime.linux import processes
from activities.runtime.linux.mounts import Mounts, Spot
from activities.runtime.linux.processes import PROC, Process
from activities.runtime.linux.syscalls import FileId, Inode, inode, inode_behind, share_files

_FIRST_PID_NAMESPACE, _FIRST_USER_NAMESPACE = 0xEFFFFFFC, 0xEFFFFFFD
"""Inodes in /proc that the kernel gives to no others."""
_CAP_SYS_PTRACE = 1 << 19


@dataclass(frozen=True)
class Survey:
    """One look at all processes.

    ``users`` have something that is known to lie in the directory. ``held`` is all that any process has, wherever it
    lies, each with one process that has it. A walk of the directory looks for these.
    """

    users: tuple[str, ...]
    held: Mapping[FileId, str]


@dataclass(frozen=True)
class _Held:
    """What one link leads to, and the path that the kernel gives it: empty where that is too long. Without ``file`` we
    may read the link and not follow it."""

    holder: Process
    path: bytes
    file: Inode | None

    @property
    def id(self) -> FileId | None:
        return (self.file.device, self.file.number) if self.file else None

    def spot(self, mounts: Mounts) -> Spot | None:
        return mounts.spot(self.file.mount, self.path) if self.file else mounts.spot_of(self.holder, self.path)


def users_of(folder: Path, *, sessions: Collection[int] = ()) -> tuple[str, ...]:
    """Names of the users of ``folder`` that are known without a walk. ``sessions``: see ``survey``."""
    return survey(folder, sessions=sessions).users


def survey(folder: Path, *, sessions: Collection[int] = ()) -> Survey:
    """Look at all processes but this one and the ``sessions`` of our own movers."""
    here = inode(folder)
    if here is None:
        return Survey((), {})
    mounts, held = Mounts(), list[_Held]()
    for process in processes.everybody():
        if process.pid != os.getpid() and process.session not in sessions:
            mounts.add(process)
            held.extend(_held(process))
    root, spot = (here.device, here.number), mounts.spot(here.mount, os.fsencode(folder))
    users = {}
    for each in held:
        if each.id == root or _is_in(each.spot(mounts), spot):
            users[each.holder.pid] = each.holder.label
    busy = [mount.label for mount in mounts if spot and mounts.is_in(mount, spot)]
    return Survey(
        (*users.values(), *busy),
        {each.id: each.holder.label for each in held if each.id},
    )


def _is_in(spot: Spot | None, folder: Spot | None) -> bool:
    return spot is not None and folder is not None and spot.is_in(folder)


def _held(process: Process) -> Iterator[_Held]:
    """Through its working directory, root, program, descriptors and mappings, and through those of threads that have
    their own."""
    for thread in _threads(process.pid):
        base = os.fsencode(PROC / str(thread))
        for link in (base + b"/cwd", base + b"/root", base + b"/exe", *_listed(base + b"/fd"), *_mapped(base)):
            path = _path(link)
            if path is None:
                continue
            try:
                yield _Held(process, path, inode_behind(link))
            except PermissionError:  # to follow map_files takes CAP_CHECKPOINT_RESTORE, to read them does not
                yield _Held(process, path, None)
            except OSError:  # it is gone, or of a file system that does not respond: ours does
                continue


def _mapped(base: bytes) -> list[bytes]:
    """A link for each file that is mapped. Most are mapped in several pieces. ``maps`` shows which pieces are of one
    file: to read a link costs more than a line there. Its devices and paths are believed in nothing else."""
    try:
        with open(base + b"/maps", "rb") as file:
            lines = file.read().splitlines()
    except OSError:  # it ended, or we may not look
        return []
    pieces = {}
    for line in lines:
        addresses, _, _, *which = line.split(maxsplit=5)  # rights and offset differ; device, inode, path identify it
        if which[1] != b"0" or which[-1].startswith(b"/"):  # a file system may number a file 0
            pieces[*which] = addresses
    ends = (each.split(b"-") for each in pieces.values())
    return [base + b"/map_files/%x-%x" % (int(first, 16), int(last, 16)) for first, last in ends]


def _threads(pid: int) -> list[int]:
    """The first thread of a process, and all that do not share its working directory, root and descriptors."""
    told: list[int] = []
    for folder in _listed(os.fsencode(PROC / str(pid) / "task")):
        thread = int(folder.rpartition(b"/")[2])
        if not any(share_files(thread, other) for other in told):
            told.append(thread)
    return told


def _listed(folder: bytes) -> list[bytes]:
    try:
        return [folder + b"/" + name for name in os.listdir(folder)]
    except OSError:  # it ended, or we may not look
        return []


def _path(link: bytes) -> bytes | None:
    """``None`` for what is no file that has a name, or is gone, or not for us to see."""
    try:
        path = os.readlink(link)
    except OSError as error:
        return b"" if error.errno == errno.ENAMETOOLONG else None
    return path if path.startswith(b"/") else None


def blind_spots() -> list[str]:
    """The processes whose files this process cannot see, in words, by its rights and by where it runs."""
    return [
        *([] if _sees_others() else ["processes of other users"]),
        *([] if _is_namespace("ns/pid", _FIRST_PID_NAMESPACE) else ["processes outside of this container"]),
    ]


def _sees_others() -> bool:
    status = (PROC / "self/status").read_text(errors="replace")
    (effective,) = re.findall(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(effective, 16) & _CAP_SYS_PTRACE) and _is_namespace("ns/user", _FIRST_USER_NAMESPACE)


def _is_namespace(name: str, number: int) -> bool:
    return os.stat(PROC / "self" / name).st_ino == number
