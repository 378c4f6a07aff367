"""What one name of a tree is, and the canonical bytes of its content fingerprint: the archiver's, written once more.

It shares no code with the archiver. Tests forge archives with it whose fingerprints are right.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from blake3 import blake3

_BASE_BYTES, _LANE_BYTES = 16, 8
_BASE_MASK, _LANE_MASK = (1 << 128) - 1, (1 << 64) - 1
_BASE = struct.Struct(">BHQqIII")
_LENGTH = struct.Struct(">I")
_IDS = struct.Struct(">QQ")
_NANOS = 1_000_000_000

ACL_ATTRIBUTES = (b"system.posix_acl_access", b"system.posix_acl_default")
"""POSIX ACLs as the kernel shows them: extended attributes with a binary value and numeric ids."""


class FileType(IntEnum):
    """The value is the tar type flag; ``SOCKET`` exists on disk only, an archive does not carry it."""

    FILE = ord("0")
    HARD_LINK = ord("1")
    SYMLINK = ord("2")
    CHARACTER_DEVICE = ord("3")
    BLOCK_DEVICE = ord("4")
    DIRECTORY = ord("5")
    FIFO = ord("6")
    SOCKET = ord("s")


_HARD_LINK, _SYMLINK = FileType.HARD_LINK, FileType.SYMLINK
"""As a member of its class each costs four times as much to name, which counts where a million entries go by."""


class Entry(NamedTuple):
    """One name of a tree.

    ``path`` is relative, without a leading ``./`` or a trailing ``/``; the root itself is ``b""``. ``size`` is that of
    a regular file, else 0. ``target`` is where a symlink points, or the first name (in archive order) of a further
    name's group. ``xattrs`` are sorted by name; ACLs are among them. ``inode`` and ``ctime_ns`` are 0 where the entry
    comes from a tar header.
    """

    path: bytes
    type: FileType
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    inode: int = 0
    ctime_ns: int = 0


class Content(NamedTuple):
    """A content fingerprint: three sums of per-entry digests. Addition makes that of a tree from those of its parts.

    ``base`` (mod 2**128) is over all that any owner of the files can set. ``ids`` (mod 2**64) is over owner and group,
    ``privileged`` (mod 2**64) over ``trusted.*``, ``security.*`` and other attributes that need rights to set: a
    restore without those rights compares ``base`` alone, and counts what it left out. Sums need no order, so segments,
    tail and a parallel restore agree with one walk. They guard against accidents, not against someone who makes up
    trees: stored bytes are guarded by BLAKE3.
    """

    base: int = 0
    ids: int = 0
    privileged: int = 0

    def plus(self, other: Content) -> Content:
        """The fingerprint of both together."""
        return Content(
            (self.base + other.base) & _BASE_MASK,
            (self.ids + other.ids) & _LANE_MASK,
            (self.privileged + other.privileged) & _LANE_MASK,
        )

    def to_bytes32(self) -> bytes:
        """32 bytes: base (16), ids (8), privileged (8), big endian."""
        return (
            self.base.to_bytes(_BASE_BYTES, "big")
            + self.ids.to_bytes(_LANE_BYTES, "big")
            + self.privileged.to_bytes(_LANE_BYTES, "big")
        )

    def text(self) -> str:
        """As the manifest holds it."""
        return f"b3:{self.to_bytes32().hex()}"


EMPTY_CONTENT = Content()


def is_privileged(name: bytes) -> bool:
    """True for an extended attribute that an ordinary owner of the file may be unable to set."""
    return not name.startswith(b"user.") and name not in ACL_ATTRIBUTES


def content_of(entry: Entry) -> Content:
    """The content fingerprint of one entry: everything that a restore must bring back."""
    path, kind, mode, uid, gid, size, mtime_ns, target, device, xattrs, _, _ = entry
    prefix = _LENGTH.pack(len(path)) + path
    if kind is _HARD_LINK:
        return Content(_digest(b"H" + prefix + target, _BASE_BYTES), 0, 0)
    seconds, nanos = divmod(mtime_ns, _NANOS)
    fields = _BASE.pack(kind, 0o777 if kind is _SYMLINK else mode, size, seconds, nanos, *device)
    base, privileged = b"B" + prefix + fields + _LENGTH.pack(len(target)) + target, 0
    if xattrs:
        base += b"".join(_attribute(pair) for pair in xattrs if not is_privileged(pair[0]))
        rest = b"".join(_attribute(pair) for pair in xattrs if is_privileged(pair[0]))
        privileged = _digest(b"P" + prefix + rest, _LANE_BYTES) if rest else 0
    ids = _digest(b"I" + prefix + _IDS.pack(uid, gid), _LANE_BYTES)
    return Content(_digest(base, _BASE_BYTES), ids, privileged)


def _digest(data: bytes, size: int) -> int:
    return int.from_bytes(blake3(data).digest()[:size], "big")


def _attribute(pair: tuple[bytes, bytes]) -> bytes:
    name, value = pair
    return _LENGTH.pack(len(name)) + name + _LENGTH.pack(len(value)) + value
