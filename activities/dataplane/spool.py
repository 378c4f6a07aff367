"""Entries on disk, in order: what a plan knows of a million files without holding it in memory.

A spool lives as long as the process that wrote it; another process walks again and comes to the same plan.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from activities.dataplane.entries import Content, Entry, FileType

_LENGTHS = struct.Struct("<II")
_TYPES = {int(kind): kind for kind in FileType}
_BUFFER_BYTES = 1 << 18


class Spooled(NamedTuple):
    """An entry, its content fingerprint, and where in the spool it stands."""

    at: int
    entry: Entry
    content: Content


class SpoolWriter:
    """Writes entries one behind the other. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb", buffering=_BUFFER_BYTES)
        self.end = 0

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def append(self, packed: bytes, content: Content) -> int:
        """Write a packed entry; answers where it stands."""
        sums = marshal.dumps((*content,))
        record = _LENGTHS.pack(len(packed), len(sums)) + packed + sums
        self._file.write(record)
        at, self.end = self.end, self.end + len(record)
        return at


def pack_entry(entry: Entry) -> bytes:
    """For another process of the same Python, or for a spool."""
    return marshal.dumps((entry[0], int(entry[1]), *entry[2:]))  # an enum cannot be marshalled, nor a subclass of tuple


def unpack_entry(packed: bytes) -> Entry:
    """The inverse of ``pack_entry``; only of what this code has packed."""
    fields = marshal.loads(packed)
    return Entry(fields[0], _TYPES[fields[1]], *fields[2:])


def read_spool(path: Path, start: int = 0, end: int | None = None) -> Iterator[Spooled]:
    """The entries that stand in ``[start, end)`` (default: all)."""
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        file.seek(start)
        at = start
        while end is None or at < end:
            prefix = file.read(_LENGTHS.size)
            if not prefix:
                return
            of_entry, of_sums = _LENGTHS.unpack(prefix)
            yield Spooled(at, unpack_entry(file.read(of_entry)), Content(*marshal.loads(file.read(of_sums))))
            at += _LENGTHS.size + of_entry + of_sums
