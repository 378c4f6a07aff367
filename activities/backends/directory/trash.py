"""The removal of a tree: below one directory, on one mount, through no link, whatever the tree is like.

Every step is by descriptor, from a directory that was opened without following links. So a tree that is changed while
it is removed leads nowhere else. Open descriptors stay few at any depth. Called again after a crash it continues.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from activities.runtime import failpoints
from activities.runtime.linux.syscalls import Inode, inode_of_fd, set_mode
from codehub_storage.errors import ErrorCode, StorageError

_HALF = failpoints.declare("directory.remove.half", effect="some of a sealed volume's entries are removed, not all")
_REFILLS = 100
"""Maximum number of times a directory is emptied again, when it is filled while it is removed."""


@dataclass
class _Folder:
    """A directory on the way down, and its subdirectories that are still to be removed."""

    name: bytes
    number: int
    subfolders: list[bytes] = field(default_factory=list)
    refills: int = 0


def remove_tree(path: Path, expected: Inode, *, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Remove the directory at ``path`` with all below it; gone already is fine.

    ``VolumeConflict`` if another directory than ``expected`` is there, ``VolumeInUse`` for a mount below it or for
    a process that keeps writing, ``BackendUnavailable`` when ``is_stopped``. As an ordinary user, directories of mode
    0000 that belong to us are opened up first; those of others raise ``PermissionError``.
    """
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _Removal(path, expected, is_stopped).run(parent, os.fsencode(path.name))
    finally:
        os.close(parent)


class _Removal:
    def __init__(self, path: Path, expected: Inode, is_stopped: Callable[[], bool]) -> None:
        self._path = path
        self._expected = expected
        self._is_stopped = is_stopped
        self._way: list[_Folder] = []

    def run(self, parent: int, name: bytes) -> None:
        try:
            here = self._enter(parent, name)
        except FileNotFoundError:
            return
        try:
            while True:
                folder = self._way[-1]
                if folder.subfolders:
                    here = self._down(here, folder.subfolders[-1])
                elif len(self._way) > 1:
                    here = self._up(here)
                elif self._leave(parent, folder, here):
                    return
        finally:
            os.close(here)

    def _down(self, here: int, name: bytes) -> int:
        try:
            below = self._enter(here, name)
        except (FileNotFoundError, NotADirectoryError):
            self._way[-1].subfolders.pop()
            self._empty(here)
            return here
        os.close(here)
        return below

    def _up(self, here: int) -> int:
        above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
        try:
            if os.fstat(above).st_ino != self._way[-2].number:
                raise self._moving()
            is_gone = self._leave(above, self._way[-1], here)
        except BaseException:
            os.close(above)
            raise
        if is_gone:
            self._way[-1].subfolders.pop()
        os.close(here if is_gone else above)
        return above if is_gone else here

    def _leave(self, above: int, folder: _Folder, here: int) -> bool:
        """Remove the emptied directory; False if it has been filled again."""
        try:
            os.rmdir(folder.name, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            folder.refills += 1
            if folder.refills > _REFILLS:
                raise self._moving() from error
            self._empty(here)
            return False
        self._way.pop()
        return True

    def _enter(self, above: int, name: bytes) -> int:
        """Open a directory and remove its files. Its mode is set first, through the descriptor."""
        if self._is_stopped():
            raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"the removal of {self._path} was stopped; it goes on")
        spot = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            found = inode_of_fd(spot)
            self._check(found, name)
            if stat.S_IMODE(found.mode) & 0o700 != 0o700:
                set_mode(spot, 0o700)
            here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=spot)
        finally:
            os.close(spot)
        self._way.append(_Folder(name, found.number))
        try:
            self._empty(here)
        except BaseException:
            os.close(here)
            raise
        return here

    def _check(self, found: Inode, name: bytes) -> None:
        if not self._way and found.number != self._expected.number:
            raise StorageError(ErrorCode.VOLUME_CONFLICT, f"another folder stands at {self._path}; it is kept")
        if not found.is_same_mount(self._expected):
            raise StorageError(
                ErrorCode.VOLUME_IN_USE,
                f"something is mounted at {os.fsdecode(name)!r} inside {self._path}; unmount it",
            )

    def _empty(self, here: int) -> None:
        """Remove all that is no directory, and note the directories."""
        subfolders = []
        with os.scandir(here) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    subfolders.append(name)
                    continue
                try:
                    os.unlink(name, dir_fd=here)
                except FileNotFoundError:
                    continue
                except IsADirectoryError:
                    subfolders.append(name)
                failpoints.reach_in_thread(_HALF)
        self._way[-1].subfolders = subfolders

    def _moving(self) -> StorageError:
        return StorageError(ErrorCode.VOLUME_IN_USE, f"somebody changes {self._path} while it is being removed")
