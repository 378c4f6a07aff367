"""Landlock: a thread, and every process that it starts, can change files below one folder only.

The third wall around a restore, behind the scanner and the absence of links. It is the kernel's own, needs no
privilege and cannot be taken back. **It does not stop** chmod, chown, utime or setxattr outside the folder, nor
stat; below ABI 3 neither truncate(2). Those calls are therefore made only through ``beneath``.

The rule holds for the calling *thread*; other threads of the process stay free. ``ConfinedThreads`` uses that: the
event loop keeps its network, the workers are walled in.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from pathlib import Path

from activities.dataplane.threads import Stop, T
from activities.runtime.cancellation import shield_until_done
from codehub_storage.errors import ErrorCode, StorageError

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_READING = _EXECUTE | _READ_FILE | _READ_DIR
_FIRST_ABI = (1 << 13) - 1
_ADDED = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_NET_SINCE_ABI = 4
_NET_TCP = 0b11

MIN_ABI = 2
"""Before this (Linux 5.19), no file can be linked into another folder even below the root: counts as none."""

_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix/store", "/dev/zero", "/dev/urandom"),
    *("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"),
)
"""Not /proc: it shows the environment of this process, and credentials are in there."""
_libc = ctypes.CDLL(None, use_errno=True)


class Wall(StrEnum):
    """``REQUIRED``: no restore without Landlock. ``AVAILABLE``: used where the kernel has it. ``OFF``: for tests."""

    REQUIRED = "required"
    AVAILABLE = "available"
    OFF = "off"


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64), ("handled_access_net", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 where it has none, too old a one, or it is switched off."""
    version = int(_libc.syscall(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))
    return version if version >= MIN_ABI else 0


def is_used(wall: Wall) -> bool:
    """True where ``wall`` is to be put up here. ``Unsupported`` if it is required and the kernel has none."""
    if wall is Wall.OFF:
        return False
    if landlock_abi():
        return True
    if wall is Wall.REQUIRED:
        raise StorageError(
            ErrorCode.UNSUPPORTED,
            "this kernel has no Landlock, without which nothing is unpacked on this machine",
            hint="Linux 5.19 or later with landlock in its `lsm=` list, or a backend with containers.",
        )
    return False


def confine_thread(writable: Sequence[Path], readable: Iterable[Path] | None = None) -> None:
    """From here on this thread and its children write only below ``writable`` and have no TCP (from ABI 4 on).

    They read there, below ``readable`` (default: the system's and Python's own folders), and nowhere else. Final:
    a second call can only narrow. ``OSError`` if the kernel refuses.
    """
    abi = landlock_abi()
    handled = _FIRST_ABI
    for since, right in _ADDED.items():
        handled |= right if abi >= since else 0
    net = _NET_TCP if abi >= _NET_SINCE_ABI else 0
    attr = _RulesetAttr(handled, net)
    size = ctypes.sizeof(attr) if net else ctypes.sizeof(ctypes.c_uint64)
    ruleset = _call(_SYS_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path in writable:
            _allow(ruleset, path, handled)
        for path in runtime_folders() if readable is None else readable:
            _allow(ruleset, path, _READING)
        _allow(ruleset, Path("/dev/null"), _READ_FILE | _WRITE_FILE)
        if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
        _call(_SYS_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


_confined_to: list[tuple[Path, ...]] = []


def confine_process(writable: Sequence[Path]) -> None:
    """``confine_thread`` for a process of one thread, once; ``ValueError`` if it was confined to others before."""
    if not _confined_to:
        confine_thread(writable)
        _confined_to.append(tuple(writable))
    elif _confined_to[0] != tuple(writable):
        raise ValueError(f"confined to {_confined_to[0]} before")


def runtime_folders() -> list[Path]:
    """What a Python thread reads to run at all: system folders, the interpreter, its packages."""
    ours = (sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path)
    return [Path(path) for path in dict.fromkeys((*_SYSTEM, *ours)) if os.path.isabs(path) and os.access(path, os.F_OK)]


def _allow(ruleset: int, path: Path, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not path.is_dir():
            rights &= _ON_FILES
        rule = _PathBeneathAttr(rights, fd)
        _call(_SYS_ADD_RULE, ctypes.c_int(ruleset), _RULE_PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(fd)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code or errno.EINVAL)}")
    return result


class ConfinedThreads:
    """Threads that are inside the wall from their first task on, for all that touches the volume.

    They write below ``folders`` only. Leaving the context waits for the tasks that still run.
    """

    def __init__(self, *folders: Path, wall: Wall, threads: int) -> None:
        put_up = partial(confine_thread, folders) if is_used(wall) else None
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="confined", initializer=put_up)

    async def __aenter__(self) -> ConfinedThreads:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def run(self, work: Callable[[Stop], T]) -> T:
        """Run ``work`` in there; cancelled, it is stopped and waited for.

        ``Unsupported`` if the wall could not be put up, which stops every task.
        """
        stop = Stop()
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, _unless_stopped, work, stop)
            return await shield_until_done(future, on_cancel=stop.stop)
        except BrokenExecutor as error:
            raise StorageError(ErrorCode.UNSUPPORTED, "the kernel refuses to confine the threads that write") from error


def _unless_stopped(work: Callable[[Stop], T], stop: Stop) -> T:
    """A task may wait for its thread longer than its caller lives."""
    stop.check()
    return work(stop)
