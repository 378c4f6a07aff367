"""Members: readable by others, padded without a trace, bounded when read."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.dataplane.gzipmember import BUFFER_BYTES, CorruptMember, MemberReader, MemberWriter, PackedMember

_WHOLE_BLOCK = 5 + 0xFFFF


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


def test_what_cannot_be_compressed_is_stored() -> None:
    """Between compressible stretches, and back again: others read it, and it takes no more than its blocks' headers."""
    dense, thin = os.urandom(4 * BUFFER_BYTES + 1234), b"some text that repeats " * 100_000
    for data in (dense, thin + dense + thin, dense + thin + dense[: BUFFER_BYTES + 1]):
        member = pack(data, step=1 << 20)
        stored = b"".join(member.chunks)
        assert gzip.decompress(stored) == data
        assert read(stored, len(data), 1 << 18) == data
    blocks = sum(1 for chunk in pack(dense, step=1 << 20).chunks if len(chunk) == _WHOLE_BLOCK and chunk[0] == 0)
    assert blocks >= 2 * (BUFFER_BYTES // 0xFFFF)


def test_nothing_refers_across_stored_blocks() -> None:
    """The last compressed bytes come again behind stored ones; the distance to them is not the compressor's."""
    for _ in range(20):
        dense = os.urandom(2 * BUFFER_BYTES)  # one buffer is compressed, in vain, the next one stored
        data = dense + bytes(12_000) + dense[BUFFER_BYTES - 8000 : BUFFER_BYTES]
        assert gzip.decompress(b"".join(pack(data, step=1 << 20).chunks)) == data


def test_files_are_read_straight_into_it(tmp_path: Path) -> None:
    """From any offset, in any order with what else is written; the end of the file is told."""
    data = os.urandom(3 * BUFFER_BYTES)
    (tmp_path / "f").write_bytes(data)
    writer = MemberWriter()
    with (tmp_path / "f").open("rb") as file:
        writer.write(b"before")
        assert writer.write_from(file.fileno(), BUFFER_BYTES + 5, 7) == BUFFER_BYTES + 5
        assert writer.write_from(file.fileno(), 100, len(data) - 40) == 40
    assert writer.raw_bytes == 6 + BUFFER_BYTES + 5 + 40
    stored = b"".join(writer.finish().chunks)
    assert gzip.decompress(stored) == b"before" + data[7 : BUFFER_BYTES + 12] + data[-40:]


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
