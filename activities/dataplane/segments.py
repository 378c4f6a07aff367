"""Segments: the unit of work, of memory and of retry; and the packed record that one leaves in a heartbeat.

A segment is one gzip member of the archive. Data segments come first (runs of whole regular files, or one piece of a
large file), the tail last. Consecutive segments share a part of the upload. A packed record is 116 bytes, so that
10,000 of them fit one Temporal payload.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

RECORD_BYTES = 116
MAX_SEGMENTS = 9000
"""With data. The tail has room for 1,000 more below S3's limit of 10,000 parts."""

_LAYOUT = struct.Struct(">HB6s6s32s8s32sB28s")
_ETAG_ROOM = 28
_DIGEST = "b3:"
assert _LAYOUT.size == RECORD_BYTES


class SegmentKind(IntEnum):
    """``FILES``: a run of whole regular files. ``LARGE``: a piece of one large file. ``TAIL``: all that is no file."""

    FILES = 1
    LARGE = 2
    TAIL = 3


@dataclass(frozen=True)
class SegmentRecord:
    """What is known of a segment once the store has accepted the part that it is in.

    ``number`` counts from 1 in archive order. ``digest`` (BLAKE3) is of the raw bytes, ``crc64`` (CRC-64/NVME) of the
    stored ones, ``content`` the content fingerprint of its entries as the walker saw them. ``etag`` is that of the
    part, in the record of the part's last segment; else it is empty.
    """

    number: int
    kind: SegmentKind
    raw_bytes: int
    stored_bytes: int
    digest: bytes
    crc64: bytes
    content: bytes
    etag: str = ""

    @classmethod
    def of_packed(cls, said: Mapping[str, Any]) -> SegmentRecord:
        """As the archiver tells it."""
        return cls(
            number=said["number"],
            kind=SegmentKind[said["kind"].upper()],
            raw_bytes=said["raw_bytes"],
            stored_bytes=said["stored_bytes"],
            digest=digest_bytes(said["digest"]),
            crc64=bytes.fromhex(said["crc64"]),
            content=digest_bytes(said["content"]),
        )

    def pack(self) -> bytes:
        """116 bytes. ``ValueError`` for an ETag that is neither an MD5 nor up to 28 bytes of ASCII."""
        etag = _etag_bytes(self.etag)
        return _LAYOUT.pack(
            self.number,
            self.kind,
            self.raw_bytes.to_bytes(6, "big"),
            self.stored_bytes.to_bytes(6, "big"),
            self.digest,
            self.crc64,
            self.content,
            etag[0],
            etag[1:],
        )

    @classmethod
    def unpack(cls, data: bytes) -> SegmentRecord:
        """The inverse of ``pack``."""
        number, kind, raw, stored, digest, crc64, content, mark, etag = _LAYOUT.unpack(data)
        return cls(
            number=number,
            kind=SegmentKind(kind),
            raw_bytes=int.from_bytes(raw, "big"),
            stored_bytes=int.from_bytes(stored, "big"),
            digest=digest,
            crc64=crc64,
            content=content,
            etag=etag[:16].hex() if mark == 255 else etag[:mark].decode("ascii"),
        )


def digest_text(digest: bytes) -> str:
    """A digest of 32 bytes, or a content fingerprint, with its algorithm."""
    return _DIGEST + digest.hex()


def digest_bytes(text: str) -> bytes:
    """The inverse of ``digest_text``. ``ValueError`` for another algorithm."""
    if not text.startswith(_DIGEST):
        raise ValueError(f"{text!r} is no BLAKE3 digest")
    return bytes.fromhex(text.removeprefix(_DIGEST))


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
