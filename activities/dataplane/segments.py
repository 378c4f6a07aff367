"""Segments: the unit of work, of memory and of retry; and the packed record that one leaves in a heartbeat.

A segment is one gzip member of the archive. Data segments come first (runs of whole regular files, or one piece of a
large file), the tail last. A packed record is at most 120 bytes, so that 9,000 of them fit one Temporal payload.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

RECORD_BYTES = 120
MAX_SEGMENTS = 9000
"""Below S3's limit of 10,000 parts, with room for the tail."""

_LAYOUT = struct.Struct(">HB6s6sI32s8s32sB28s")
_ETAG_ROOM = 28
assert _LAYOUT.size == RECORD_BYTES


class SegmentKind(IntEnum):
    """``FILES``: a run of whole regular files. ``LARGE``: a piece of one large file. ``TAIL``: all that is no file."""

    FILES = 1
    LARGE = 2
    TAIL = 3


@dataclass(frozen=True)
class SegmentRecord:
    """What is known of a segment once the store has accepted it.

    ``number`` counts from 1 in archive order. ``sha256`` is of the raw bytes, ``crc64`` (CRC-64/NVME) of the stored
    ones, ``content`` the content fingerprint of its entries as the walker saw them. ``padding_bytes`` are those of
    ``stored_bytes`` that only fill up the part. ``etag`` is that of the part; empty where a part holds more than this
    segment.
    """

    number: int
    kind: SegmentKind
    raw_bytes: int
    stored_bytes: int
    padding_bytes: int
    sha256: bytes
    crc64: bytes
    content: bytes
    etag: str = ""

    def pack(self) -> bytes:
        """120 bytes. ``ValueError`` for an ETag that is neither an MD5 nor up to 28 bytes of ASCII."""
        etag = _etag_bytes(self.etag)
        return _LAYOUT.pack(
            self.number,
            self.kind,
            self.raw_bytes.to_bytes(6, "big"),
            self.stored_bytes.to_bytes(6, "big"),
            self.padding_bytes,
            self.sha256,
            self.crc64,
            self.content,
            etag[0],
            etag[1:],
        )

    @classmethod
    def unpack(cls, data: bytes) -> SegmentRecord:
        """The inverse of ``pack``."""
        number, kind, raw, stored, padding, sha256, crc64, content, mark, etag = _LAYOUT.unpack(data)
        return cls(
            number=number,
            kind=SegmentKind(kind),
            raw_bytes=int.from_bytes(raw, "big"),
            stored_bytes=int.from_bytes(stored, "big"),
            padding_bytes=padding,
            sha256=sha256,
            crc64=crc64,
            content=content,
            etag=etag[:16].hex() if mark == 255 else etag[:mark].decode("ascii"),
        )


def _etag_bytes(etag: str) -> bytes:
    """One byte that tells the form (255: MD5 as 16 bytes, else the length) and what it announces."""
    if len(etag) == 32 and etag == etag.lower():
        try:
            return b"\xff" + bytes.fromhex(etag)
        except ValueError:
            pass
    raw = etag.encode("ascii")
    if len(raw) > _ETAG_ROOM:
        raise ValueError(f"an ETag of {len(raw)} bytes is longer than {_ETAG_ROOM}")
    return bytes([len(raw)]) + raw


def pack_records(records: Iterable[SegmentRecord]) -> bytes:
    """Records one behind the other."""
    return b"".join(record.pack() for record in records)


def unpack_records(data: bytes) -> list[SegmentRecord]:
    """The inverse of ``pack_records``."""
    if len(data) % RECORD_BYTES:
        raise ValueError("packed records of a broken length")
    return [SegmentRecord.unpack(data[at : at + RECORD_BYTES]) for at in range(0, len(data), RECORD_BYTES)]
