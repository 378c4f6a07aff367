"""Files that are written in order: the bytes are right, and the holes are exactly the long runs of zeros."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.dataplane.hollow import HollowFile
from activities.dataplane.large import MIN_HOLE_BYTES, PAGE, Range

KIB = 1 << 10

LENGTHS = st.one_of(
    st.sampled_from([1, 511, PAGE - 1, PAGE, PAGE + 1, 60 * KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 300 * KIB]),
    st.integers(1, 150 * KIB),
)
RUNS = st.lists(st.tuples(st.sampled_from([b"\0", b"\0", b"x", b"\0x", b"x\0"]), LENGTHS), max_size=8)


def content_of(runs: list[tuple[bytes, int]]) -> bytes:
    return b"".join((pattern * length)[:length] for pattern, length in runs)


def pieces(content: bytes, lengths: list[int]) -> Iterator[memoryview]:
    """The content, cut at those lengths again and again."""
    at = 0
    for length in itertools.cycle(lengths):
        if at >= len(content):
            return
        yield memoryview(content)[at : at + length]
        at += length


def hollow(path: Path, content: bytes, lengths: list[int]) -> list[Range]:
    """Written in those pieces, read and compared; then its holes, as the kernel knows them."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        file = HollowFile(fd)
        for piece in pieces(content, lengths):
            file.write(piece)
        file.finish()
        assert path.read_bytes() == content
        return holes_of(fd, len(content))
    finally:
        os.close(fd)


def holes_of(fd: int, size: int) -> list[Range]:
    """All of them, of whatever length."""
    found: list[Range] = []
    at = 0
    while at < size and (start := os.lseek(fd, at, os.SEEK_HOLE)) < size:
        try:
            at = os.lseek(fd, start, os.SEEK_DATA)
        except OSError:  # ENXIO: no data behind it
            at = size
        found.append((start, at - start))
    return found


def long_runs(content: bytes) -> list[Range]:
    """Whole blocks of zeros, one behind the other, of 64 KiB at least; the last block may be cut off."""
    found: list[Range] = []
    blocks = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    at = 0
    for is_zero, group in itertools.groupby(blocks, lambda block: not any(block)):
        length = sum(len(block) for block in group)
        if is_zero and length >= MIN_HOLE_BYTES:
            found.append((at, length))
        at += length
    return found


@given(runs=RUNS, lengths=st.lists(LENGTHS, min_size=1, max_size=4))
def test_holes_are_the_long_runs_of_zeros(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[bytes, int]], lengths: list[int]
) -> None:
    """However the content is cut into pieces: none more, none less, none shorter."""
    content = content_of(runs)
    lengths = [max(length, len(content) // 500) for length in lengths]
    assert hollow(tmp_path_factory.getbasetemp() / "hollow", content, lengths) == long_runs(content)


def test_only_whole_blocks_count(tmp_path: Path) -> None:
    """Zeros of 64 KiB that begin and end within a block are written, also where pieces are cut just there."""
    content = b"x" * 100 + bytes(MIN_HOLE_BYTES) + b"x" * 100
    assert hollow(tmp_path / "hollow", content, [100, MIN_HOLE_BYTES]) == []


def test_zeros_up_to_a_block_less_than_64_kib_are_written(tmp_path: Path) -> None:
    """They take their space: no file becomes a sieve."""
    short, long = (b"x" * PAGE + bytes(size) + b"x" for size in (MIN_HOLE_BYTES - PAGE, MIN_HOLE_BYTES))
    assert hollow(tmp_path / "short", short, [256 * KIB]) == []
    assert hollow(tmp_path / "long", long, [256 * KIB]) == [(PAGE, MIN_HOLE_BYTES)]
