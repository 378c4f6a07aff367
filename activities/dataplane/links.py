"""Making what is in the tail: folders before any file, links and specials after all of them, folders' metadata last.

Each step may run again after it was cut off: what is there and right stays.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter

from activities.dataplane import attributes
from activities.dataplane.attributes import Abilities
from activities.dataplane.beneath import Beneath, shown, writing
from activities.dataplane.entries import EMPTY_CONTENT, Content, Entry, FileType, content_of, is_whiteout
from codehub_storage.errors import ErrorCode, StorageError

_KINDS = {
    FileType.SYMLINK: stat.S_IFLNK,
    FileType.FIFO: stat.S_IFIFO,
    FileType.CHARACTER_DEVICE: stat.S_IFCHR,
    FileType.BLOCK_DEVICE: stat.S_IFBLK,
}
_DEVICES = (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE)
_DEFAULT_ACL = b"system.posix_acl_default"
_ACCESS_ACL = b"system.posix_acl_access"


def prepare_root(beneath: Beneath, name: str) -> None:
    """An empty folder, 0700, that hands no default ACL and no group down. ``VolumeConflict`` if it holds any file.

    Folders may be there: an attempt that was cut off has made them. A new ext4 brings ``lost+found``; it goes.
    """
    with writing(b""):
        if "lost+found" in os.listdir(beneath.root_fd):
            _remove_empty(beneath, b"lost+found")
        _demand_folders_only(beneath, name)
        hand_nothing_down(beneath)
        beneath.removexattr(b"", _ACCESS_ACL)
        beneath.chmod(b"", 0o700)


def hand_nothing_down(beneath: Beneath) -> None:
    """No default ACL on the root: whatever is made below would inherit it, and hand its rights to others."""
    beneath.removexattr(b"", _DEFAULT_ACL)


def make_folder(beneath: Beneath, entry: Entry) -> None:
    """The folder, 0700, and those above it; its metadata come last of all."""
    if entry.type is FileType.DIRECTORY:
        with writing(entry.path):
            beneath.makedirs(entry.path)


class TailMaker:
    """Makes links and specials and gives folders their metadata, in the tail's order.

    ``left_out`` names what this process may not make (devices, whiteouts), together with further names of it: counted,
    and added up as content, so that the comparison knows what cannot be there.
    """

    def __init__(self, beneath: Beneath, abilities: Abilities, skipped: Counter[str]) -> None:
        self._beneath = beneath
        self._abilities = abilities
        self._skipped = skipped
        self._left_out = LeftOut(abilities)

    def make(self, entry: Entry) -> None:
        """One entry of the tail."""
        if kind := self._left_out.takes(entry):
            self._skipped[kind] += 1
            return
        with writing(entry.path):
            if entry.type is FileType.HARD_LINK:
                self._link(entry)
                return
            if entry.type is not FileType.DIRECTORY and not self._is_there(entry):
                self._make(entry)
        attributes.apply(self._beneath, entry, self._abilities, self._skipped)

    def _link(self, entry: Entry) -> None:
        target = self._beneath.lstat(entry.target)
        if target is None or stat.S_ISDIR(target.st_mode):
            raise StorageError(ErrorCode.ARCHIVE_CORRUPT, f"the hard link {shown(entry.path)} leads to no file")
        there = self._beneath.lstat(entry.path)
        if there is None or (there.st_dev, there.st_ino) != (target.st_dev, target.st_ino):
            self._beneath.link(entry.path, entry.target)

    def _make(self, entry: Entry) -> None:
        if entry.type is FileType.SYMLINK:
            self._beneath.symlink(entry.path, entry.target)
        else:
            self._beneath.mknod(entry.path, _KINDS[entry.type] | 0o600, os.makedev(*entry.device))

    def _is_there(self, entry: Entry) -> bool:
        """True if an earlier attempt made it: then it stays, with all its names. Anything else there is in the way."""
        there = self._beneath.lstat(entry.path)
        if there is None or stat.S_IFMT(there.st_mode) != _KINDS[entry.type]:
            return False
        if entry.type is FileType.SYMLINK:
            return self._beneath.readlink(entry.path) == entry.target
        return entry.type not in _DEVICES or there.st_rdev == os.makedev(*entry.device)


def omitted(entry: Entry, abilities: Abilities) -> str | None:
    """``devices`` or ``whiteouts`` for one that this process may not make, as what is skipped is counted."""
    if entry.type not in _DEVICES:
        return None
    if is_whiteout(entry):
        return None if abilities.whiteouts else "whiteouts"
    return None if abilities.devices else "devices"


class LeftOut:
    """Which entries of the tail cannot be made here. To be asked in order."""

    def __init__(self, abilities: Abilities) -> None:
        self._abilities = abilities
        self._names: dict[bytes, str] = {}
        self.content: Content = EMPTY_CONTENT

    def takes(self, entry: Entry) -> str | None:
        """``devices`` or ``whiteouts`` where none may be made, also for a further name of one; ``None``: make it."""
        kind = self._names.get(entry.target) if entry.type is FileType.HARD_LINK else omitted(entry, self._abilities)
        if kind is not None:
            self._names[entry.path] = kind
            self.content = self.content.plus(content_of(entry))
        return kind


def _demand_folders_only(beneath: Beneath, name: str) -> None:
    """Links count as files, whatever they lead to; the folders may be as deep as they like."""
    folders = [b""]
    while folders:
        path = folders.pop()
        with os.scandir(beneath.folder(path)) as found:
            for entry in found:
                below = path + b"/" + os.fsencode(entry.name) if path else os.fsencode(entry.name)
                if not entry.is_dir(follow_symlinks=False):
                    raise StorageError(ErrorCode.VOLUME_CONFLICT, f"{name} is not empty: {shown(below)} is there")
                folders.append(below)


def _remove_empty(beneath: Beneath, name: bytes) -> None:
    try:
        os.rmdir(name, dir_fd=beneath.root_fd)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EACCES, errno.EPERM):
            raise
