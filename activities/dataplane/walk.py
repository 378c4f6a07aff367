"""One streaming walk over a tree, in archive order, from which plan and fingerprints are made.

The order is bytewise by path component, a folder before what it holds. Memory: the names of the folders that are open
and the hard-link groups of which names are still outstanding. The walk opens folders only, never follows a link, and
never leaves the file system that it started on.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from activities.dataplane.entries import EMPTY_CONTENT, LONGEST_PATH, Content, Entry, FileType, change_bytes, content_of
from activities.dataplane.threads import Stop, run_blocking
from codehub_storage.errors import ErrorCode, StorageError

MAX_OPEN_FOLDERS = 64
"""Deeper than that the outer folders are closed, and found again through ``..``."""

_FILE, _DIRECTORY, _SYMLINK = FileType.FILE, FileType.DIRECTORY, FileType.SYMLINK
_DEVICES = FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPES = {
    stat.S_IFREG: FileType.FILE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFLNK: FileType.SYMLINK,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFSOCK: FileType.SOCKET,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
}
_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.EINVAL, errno.ENODATA)
"""The last two: no link any more when its target was asked for, and an attribute that is gone."""
_BATCH = 1024
_STIR_EVERY = 4096

Held = Mapping[tuple[int, int], str]
"""Files that somebody has, by device and inode, and who: a walk that meets one ends."""
NOTHING_HELD: Held = MappingProxyType({})


def show(path: bytes) -> str:
    """A name of arbitrary bytes, readable in a message or a log."""
    return path.decode("utf-8", "backslashreplace") or "."


def volume_changed(path: bytes, why: str) -> StorageError:
    """``VolumeChanged``, naming the path."""
    return StorageError(ErrorCode.VOLUME_CHANGED, f"{show(path)}: {why}", details={"path": show(path)})


def _in_use(path: bytes, holder: str) -> StorageError:
    return StorageError(
        ErrorCode.VOLUME_IN_USE,
        f"{show(path)} is used by {holder}",
        details={"path": show(path), "users": [holder]},
    )


def volume_error(path: bytes, error: OSError) -> StorageError:
    """What an error on a path of the volume means: it vanished (``VolumeChanged``), or it cannot be read."""
    if error.errno in _REPLACED:
        return volume_changed(path, "vanished or was replaced while it was read")
    return StorageError(
        ErrorCode.VOLUME_UNREADABLE, f"{show(path)}: {error.strerror or error}", details={"path": show(path)}
    )


@dataclass
class _Folder:
    path: bytes
    identity: tuple[int, int]
    fd: int | None
    names: list[bytes] = field(default_factory=list)


class _Walk:
    """The state of one walk; ``entries`` is the whole of it."""

    def __init__(self, root: Path | str, *, xattrs: bool, chdir: bool, held: Held) -> None:
        self._root = os.fsencode(root)
        self._xattrs = xattrs
        self._held = held
        self._chdir = chdir
        self._at = b""
        """Before a name in the innermost folder, for calls that take no descriptor of it."""
        self._folders: list[_Folder] = []
        self._groups: dict[tuple[int, int], tuple[bytes, int]] = {}

    def entries(self) -> Iterator[Entry]:
        """The root, then everything below it."""
        try:
            yield self._enter_root()
            self._stand()
            while self._folders:
                folder = self._folders[-1]
                if folder.names:
                    entry = self._look(folder, folder.names.pop())
                    yield entry
                    if entry.type is _DIRECTORY:
                        self._enter(folder, entry)
                        self._stand()
                else:
                    self._leave()
                    self._stand()
        finally:
            if self._chdir:
                os.chdir("/")
            for folder in self._folders:
                if folder.fd is not None:
                    os.close(folder.fd)

    def _stand(self) -> None:
        """Another folder has become the innermost."""
        if not self._folders:
            return
        folder = self._folders[-1]
        assert folder.fd is not None
        self._at = b"/proc/self/fd/%d/" % folder.fd
        if not self._chdir:
            return
        try:
            os.fchdir(folder.fd)
            self._at = b""
        except PermissionError:
            pass  # it may be listed and not entered, which is for its names to tell, if there are any
        except OSError as error:
            raise volume_error(folder.path, error) from error

    def _enter_root(self) -> Entry:
        try:
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._folders.append(_Folder(b"", (0, 0), fd))
            status = os.fstat(fd)
            self._folders[0].identity = (status.st_dev, status.st_ino)
            self._check_unused(b"", status)
            refuse_mounts_below(os.readlink(b"/proc/self/fd/%d" % fd))
            self._folders[0].names = _names(fd)
            return _entry(b"", FileType.DIRECTORY, status, xattrs=_attributes(fd) if self._xattrs else ())
        except OSError as error:
            raise volume_error(b"", error) from error

    def _look(self, folder: _Folder, name: bytes) -> Entry:
        assert folder.fd is not None
        path = folder.path + b"/" + name if folder.path else name
        if len(path) > LONGEST_PATH:
            raise _too_deep(path)
        try:
            status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
            if self._held:
                self._check_unused(path, status)
            kind = _TYPES[stat.S_IFMT(status.st_mode)]
            if status.st_nlink > 1 and kind not in (FileType.DIRECTORY, FileType.SOCKET):
                first = self._first_name(path, status)
                if first is not None:
                    return _entry(path, FileType.HARD_LINK, status, target=first)
            target = os.readlink(name, dir_fd=folder.fd) if kind is _SYMLINK else b""
            xattrs = _attributes(self._at + name) if self._xattrs else ()
            return _entry(path, kind, status, target=target, xattrs=xattrs)
        except OSError as error:
            raise volume_error(path, error) from error

    def _check_unused(self, path: bytes, status: os.stat_result) -> None:
        holder = self._held.get((status.st_dev, status.st_ino))
        if holder is not None:
            raise _in_use(path, holder)

    def _first_name(self, path: bytes, status: os.stat_result) -> bytes | None:
        """The first name of this file's group, or ``None`` if this is it."""
        key = (status.st_dev, status.st_ino)
        first, left = self._groups.get(key, (b"", status.st_nlink))
        if left > 1:
            self._groups[key] = (first or path, left - 1)
        else:
            self._groups.pop(key, None)
        return first or None

    def _enter(self, parent: _Folder, entry: Entry) -> None:
        assert parent.fd is not None
        name = entry.path.rpartition(b"/")[2]
        try:
            fd = os.open(name, _FOLDER_FLAGS, dir_fd=parent.fd)
            folder = _Folder(entry.path, (0, 0), fd)
            self._folders.append(folder)
            status = os.fstat(fd)
            folder.identity = (status.st_dev, status.st_ino)
            if status.st_dev != self._folders[0].identity[0]:
                raise _nested_mount(entry.path)
            if status.st_ino != entry.inode:
                raise volume_changed(entry.path, "was replaced while it was read")
            folder.names = _names(fd)
        except OSError as error:
            raise volume_error(entry.path, error) from error
        if len(self._folders) > MAX_OPEN_FOLDERS:
            outer = self._folders[-MAX_OPEN_FOLDERS - 1]
            if outer.fd is not None:
                os.close(outer.fd)
                outer.fd = None

    def _leave(self) -> None:
        folder = self._folders[-1]
        assert folder.fd is not None
        if len(self._folders) > 1 and self._folders[-2].fd is None:
            self._reopen(self._folders[-2], folder.fd)
        self._folders.pop()
        os.close(folder.fd)

    def _reopen(self, parent: _Folder, child_fd: int) -> None:
        try:
            parent.fd = os.open(b"..", _FOLDER_FLAGS, dir_fd=child_fd)
            status = os.fstat(parent.fd)
        except OSError as error:
            raise volume_error(parent.path, error) from error
        if (status.st_dev, status.st_ino) != parent.identity:
            raise volume_changed(parent.path, "was moved while it was read")


def walk(root: Path | str, *, xattrs: bool, chdir: bool = False, held: Held = NOTHING_HELD) -> Iterator[Entry]:
    """Every name below ``root`` in archive order, the root (path ``b""``) first. Close it if you stop early.

    ``chdir``: the process has no other thread, so the walk may take its working directory along, which makes attributes
    cheaper to ask for; in the end that is ``/``.

    The first name of a hard-link group comes as what it is, further ones as ``HARD_LINK``; a socket, which no archive
    holds, comes as one under each of its names. Raises ``VolumeUnreadable`` and ``VolumeChanged``, naming the path, and
    ``Unsupported`` for a file system that is mounted below the root, and for paths beyond ``LONGEST_PATH``;
    ``VolumeInUse`` for what is in ``held``.
    """
    return _Walk(root, xattrs=xattrs, chdir=chdir, held=held).entries()


class ChangeDigest:
    """The change fingerprint: one SHA-256 over all names in archive order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._batch: list[bytes] = []

    def add(self, entry: Entry) -> None:
        """Take the next entry."""
        self._batch.append(change_bytes(entry))
        if len(self._batch) >= _BATCH:
            self._flush()

    def hexdigest(self) -> str:
        """64 hex digits."""
        self._flush()
        return self._digest.hexdigest()

    def _flush(self) -> None:
        self._digest.update(b"".join(self._batch))
        self._batch.clear()


async def change_fingerprint(
    root: Path | str, stir: Callable[[], None] | None = None, *, held: Held = NOTHING_HELD
) -> str:
    """Did anything move? A walk without extended attributes; comparable under one volume uid only. Errors: ``walk``.

    ``stir`` is called now and then, from a thread, as long as the walk gets on.
    """
    return await run_blocking(lambda stop: _change_fingerprint(root, stop, stir, held))


async def content_fingerprint(root: Path | str) -> Content:
    """What the tree holds, as an archive of it says; sockets do not count. Errors: ``walk``."""
    return await run_blocking(lambda stop: _content_fingerprint(root, stop))


def _change_fingerprint(root: Path | str, stop: Stop, stir: Callable[[], None] | None, held: Held) -> str:
    digest = ChangeDigest()
    for number, entry in enumerate(walk(root, xattrs=False, held=held)):
        stop.check()
        digest.add(entry)
        if stir is not None and number % _STIR_EVERY == 0:
            stir()
    return digest.hexdigest()


def _content_fingerprint(root: Path | str, stop: Stop) -> Content:
    total = EMPTY_CONTENT
    for entry in walk(root, xattrs=True):
        stop.check()
        if entry.type is not FileType.SOCKET:
            total = total.plus(content_of(entry))
    return total


def refuse_mounts_below(root: bytes) -> None:
    """``Unsupported`` if something is mounted below ``root``, even from the same file system."""
    prefix = root.rstrip(b"/") + b"/"
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        mount = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4])
        if mount.startswith(prefix):
            raise _nested_mount(mount[len(prefix) :])


def _nested_mount(path: bytes) -> StorageError:
    return StorageError(
        ErrorCode.UNSUPPORTED,
        f"{show(path)}: another file system is mounted inside the volume",
        hint="Unmount it and call again.",
        details={"path": show(path)},
    )


def _too_deep(path: bytes) -> StorageError:
    return StorageError(
        ErrorCode.UNSUPPORTED,
        f"{show(path[:255])}...: a path of more than {LONGEST_PATH} bytes",
        hint="Move what is so deep further up, or remove it.",
        details={"path": show(path[:255])},
    )


def _names(fd: int) -> list[bytes]:
    """The names in a folder, last first, so that the next is popped from the end."""
    names = os.listdir(b"/proc/self/fd/%d" % fd)  # of a path of bytes, so the names are
    names.sort(reverse=True)
    return names


def _attributes(of: int | bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Extended attributes, sorted by name; none where the file system has none."""
    follow = isinstance(of, int)
    try:
        names = os.listxattr(of, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ()
        raise
    if not names:
        return ()
    return tuple(sorted((os.fsencode(name), os.getxattr(of, name, follow_symlinks=follow)) for name in names))


def _entry(
    path: bytes,
    kind: FileType,
    status: os.stat_result,
    *,
    target: bytes = b"",
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
) -> Entry:
    is_device = kind in _DEVICES
    return Entry(
        path,
        kind,
        status.st_mode & 0o7777,
        status.st_uid,
        status.st_gid,
        status.st_size if kind is _FILE else 0,
        status.st_mtime_ns,
        target,
        (os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
        xattrs,
        status.st_ino,
        status.st_ctime_ns,
    )
