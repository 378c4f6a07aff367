"""Mode, owner, times and extended attributes of restored names, as far as the kernel lets this process set them.

The order matters: chown clears setuid and capabilities, chmod takes away the owner's own right to write ``user.*``,
every change moves the times. What may not be set is skipped and **counted**, never silently dropped.
"""

from __future__ import annotations

import os
import secrets
import stat
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from activities.dataplane.beneath import Beneath, shown, writing
from activities.dataplane.entries import ACL_ATTRIBUTES, Entry, FileType
from codehub_storage.errors import ErrorCode, StorageError

_CAPABILITY = b"security.capability"
_EMPTY_CAPABILITY = struct.pack("<5I", 0x02000000, 0, 0, 0, 0)
_MINIMAL_ACL = struct.pack("<I" + "HHI" * 3, 2, 1, 6, 0xFFFFFFFF, 4, 0, 0xFFFFFFFF, 32, 0, 0xFFFFFFFF)
_ACL = b"system.posix_acl_access"
_PROBES = {
    b"user.": (b"user.codehub-probe", b"1"),
    b"trusted.": (b"trusted.codehub-probe", b"1"),
    b"security.": (b"security.codehub-probe", b"1"),
    _CAPABILITY: (_CAPABILITY, _EMPTY_CAPABILITY),
    _ACL: (_ACL, _MINIMAL_ACL),
}


@dataclass(frozen=True)
class Abilities:
    """What this process may set on this file system: owners, devices, whiteouts, and kinds of extended attributes.

    A whiteout is a device that any user may make since Linux 5.8, and on an overlay file system nobody.
    """

    owners: bool
    devices: bool
    whiteouts: bool
    kinds: frozenset[bytes]

    def can_set(self, name: bytes) -> bool:
        """True if an extended attribute of that name can be set."""
        return _kind_of(name) in self.kinds

    @property
    def all_privileged(self) -> bool:
        """True if no privileged attribute needs to be skipped."""
        return {b"trusted.", b"security.", _CAPABILITY} <= self.kinds


_known: dict[tuple[int, int], Abilities] = {}
"""By file system and user. Later steps find the root as the archive wants it, perhaps no longer writable."""


def probe_abilities(beneath: Beneath) -> Abilities:
    """Try each on a file of this very file system: rights, name spaces and mount options all count.

    Done once per process and file system; the root keeps its times.
    """
    root = os.fstat(beneath.root_fd)
    key = (root.st_dev, os.geteuid())
    if key not in _known:
        name = b".codehub-probe-" + secrets.token_hex(8).encode()
        with writing(name):
            _known[key] = _probe(beneath, name)
            beneath.utime(b"", root.st_atime_ns, root.st_mtime_ns)
    return _known[key]


def _probe(beneath: Beneath, name: bytes) -> Abilities:
    fd = beneath.create(name)
    try:
        beneath.remove(name)
        kinds = frozenset(kind for kind, (key, value) in _PROBES.items() if _succeeds(os.setxattr, fd, key, value))
        somebody_else = 0 if os.geteuid() else 65534
        owners = _succeeds(os.fchown, fd, somebody_else, somebody_else)
    finally:
        os.close(fd)
    devices = _succeeds(beneath.mknod, name, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    beneath.remove(name)
    whiteouts = _succeeds(beneath.mknod, name, stat.S_IFCHR | 0o600, os.makedev(0, 0))
    beneath.remove(name)
    return Abilities(owners, devices, whiteouts, kinds)


def count_skipped(entry: Entry, abilities: Abilities, skipped: Counter[str]) -> None:
    """Count what of this entry stays behind. ``Unsupported`` for what every owner could set elsewhere."""
    if entry.type is FileType.HARD_LINK:
        return
    if not abilities.owners and (entry.uid, entry.gid) != (os.geteuid(), os.getegid()):
        skipped["owners"] += 1
    for name, _ in entry.xattrs:
        if abilities.can_set(name):
            continue
        kind = _kind_of(name)
        if kind in (b"user.", _ACL):
            raise StorageError(
                ErrorCode.UNSUPPORTED, f"this volume cannot hold the attribute {shown(name)} of {shown(entry.path)}"
            )
        skipped["trusted_xattrs" if kind == b"trusted." else "security_xattrs"] += 1


def apply(beneath: Beneath, entry: Entry, abilities: Abilities, skipped: Counter[str]) -> None:
    """Give the name its metadata. Typed errors; what may not be set is counted in ``skipped``."""
    count_skipped(entry, abilities, skipped)
    if entry.type is FileType.DIRECTORY:  # by a descriptor, which takes half of what paths take
        with writing(entry.path):
            fd = beneath.folder(entry.path)
        apply_open(fd, entry, abilities)
        return
    path, is_link = entry.path, entry.type is FileType.SYMLINK
    late = [pair for pair in entry.xattrs if _is_late(pair[0])]
    with writing(path):
        if abilities.owners:
            beneath.chown(path, entry.uid, entry.gid)
        for name, value in entry.xattrs:
            if (name, value) not in late and abilities.can_set(name):
                beneath.setxattr(path, name, value)
        if not is_link:
            beneath.chmod(path, entry.mode)
        for name, value in late:
            if abilities.can_set(name):
                beneath.setxattr(path, name, value)
        beneath.utime(path, entry.mtime_ns, entry.mtime_ns)


def apply_open(fd: int, entry: Entry, abilities: Abilities) -> None:
    """Give an open file or folder its metadata, as ``apply`` does. What may not be set was counted by who opened it."""
    path = entry.path
    with writing(path):
        if abilities.owners:
            os.fchown(fd, entry.uid, entry.gid)
        late: list[tuple[bytes, bytes]] = []
        for pair in entry.xattrs:
            if not abilities.can_set(pair[0]):
                continue
            if _is_late(pair[0]):
                late.append(pair)
            else:
                os.setxattr(fd, *pair)
        os.fchmod(fd, entry.mode)
        for name, value in late:
            os.setxattr(fd, name, value)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def _is_late(name: bytes) -> bool:
    """True for what a later chown or chmod would take away."""
    return name in ACL_ATTRIBUTES or name == _CAPABILITY


def _kind_of(name: bytes) -> bytes:
    if name == _CAPABILITY:
        return _CAPABILITY
    if name in ACL_ATTRIBUTES:
        return _ACL
    return name.partition(b".")[0] + b"."


def _succeeds(call: Callable[..., object], *arguments: object) -> bool:
    try:
        call(*arguments)
    except OSError:
        return False
    return True
