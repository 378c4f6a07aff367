"""Gzip members: one per segment, written and read piecewise, within bounds.

Compression is ISA-L's deflate inside our own framing, because a part that is too short for the store must be padded:
empty stored blocks inside the deflate stream are what every reader accepts (extra fields break busybox).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from awscrt import checksums
from isal import isal_zlib
from isal.igzip_lib import IsalError

LEVEL = 2
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_TRAILER = struct.Struct("<II")
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

    chunks: list[bytes]
    raw_bytes: int
    stored_bytes: int
    padding_bytes: int
    sha256: bytes
    crc64: bytes


class MemberWriter:
    """Compresses one member into memory; only compressed bytes are kept."""

    def __init__(self) -> None:
        self._deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW_DEFLATE)
        self._digest = hashlib.sha256()
        self._crc32 = 0
        self._chunks: list[bytes] = [_HEADER]
        self.raw_bytes = 0
        self.stored_bytes = len(_HEADER)

    def write(self, data: bytes | memoryview) -> None:
        """Add raw bytes. Pieces of 64 KiB and more are the fastest."""
        self._digest.update(data)
        self._crc32 = isal_zlib.crc32(data, self._crc32)
        self.raw_bytes += len(data)
        self._keep(self._deflate.compress(data))

    def finish(self, min_bytes: int = 0) -> PackedMember:
        """End the member; one shorter than ``min_bytes`` is padded up to it. The writer is used up."""
        self._keep(self._deflate.flush(isal_zlib.Z_SYNC_FLUSH))
        missing = min_bytes - self.stored_bytes - len(_FINAL_BLOCK) - _TRAILER.size
        blocks = max(0, -(-missing // len(_EMPTY_BLOCK)))
        padding = blocks * len(_EMPTY_BLOCK)
        if blocks:
            self._keep(_EMPTY_BLOCK * blocks)
        self._keep(_FINAL_BLOCK + _TRAILER.pack(self._crc32, self.raw_bytes & 0xFFFFFFFF))
        crc64 = 0
        for chunk in self._chunks:
            crc64 = checksums.crc64nvme(chunk, crc64)
        return PackedMember(
            chunks=self._chunks,
            raw_bytes=self.raw_bytes,
            stored_bytes=self.stored_bytes,
            padding_bytes=padding,
            sha256=self._digest.digest(),
            crc64=crc64.to_bytes(8, "big"),
        )

    def _keep(self, data: bytes) -> None:
        if data:
            self._chunks.append(data)
            self.stored_bytes += len(data)


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
