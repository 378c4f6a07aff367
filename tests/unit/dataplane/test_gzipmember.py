"""Members: readable by others, padded without a trace, bounded when read."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.dataplane.gzipmember import CorruptMember, MemberReader, MemberWriter, PackedMember


def pack(data: bytes, min_bytes: int = 0, step: int = 1 << 16) -> PackedMember:
    writer = MemberWriter()
    for at in range(0, len(data), step):
        writer.write(data[at : at + step])
    return writer.finish(min_bytes)


def read(stored: bytes, raw_limit: int | None = None, step: int = 1000) -> bytes:
    reader = MemberReader(raw_limit)
    raw = b"".join(piece for at in range(0, len(stored), step) for piece in reader.feed(stored[at : at + step]))
    reader.finish()
    return raw


@given(st.binary(max_size=5000), st.integers(0, 9000), st.integers(1, 700))
def test_others_read_it(data: bytes, min_bytes: int, step: int) -> None:
    """Python's gzip gives back the data, padded or not; nothing said of the member is wrong."""
    member = pack(data, min_bytes, step)
    stored = b"".join(member.chunks)
    assert gzip.decompress(stored) == data
    assert read(stored, len(data), step) == data
    assert member.stored_bytes == len(stored)
    assert min_bytes <= len(stored)
    assert len(stored) - member.padding_bytes == pack(data, 0, step).stored_bytes
    assert member.sha256 == hashlib.sha256(data).digest()
    assert member.raw_bytes == len(data)


def test_padding_is_exact_to_a_block() -> None:
    """It overshoots by less than the five bytes of an empty block."""
    for min_bytes in range(1000, 1010):
        member = pack(b"x" * 100, min_bytes)
        assert min_bytes <= member.stored_bytes < min_bytes + 5
        assert member.padding_bytes % 5 == 0


def test_no_padding_where_none_is_needed() -> None:
    """A member that is long enough is not touched."""
    data = os.urandom(100_000)
    assert pack(data, 90_000).padding_bytes == 0


def test_a_member_is_one_member() -> None:
    """Bytes behind its end are told apart, whether they come with it or after it."""
    stored = b"".join(pack(b"one").chunks)
    reader = MemberReader()
    assert b"".join(reader.feed(stored + b"rest")) == b"one"
    assert (reader.finished, reader.unused, reader.stored_bytes) == (True, b"rest", len(stored))
    with pytest.raises(CorruptMember):
        reader.finish()
    with pytest.raises(CorruptMember):
        list(reader.feed(b"more"))


def test_a_flipped_bit_never_gives_other_data() -> None:
    """CRC and length in the trailer guard the data; a few bits of the frame mean nothing."""
    data = b"some data that deflate can shorten, some data that deflate can shorten"
    stored = b"".join(pack(data).chunks)
    refused = 0
    for at in range(len(stored)):
        broken = stored[:at] + bytes([stored[at] ^ 0x10]) + stored[at + 1 :]
        try:
            assert read(broken, len(data)) == data, at
        except CorruptMember:
            refused += 1
    assert refused > len(stored) // 2


@pytest.mark.parametrize("missing", [1, 4, 8, 9, 30])
def test_cut_short(missing: int) -> None:
    """A member without its last bytes is no member."""
    stored = b"".join(pack(os.urandom(100)).chunks)
    with pytest.raises(CorruptMember):
        read(stored[:-missing])


def test_a_bomb_stops_at_the_limit() -> None:
    """More raw bytes than stated end the reading at once, a quarter mebibyte later at most."""
    stored = b"".join(pack(bytes(64 << 20)).chunks)
    pieces, seen = MemberReader(1 << 20).feed(stored), list[int]()
    with pytest.raises(CorruptMember):
        seen.extend(len(piece) for piece in pieces)
    assert sum(seen) <= 1 << 20


def test_large_pieces_are_given_out_small() -> None:
    """What a small block inflates to does not come at once."""
    stored = b"".join(pack(bytes(8 << 20)).chunks)
    assert max(len(piece) for piece in MemberReader().feed(stored)) <= 1 << 18


def test_members_made_by_others() -> None:
    """zlib's gzip, with a name in the header, reads as well."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    assert read(compressor.compress(b"abc" * 1000) + compressor.flush()) == b"abc" * 1000
