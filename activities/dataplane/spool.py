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

_LENGTH = struct.Struct("<I")
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

    def append(self, entry: Entry, content: Content) -> int:
        """Write an entry; answers where it stands."""
        # An IntEnum cannot be marshalled, and tuple subclasses only as what they are.
        body = marshal.dumps(((entry[0], int(entry[1]), *entry[2:]), tuple(content)))
        self._file.write(_LENGTH.pack(len(body)) + body)
        at, self.end = self.end, self.end + _LENGTH.size + len(body)
        return at


def read_spool(path: Path, start: int = 0, end: int | None = None) -> Iterator[Spooled]:
    """The entries that stand in ``[start, end)`` (default: all)."""
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        file.seek(start)
        at = start
        while end is None or at < end:
            prefix = file.read(_LENGTH.size)
            if not prefix:
                return
            (length,) = _LENGTH.unpack(prefix)
            fields, sums = marshal.loads(file.read(length))
            yield Spooled(at, Entry(fields[0], _TYPES[fields[1]], *fields[2:]), Content(*sums))
            at += _LENGTH.size + length
