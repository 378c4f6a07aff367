"""File operations that cannot leave one folder, whatever the names say.

A restore writes names that somebody else chose. Every parent folder is resolved by ``openat2`` with RESOLVE_BENEATH
and RESOLVE_NO_SYMLINKS, and the last component is used only with calls that do not follow a link. Names are bytes.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from activities.dataplane.entries import LONGEST_PATH
from codehub_storage.errors import ErrorCode, StorageError

NAME_MAX = 255
_SYS_OPENAT2 = 437
_RESOLVE_BENEATH = 0x08
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_XDEV = 0x01
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STRETCH = 4000
"""Paths longer than PATH_MAX are resolved in stretches of at most this many bytes."""
_KEPT_FOLDERS = 32
_CONTRADICTIONS = frozenset(
    {
        *(errno.EXDEV, errno.ELOOP, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT),
        *(errno.ENAMETOOLONG, errno.EINVAL, errno.ERANGE, errno.E2BIG, errno.EMLINK),
    }
)
"""A link in the way, a file where a folder should be, a parent that was never announced, a name nobody can write."""
_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(folder: int, path: bytes, flags: int) -> int:
    """A descriptor of ``path`` below the open ``folder``. ``OSError``: EXDEV and ELOOP for a way out or a link.

    It crosses no mount either: a volume is one file system.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE)
    while True:
        fd = _libc.syscall(_SYS_OPENAT2, folder, ctypes.c_char_p(path), ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        # EAGAIN: a rename somewhere on the machine raced with the kernel's check; it asks to be called again.
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code), path)


def clean_components(path: bytes) -> list[bytes]:
    """The components of a relative name. ``ArchiveCorrupt`` for one that no archive of a folder contains.

    Refused: empty, absolute, ``.``, ``..``, empty components, NUL, components beyond 255 bytes, endless ones.
    """
    if len(path) > LONGEST_PATH:
        raise StorageError(ErrorCode.ARCHIVE_CORRUPT, f"the archive holds an endless name: {shown(path[:NAME_MAX])}...")
    parts = path.split(b"/")
    is_long = len(path) > NAME_MAX and max(map(len, parts)) > NAME_MAX
    if is_long or b"\0" in path or b"" in parts or b"." in parts or b".." in parts:
        raise StorageError(ErrorCode.ARCHIVE_CORRUPT, f"the archive holds the unsafe name {shown(path)}")
    return parts


def shown(path: bytes) -> str:
    """A name for a message: printable, and not longer than a line."""
    text = ascii(os.fsdecode(path[:200]))
    return text if len(path) <= 200 else f"{text}..."


def as_storage_error(error: OSError, path: bytes) -> StorageError:
    """What a failed write into the volume means to the caller; raise it ``from`` the ``OSError``."""
    message = f"{shown(path)}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(ErrorCode.NO_SPACE, message)
    if error.errno in _CONTRADICTIONS:
        return StorageError(ErrorCode.ARCHIVE_CORRUPT, f"the archive asks for the impossible at {message}")
    if error.errno == errno.EFBIG:
        return StorageError(ErrorCode.ARCHIVE_TOO_LARGE, message)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(ErrorCode.ACCESS_DENIED, message)
    if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
        return StorageError(
            ErrorCode.UNSUPPORTED, message, hint="Linux 5.6 or later and a POSIX file system are needed."
        )
    return StorageError(ErrorCode.BACKEND_UNAVAILABLE, message)


class writing:  # noqa: N801  # a class because a generator costs three times as much, and a file needs three of them
    """Translate the ``OSError`` of writing ``path``, within a ``with`` block."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, OSError):
            raise as_storage_error(error, self._path) from error


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """All of ``data`` at ``offset``."""
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


class Beneath:
    """One folder and what is below it. For one thread: parents are kept open and reused.

    Methods raise ``OSError`` from the kernel and ``ArchiveCorrupt`` for an unclean name; the empty name is the
    folder itself where a method says so.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY | os.O_NOFOLLOW)
        self._folders: OrderedDict[bytes, int] = OrderedDict()

    def __enter__(self) -> Beneath:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors. May be called twice."""
        while self._folders:
            os.close(self._folders.popitem()[1])
        if self._root >= 0:
            os.close(self._root)
        self._root = -1

    @property
    def root_fd(self) -> int:
        """The folder itself."""
        return self._root

    def folder(self, path: bytes) -> int:
        """An open descriptor of the folder ``path`` (empty: the root). Valid until the next call on this object."""
        if not path:
            return self._root
        if path in self._folders:
            self._folders.move_to_end(path)
            return self._folders[path]
        fd = self._open_far(clean_components(path), _DIRECTORY)
        self._folders[path] = fd
        if len(self._folders) > _KEPT_FOLDERS:
            os.close(self._folders.popitem(last=False)[1])
        return fd

    def split(self, path: bytes) -> tuple[int, bytes]:
        """The open parent of ``path`` and its last component. Valid until the next call on this object."""
        clean_components(path)
        parent, _, name = path.rpartition(b"/")
        return self.folder(parent), name

    def _open_far(self, parts: list[bytes], flags: int) -> int:
        at, rest = self._root, parts
        while True:
            stretch, rest = _take_stretch(rest)
            try:
                fd = open_beneath(at, b"/".join(stretch), flags if not rest else _DIRECTORY)
            finally:
                if at != self._root:
                    os.close(at)
            if not rest:
                return fd
            at = fd

    def lstat(self, path: bytes) -> os.stat_result | None:
        """What is there, links not followed; ``None`` where nothing is."""
        try:
            parent, name = self.split(path)
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def mkdir(self, path: bytes, mode: int = 0o700) -> None:
        """Make a folder; one that is there already is fine, anything else there is ``FileExistsError``."""
        parent, name = self.split(path)
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            if not _is_folder(parent, name):
                raise

    def makedirs(self, path: bytes) -> list[bytes]:
        """Make a folder and those above it, 0700; answers those that were missing, from the top."""
        missing: list[bytes] = []
        while path and self.find_folder(path) is None:
            missing.append(path)
            path = path.rpartition(b"/")[0]
        missing.reverse()
        for folder in missing:
            self.mkdir(folder)
        return missing

    def find_folder(self, path: bytes) -> int | None:
        """A descriptor as ``folder`` gives, ``None`` where nothing is."""
        try:
            return self.folder(path)
        except FileNotFoundError:
            return None

    def create(self, path: bytes) -> int:
        """A new regular file, 0600, open for writing. ``FileExistsError`` if the name is taken."""
        parent, name = self.split(path)
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)

    def replace(self, path: bytes) -> int:
        """As ``create``, instead of what a former attempt left under that name."""
        try:
            return self.create(path)
        except FileExistsError:
            self.remove(path)
            return self.create(path)

    def open_shared(self, path: bytes) -> int:
        """A regular file open for writing, made if missing: pieces of one file are written side by side."""
        parent, name = self.split(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=parent)

    def remove(self, path: bytes) -> None:
        """Remove a name that is no folder. Missing is fine."""
        parent, name = self.split(path)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)

    def symlink(self, path: bytes, target: bytes) -> None:
        """Make a symbolic link; its target is text to us and never followed."""
        parent, name = self.split(path)
        os.symlink(target, name, dir_fd=parent)

    def readlink(self, path: bytes) -> bytes:
        """The target of a symbolic link."""
        parent, name = self.split(path)
        return os.readlink(name, dir_fd=parent)

    def link(self, path: bytes, target: bytes) -> None:
        """Make ``path`` a further name of ``target``, which is a name below the root as well."""
        old_parent, old_name = self.split(target)
        old_parent = os.dup(old_parent)
        try:
            parent, name = self.split(path)
            os.link(old_name, name, src_dir_fd=old_parent, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(old_parent)

    def mknod(self, path: bytes, mode: int, device: int = 0) -> None:
        """Make a FIFO or a device; ``mode`` includes the type."""
        parent, name = self.split(path)
        os.mknod(name, mode, device, dir_fd=parent)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        """Set the owner, links not followed (empty name: the root)."""
        with self._handle(path) as handle:
            os.chown(handle, uid, gid, follow_symlinks=False)

    def chmod(self, path: bytes, mode: int) -> None:
        """Set the mode of anything but a symbolic link (empty name: the root)."""
        with self._pinned(path) as proc:
            os.chmod(proc, mode)

    def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        """Set the times, links not followed (empty name: the root)."""
        with self._handle(path) as handle:
            os.utime(handle, ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def setxattr(self, path: bytes, name: bytes, value: bytes) -> None:
        """Set one extended attribute, links not followed (empty name: the root)."""
        with self._handle(path) as handle:
            os.setxattr(handle, name, value, follow_symlinks=False)

    def removexattr(self, path: bytes, name: bytes) -> None:
        """Remove one extended attribute. Missing, or a file system without such, is fine."""
        with self._handle(path) as handle:
            try:
                os.removexattr(handle, name, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise

    @contextmanager
    def _handle(self, path: bytes) -> Iterator[bytes]:
        """A path for calls that take no folder descriptor: its parent is pinned, its last component is not followed."""
        if path:
            parent, name = self.split(path)
            yield b"/proc/self/fd/%d/%s" % (parent, name)
        else:
            yield b"/proc/self/fd/%d/." % self._root

    @contextmanager
    def _pinned(self, path: bytes) -> Iterator[bytes]:
        """A path that names exactly one inode, opened without following it; chmod of a link is ``EOPNOTSUPP``."""
        fd = self._open_far(clean_components(path), os.O_PATH | os.O_NOFOLLOW) if path else os.dup(self._root)
        try:
            yield b"/proc/self/fd/%d" % fd
        finally:
            os.close(fd)


def _take_stretch(parts: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """As many leading components as one system call takes, and the rest."""
    length = 0
    for count, part in enumerate(parts):
        length += len(part) + 1
        if length > _STRETCH:
            return parts[:count], parts[count:]
    return parts, []


def _is_folder(parent: int, name: bytes) -> bool:
    try:
        os.close(os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent))
    except OSError:
        return False
    return True
