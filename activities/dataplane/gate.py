"""The first wall of a restore: what may pass from a data segment to its writer.

Only regular files with clean relative names, in the order and range that the manifest states for the segment, under
headers of exactly the one form that archives of ours have. A header that two readers could understand in two ways is
refused, whatever it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from activities.dataplane.beneath import clean_components, shown
from activities.dataplane.entries import Entry, FileType
from activities.dataplane.manifest import Segment, decode_path
from activities.dataplane.tarheader import BLOCK, XATTR_PREFIX, TarScanner, padding_of
from codehub_storage.errors import ErrorCode, StorageError

_RECORDS = frozenset((b"path", b"size", b"uid", b"gid", b"mtime"))
_USTAR = re.compile(
    rb"[^\0]{1,100}\0*(?<=\A.{100})"  # name
    rb"[0-7]{7}\0[0-7]{7}\0[0-7]{7}\0[0-7]{11}\0[0-7]{11}\0"  # mode, uid, gid, size, mtime
    rb"[0-7]{6}\0 [0x]"  # checksum and type flag
    rb"\0{100}ustar\x0000\0{64}(?:0000000\0|\0{8}){2}"  # no link, POSIX magic, no names of users, no device
    rb"[^\0]{0,155}\0*(?<=\A.{500})\0{12}",  # prefix
    re.DOTALL,
)


class Gate:
    """Says yes to each entry of one data segment, or raises ``ArchiveCorrupt``."""

    def __init__(self, segment: Segment, number: int, on_entry: Callable[[Entry], None] = lambda entry: None) -> None:
        self._segment = segment
        self._number = number
        self._on_entry = on_entry
        self._first = decode_path(segment.first).split(b"/")
        self._last = decode_path(segment.last).split(b"/")
        self._previous: list[bytes] = []
        self._count = 0
        self._clear_until = 0

    def admit(self, entry: Entry) -> None:
        """A regular file, cleanly named, next in order, within the segment's range."""
        if entry.type is not FileType.FILE:
            raise self.refusal(f"{shown(entry.path)} is no regular file")
        try:
            parts = clean_components(entry.path)
        except StorageError as error:
            raise self.refusal(error.message) from error
        if not self._first <= parts <= self._last or (self._count and parts <= self._previous):
            raise self.refusal(f"{shown(entry.path)} does not belong there")
        self._previous = parts
        self._count += 1
        self._on_entry(entry)

    def admit_next(self, entry: Entry, scanner: TarScanner) -> None:
        """As ``admit``, for an entry that ``scanner`` has just found: its header must be one of ours, too."""
        # Nothing may stand between two entries: what no entry owns, nobody would have looked at.
        header, records = bytes(scanner.header), scanner.records
        is_ours = _is_our_form(header, records) and _stored_name(header[-BLOCK:], records) == entry.path
        if scanner.entry_offset != self._clear_until or not is_ours:
            raise self.refusal(f"{shown(entry.path)} has a header that no archive of ours has")
        self.admit(entry)
        self._clear_until = scanner.data_offset + entry.size + padding_of(entry.size)

    def finish(self) -> None:
        """All entries that the manifest counts have come."""
        if self._count != self._segment.entries or self._previous != (self._last if self._count else []):
            raise self.refusal(f"it holds {self._count} entries instead of {self._segment.entries}")

    def refusal(self, why: str) -> StorageError:
        """``ArchiveCorrupt``, naming the segment."""
        return corrupt_segment(self._number, why)


def corrupt_segment(number: int, why: str) -> StorageError:
    """``ArchiveCorrupt``, naming the segment."""
    return StorageError(ErrorCode.ARCHIVE_CORRUPT, f"segment {number}: {why}", details={"segment": number})


def _is_our_form(header: bytes, records: dict[bytes, bytes]) -> bool:
    """One ustar block, or one pax extension and then the block; and only the records that we write."""
    last = header[-BLOCK:]
    if len(header) > BLOCK:
        extension = header[:BLOCK]
        if extension[156:157] != b"x" or _USTAR.fullmatch(extension) is None:
            return False
        size = int(extension[124:135], 8)
        if len(header) != 2 * BLOCK + size + padding_of(size) or size != sum(map(_record_bytes, records.items())):
            return False
    if last[156:157] != b"0" or _USTAR.fullmatch(last) is None:
        return False
    return all(key.startswith(XATTR_PREFIX) or _is_plain(key, value) for key, value in records.items())


def _stored_name(header: bytes, records: dict[bytes, bytes]) -> bytes:
    """The name as it stands there; the scanner takes a leading ``./`` away, which no file of ours has."""
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    return records.get(b"path") or (prefix + b"/" + name if prefix else name)


def _is_plain(key: bytes, value: bytes) -> bool:
    return key in _RECORDS and value != b"" and b"\0" not in value


def _record_bytes(pair: tuple[bytes, bytes]) -> int:
    """The length of a record as we write it; the sum shows a record that comes twice, or is written otherwise."""
    length = rest = len(pair[0]) + len(pair[1]) + 3
    while length != rest + len(str(length)):
        length = rest + len(str(length))
    return length
