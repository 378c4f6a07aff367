"""The system calls that the standard library lacks: statx (birth, mount), renameat2 (never replace), kcmp, syncfs,
prctl."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import stat
import struct
from dataclasses import dataclass

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_NO_AUTOMOUNT = 0x800
_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_BASIC = 0x7FF
_STATX_BTIME = 0x800
_STATX_MNT_ID = 0x1000
_RENAME_NOREPLACE = 1
_KCMP = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
_KCMP_FILES, _KCMP_FS = 2, 3

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15

_libc = ctypes.CDLL(None, use_errno=True)

FileId = tuple[int, int]
"""Device and inode: which file it is, whatever it is called."""


@dataclass(frozen=True)
class Inode:
    """Which file it is, whatever its path.

    ``born_ns`` distinguishes an inode number that is used again from the first one; ``None`` where the file system does
    not keep it. ``mount`` distinguishes a bind mount of the same file system from the tree around it; ``None`` before
    Linux 5.8.
    """

    device: int
    number: int
    mode: int
    born_ns: int | None
    mount: int | None

    @property
    def is_folder(self) -> bool:
        """True for a directory; a link to one is none."""
        return stat.S_ISDIR(self.mode)

    def is_same_mount(self, other: Inode) -> bool:
        """True unless a mount lies between the two."""
        return (self.device, self.mount) == (other.device, other.mount)


def inode(path: str | os.PathLike[str]) -> Inode | None:
    """The inode at ``path``, no link followed in its last part; ``None`` if nothing is there."""
    try:
        return _statx(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW)
    except FileNotFoundError:
        return None


def inode_of_fd(fd: int) -> Inode:
    """The inode behind an open descriptor."""
    return _statx(fd, b"", _AT_EMPTY_PATH)


def inode_behind(link: bytes) -> Inode:
    """The inode that a link of /proc leads to, as the kernel knows it: a server that is gone is not waited for."""
    return _statx(_AT_FDCWD, link, _AT_STATX_DONT_SYNC)


def share_files(one: int, other: int) -> bool:
    """True if two threads share descriptors, working directory and root. False too where that cannot be found out."""
    if _KCMP is None:
        return False
    return all(_libc.syscall(_KCMP, one, other, kind, 0, 0) == 0 for kind in (_KCMP_FILES, _KCMP_FS))


def _statx(fd: int, path: bytes, flags: int) -> Inode:
    buffer = ctypes.create_string_buffer(256)
    wanted = _STATX_BASIC | _STATX_BTIME | _STATX_MNT_ID
    if _libc.statx(fd, path, flags | _AT_NO_AUTOMOUNT, wanted, buffer) != 0:
        raise _error(path)
    (known,) = struct.unpack_from("=I", buffer, 0)
    (mode,) = struct.unpack_from("=H", buffer, 28)
    (number,) = struct.unpack_from("=Q", buffer, 32)
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, 80)
    major, minor, mount = struct.unpack_from("=IIQ", buffer, 136)
    return Inode(
        device=os.makedev(major, minor),
        number=number,
        mode=mode,
        born_ns=seconds * 1_000_000_000 + nanoseconds if known & _STATX_BTIME else None,
        mount=mount if known & _STATX_MNT_ID else None,
    )


def rename_new(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename, and never replace: ``FileExistsError`` if anything is at ``target``, even an empty directory."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) != 0:
        error = _error(os.fsencode(target))
        if error.errno == errno.EINVAL:
            error.strerror = "this file system cannot rename without replacing (RENAME_NOREPLACE)"
        raise error


def set_mode(fd: int, mode: int) -> None:
    """Change the mode of what ``fd`` was opened on, with O_PATH too: by name it could go through a link."""
    os.chmod(f"/proc/self/fd/{fd}", mode)


def die_with_parent_thread(name: bytes) -> None:
    """Have the kernel kill this process once the thread that forked it has ended; ``name`` is its new name."""
    _libc.prctl(_PR_SET_NAME, name)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _error(path: bytes) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), os.fsdecode(path))


def sync_file_system(path: str) -> None:
    """Write what the file system that holds ``path`` has to disk. ``OSError`` if the kernel refuses.

    Python has os.sync, which waits for every disk of the machine; syncfs waits for the one that matters.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor) != 0:
            raise _error(os.fsencode(path))
    finally:
        os.close(descriptor)
