"""What one name of a tree is, and the canonical bytes from which both fingerprints are made.

An ``Entry`` comes from the file system (``walk``) or from a tar header (``tarheader``); for the same thing both give
the same content digest. That is what lets an archive be checked against the walk, and a restored tree against the
archive, without holding either.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import NamedTuple

CONTENT_BYTES = 32
_BASE_BYTES, _LANE_BYTES = 16, 8
_BASE_MASK, _LANE_MASK = (1 << 128) - 1, (1 << 64) - 1
_BASE = struct.Struct(">BHQqIII")
_LENGTH = struct.Struct(">I")
_IDS = struct.Struct(">QQ")
_CHANGE = struct.Struct(">BQQqIqI")
_MAX_SIGNED = (1 << 63) - 1
_NANOS = 1_000_000_000

LONGEST_PATH = 1 << 14
"""Of a path in bytes, four times what the kernel takes at once. A chain of folders has a name for each of its folders,
so time and space for all of them grow with the square of this."""

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
    trees: stored bytes are guarded by SHA-256.
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

    @classmethod
    def from_bytes32(cls, data: bytes) -> Content:
        """The inverse of ``to_bytes32``. ``ValueError`` for another length."""
        if len(data) != CONTENT_BYTES:
            raise ValueError(f"a content fingerprint has {CONTENT_BYTES} bytes, not {len(data)}")
        return cls(
            int.from_bytes(data[:16], "big"), int.from_bytes(data[16:24], "big"), int.from_bytes(data[24:], "big")
        )

    @classmethod
    def from_hex(cls, text: str) -> Content:
        """The inverse of ``hex``. ``ValueError`` for what is none."""
        return cls.from_bytes32(bytes.fromhex(text))

    def hex(self) -> str:
        """64 hex digits, as the manifest holds it."""
        return self.to_bytes32().hex()


EMPTY_CONTENT = Content()


def is_whiteout(entry: Entry) -> bool:
    """True for an overlay file system's mark that a name is gone: the character device 0/0, which opens nothing."""
    return entry.type is FileType.CHARACTER_DEVICE and entry.device == (0, 0)


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


def change_bytes(entry: Entry) -> bytes:
    """What the change fingerprint is made of: it says whether something moved, under one volume uid.

    Of the root, mode and ids stand in for its ctime: being renamed (into the trash) changes that and nothing else.
    """
    seconds, nanos = divmod(entry.mtime_ns, _NANOS)
    if entry.path:
        ctime_seconds, ctime_nanos = divmod(entry.ctime_ns, _NANOS)
    else:
        ctime_seconds, ctime_nanos = (entry.uid << 32 | entry.gid) & _MAX_SIGNED, entry.mode
    return (
        _LENGTH.pack(len(entry.path))
        + entry.path
        + _CHANGE.pack(entry.type, entry.size, entry.inode, seconds, nanos, ctime_seconds, ctime_nanos)
    )


def is_clean_path(path: bytes) -> bool:
    """True for a relative name that stays below its root: no empty, ``.`` or ``..`` component, no NUL."""
    return b"\0" not in path and all(part not in (b"", b".", b"..") for part in path.split(b"/"))


def _digest(data: bytes, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=size).digest(), "big")


def _attribute(pair: tuple[bytes, bytes]) -> bytes:
    name, value = pair
    return _LENGTH.pack(len(name)) + name + _LENGTH.pack(len(value)) + value
