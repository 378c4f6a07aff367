"""Gzip members: one per segment, written and read piecewise, within bounds.

Compression is ISA-L's deflate inside our own framing, because a part that is too short for the store must be padded:
empty stored blocks inside the deflate stream are what every reader accepts (extra fields break busybox).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from awscrt import checksums
from isal import igzip_lib, isal_zlib
from isal.igzip_lib import IsalError

LEVEL = 2
BUFFER_BYTES = 512 << 10
"""Raw bytes that are compressed at a time: they fit a core's own cache."""

_WORTH = 0.97
_SAMPLE_BYTES = 16 << 10
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_TRAILER = struct.Struct("<II")
_STORED, _MAX_STORED = struct.Struct("<BHH"), 0xFFFF
_EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
_FINAL_BLOCK = b"\x03\x00"
_OUTPUT_BYTES = 1 << 18
_RAW_DEFLATE, _GZIP = -15, 31


class CorruptMember(ValueError):
    """The stored bytes are not the gzip member that was expected."""


@dataclass(frozen=True)
class PackedMember:
    """A finished gzip member: its stored bytes, in pieces, and what is known of it.

    ``crc64`` is the CRC-64/NVME of the stored bytes, 8 bytes big endian; ``sha256`` is of the raw ones.
    """

    chunks: list[bytes | bytearray]
    raw_bytes: int
    stored_bytes: int
    padding_bytes: int
    sha256: bytes
    crc64: bytes


class MemberWriter:
    """Compresses one member. Its stored bytes go to ``keep`` as they come (default: into ``PackedMember.chunks``).

    Raw bytes gather in one buffer, files are read straight into it, and only a full one is digested and compressed:
    that is long enough for these to be worth letting other threads run meanwhile.

    What does not become smaller is stored: once a buffer has shrunk by less than ``_WORTH``, a sample of each next one
    is tried first.
    """

    def __init__(self, keep: Callable[[bytes], None] | None = None) -> None:
        self._chunks: list[bytes | bytearray] = []
        self._put = self._chunks.append if keep is None else keep
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._used = 0
        self._deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW_DEFLATE)
        self._is_dense = False
        self._digest = hashlib.sha256()
        self._crc32 = self._crc64 = 0
        self._taken_bytes = self.stored_bytes = 0
        self._keep(_HEADER)

    @property
    def raw_bytes(self) -> int:
        """How many raw bytes were added."""
        return self._taken_bytes + self._used

    def write(self, data: bytes | memoryview) -> None:
        """Add raw bytes."""
        while data:
            step = min(len(data), BUFFER_BYTES - self._used)
            self._buffer[self._used : self._used + step] = data[:step]
            self._advance(step)
            data = data[step:]

    def write_from(self, fd: int, length: int, offset: int) -> int:
        """Add ``length`` bytes of a file from ``offset`` on; answers how many there were, fewer only at its end."""
        done = 0
        while done < length:
            room = self._buffer[self._used : self._used + length - done]
            count = os.preadv(fd, (room,), offset + done)
            if not count:
                break
            self._advance(count)
            done += count
        return done

    def finish(self, min_bytes: int = 0) -> PackedMember:
        """End the member; one shorter than ``min_bytes`` is padded up to it. The writer is used up."""
        self._take(self._buffer[: self._used])
        self._keep(self._deflate.flush(isal_zlib.Z_SYNC_FLUSH))
        missing = min_bytes - self.stored_bytes - len(_FINAL_BLOCK) - _TRAILER.size
        blocks = max(0, -(-missing // len(_EMPTY_BLOCK)))
        padding = blocks * len(_EMPTY_BLOCK)
        if blocks:
            self._keep(_EMPTY_BLOCK * blocks)
        self._keep(_FINAL_BLOCK + _TRAILER.pack(self._crc32, self._taken_bytes & 0xFFFFFFFF))
        return PackedMember(
            chunks=self._chunks,
            raw_bytes=self._taken_bytes,
            stored_bytes=self.stored_bytes,
            padding_bytes=padding,
            sha256=self._digest.digest(),
            crc64=self._crc64.to_bytes(8, "big"),
        )

    def _advance(self, count: int) -> None:
        self._used += count
        if self._used == BUFFER_BYTES:
            self._take(self._buffer)

    def _take(self, raw: memoryview) -> None:
        """Digest and compress what has gathered."""
        self._used = 0
        self._digest.update(raw)
        self._crc32 = isal_zlib.crc32(raw, self._crc32)
        self._taken_bytes += len(raw)
        if self._is_dense and len(igzip_lib.compress(raw[:_SAMPLE_BYTES], LEVEL)) > _WORTH * len(raw[:_SAMPLE_BYTES]):
            # What is compressed later must not refer to what came before these blocks.
            self._keep(self._deflate.flush(isal_zlib.Z_FULL_FLUSH))
            self._store(raw)
            return
        before = self.stored_bytes
        self._keep(self._deflate.compress(raw))
        self._is_dense = self.stored_bytes - before > _WORTH * len(raw)

    def _store(self, raw: memoryview) -> None:
        for at in range(0, len(raw), _MAX_STORED):
            block = raw[at : at + _MAX_STORED]
            self._keep(_STORED.pack(0, len(block), len(block) ^ 0xFFFF) + block)

    def _keep(self, data: bytes) -> None:
        if data:
            self._crc64 = checksums.crc64nvme(data, self._crc64)
            self.stored_bytes += len(data)
            self._put(data)


class MemberReader:
    """Inflates exactly one member, never more than ``raw_limit`` bytes, and never much at a time.

    The CRC and length in the member's trailer are checked. ``unused`` holds what was fed beyond its end.
    """

    def __init__(self, raw_limit: int | None = None) -> None:
        self._inflate = isal_zlib.decompressobj(_GZIP)
        self._raw_limit = raw_limit
        self._fed_bytes = 0
        self.raw_bytes = 0

    @property
    def finished(self) -> bool:
        """True once the trailer was read and found right."""
        return self._inflate.eof

    @property
    def unused(self) -> bytes:
        """Bytes that were fed beyond the end of the member."""
        return self._inflate.unused_data

    @property
    def stored_bytes(self) -> int:
        """Stored bytes of the member itself that were fed so far."""
        return self._fed_bytes - len(self.unused)

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Raw bytes, in pieces of at most 256 KiB; exhaust it before the next call. Raises ``CorruptMember``."""
        if self.finished:
            raise CorruptMember("bytes after the end of the gzip member")
        self._fed_bytes += len(data)
        while True:
            try:
                raw = self._inflate.decompress(data, _OUTPUT_BYTES)
            except IsalError as error:  # type: ignore[misc]  # its stub declares a variable, not a class
                raise CorruptMember(f"a gzip member cannot be inflated: {error}") from error
            self.raw_bytes += len(raw)
            if self._raw_limit is not None and self.raw_bytes > self._raw_limit:
                raise CorruptMember(f"a gzip member inflates to more than the {self._raw_limit} bytes it should have")
            if raw:
                yield raw
            data = self._inflate.unconsumed_tail
            if self.finished or (not data and len(raw) < _OUTPUT_BYTES):
                return

    def finish(self) -> None:
        """``CorruptMember`` unless the whole member was seen, and nothing after it."""
        if not self.finished:
            raise CorruptMember(f"the gzip member ends early, after {self._fed_bytes} stored bytes")
        if self.unused:
            raise CorruptMember(f"{len(self.unused)} bytes after the end of the gzip member")
