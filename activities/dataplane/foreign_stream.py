"""The tar stream inside a foreign gzip file: of one member or many, bounded, and complete or an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from activities.dataplane.dialects import corrupt
from activities.dataplane.gzipmember import CorruptMember, MemberReader
from codehub_storage.errors import ErrorCode, StorageError

_SLICE = 1 << 16
"""Members are told apart within slices of this size: what follows a member's end is copied."""
_HEADER_BYTES = 10
_HEADER_CRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
_LONGEST_HEADER = 1 << 17
"""Longer than 64 KiB of extra field and two texts of a sane length; whoever has more gets no help."""


@dataclass(frozen=True)
class Bound:
    """How many bytes may come, and which error says that more came."""

    limit: int
    code: ErrorCode


class TarStream:
    """The tar stream inside a gzip stream of one or more members. Ends that come early are ``ArchiveCorrupt``."""

    def __init__(self, chunks: Iterable[bytes], bound: Bound) -> None:
        self._raw = _inflate(chunks)
        self._bound = bound
        self._left = memoryview(b"")
        self._taken = 0

    def blocks(self, length: int) -> Iterator[memoryview]:
        """The next ``length`` bytes, in pieces; exhaust it before the next call."""
        while length:
            if not self._left:
                self._left = memoryview(self._more())
            piece = self._left[:length]
            self._left = self._left[len(piece) :]
            length -= len(piece)
            yield piece

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes, for headers."""
        return b"".join(self.blocks(length))

    def skip(self, length: int) -> None:
        """Pass over bytes."""
        for _ in self.blocks(length):
            pass

    def end(self) -> None:
        """Behind the end-of-archive blocks only zeros may come, up to a sound end of the gzip stream."""
        rest: bytes | memoryview | None = self._left
        while rest is not None:
            if any(rest):
                raise corrupt("bytes come after the end of the archive: two archives in one file, or damage")
            rest = self._next()

    def _more(self) -> bytes:
        raw = self._next()
        if raw is None:
            raise corrupt("the archive ends early: it has no end-of-archive blocks")
        return raw

    def _next(self) -> bytes | None:
        try:
            raw = next(self._raw, None)
        except CorruptMember as error:
            raise corrupt(str(error)) from error
        self._taken += len(raw or b"")
        if self._taken > self._bound.limit:
            raise StorageError(self._bound.code, f"the archive expands to more than {self._bound.limit} bytes")
        return raw


def _inflate(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Raw bytes of all members; zeros may fill up the end. Raises ``CorruptMember``."""
    reader: MemberReader | None = MemberReader()
    header = b""
    for chunk in chunks:
        for at in range(0, len(chunk), _SLICE):
            data: bytes = chunk[at : at + _SLICE]
            while data:
                if reader is None:
                    if not data.strip(b"\0"):
                        break
                    reader = MemberReader()
                if not reader.stored_bytes:
                    header += data
                    if not _has_whole_header(header):
                        break
                    data, header = header, b""
                yield from reader.feed(data)
                data = b""
                if reader.finished:
                    data, reader = reader.unused, None
    if reader is not None:
        yield from reader.feed(header)
        reader.finish()


def _has_whole_header(data: bytes) -> bool:
    """True if the member's header ends in there, or need not be waited for.

    ISA-L must get it in one piece: torn, it takes the checksum of one (RFC 1952: FHCRC) for wrong, and stumbles over
    several optional fields.
    """
    if len(data) < _HEADER_BYTES:
        return False
    flags, at = data[3], _HEADER_BYTES
    if flags & _EXTRA:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for text in (_NAME, _COMMENT):
        if flags & text:
            at = (data.find(b"\0", at) + 1) or _LONGEST_HEADER
    return len(data) >= min(at + (2 if flags & _HEADER_CRC else 0), _LONGEST_HEADER)
