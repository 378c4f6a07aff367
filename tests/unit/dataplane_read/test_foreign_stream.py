"""The gzip side of a foreign archive: where it is torn into chunks does not matter."""

from __future__ import annotations

import gzip
import zlib

import pytest

from activities.dataplane.foreign_stream import Bound, TarStream
from codehub_storage.errors import ErrorCode

RAW = b"hello world" * 100
HEADERS = {
    "plain": (0, b""),
    "name": (8, b"home.tar\0"),
    "blocks of bgzip": (4, b"\6\0BC\2\0ab"),
    "comment": (16, b"comment\0"),
    "dictzip": (12, b"\6\0RA\2\0abhome.tar\0"),
    "all": (28, b"\6\0RA\2\0abhome.tar\0comment\0"),
    "long extra field": (4, b"\xff\xff" + bytes(0xFFFF)),
}


@pytest.mark.parametrize("has_crc", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_may_be_torn_anywhere(name: str, has_crc: bool) -> None:
    """Every kind of header that RFC 1952 has, of the first member and of a later one, one byte at a time too."""
    flags, fields = HEADERS[name]
    header = b"\x1f\x8b\x08" + bytes([flags | 2 * has_crc]) + bytes(6) + fields
    if has_crc:
        header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    stored = (header + gzip.compress(RAW, mtime=0)[10:]) * 2
    cuts = [*range(1, 40), len(header) - 1, len(header) + 1, len(stored) // 2 + 5]
    for pieces in ([stored[:cut], stored[cut:]] for cut in cuts):
        assert TarStream(pieces, Bound(1 << 20, ErrorCode.NO_SPACE)).take(2 * len(RAW)) == 2 * RAW
    single = [stored[at : at + 1] for at in range(len(stored) if len(stored) < 5000 else 0)] or [stored]
    stream = TarStream(single, Bound(1 << 20, ErrorCode.NO_SPACE))
    assert stream.take(2 * len(RAW)) == 2 * RAW
    stream.end()
