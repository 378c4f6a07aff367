"""Large files: where their holes are, and how they are cut into pieces.

Holes are found with SEEK_DATA, written as zeros without being read, and noted so that a restore can make them again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from activities.dataplane.entries import Entry, FileType
from activities.dataplane.tarheader import BLOCK

MAX_PATH_BYTES = 4095
"""Longer names cannot be passed to the kernel whole, so plain tools cannot make them."""
HOLE_WEIGHT = 512
"""So many bytes of a hole count as one byte of data when a file is cut: ISA-L makes one byte of about 980 zeros."""
MIN_HOLE_BYTES = 64 << 10
MAX_HOLES = 65536
PAGE = 4096

Range = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """One piece of a large file: the bytes ``[offset, offset + length)``, and what it weighs when cutting."""

    offset: int
    length: int
    weight: int


def find_holes(fd: int, size: int) -> list[Range]:
    """The holes of a file as (offset, length), in whole blocks; small ones count as data.

    The least length grows with the file, so that there are at most ``MAX_HOLES`` of them.
    """
    least = max(MIN_HOLE_BYTES, size // MAX_HOLES)
    holes: list[Range] = []
    at = 0
    while at < size:
        data = _seek(fd, at, os.SEEK_DATA, size)
        end = data if data == size else data - data % PAGE
        if end - at >= least:
            holes.append((at, end - at))
        if data >= size:
            break
        at = min(size, -(-_seek(fd, data, os.SEEK_HOLE, size) // PAGE) * PAGE)
    return holes


def cut_file(size: int, holes: list[Range], piece_bytes: int) -> list[Cut]:
    """Pieces of about equal weight, none above ``piece_bytes``. Pieces begin at multiples of a block."""
    total = _weight(0, size, holes)
    count = max(1, -(-total // piece_bytes))
    goal = -(-total // count // BLOCK) * BLOCK or BLOCK
    cuts: list[Cut] = []
    offset, weight = 0, 0
    for start, length, per_byte in _runs(size, holes):
        at, end = start, start + length
        while at < end:
            room = (goal - weight) * per_byte
            step = min(end - at, _whole_blocks(room))
            at += step
            weight += -(-step // per_byte)
            if at < end:
                cuts.append(Cut(offset, at - offset, weight))
                offset, weight = at, 0
    if size > offset or not cuts:
        cuts.append(Cut(offset, size - offset, weight))
    return cuts


def holes_within(holes: list[Range], cut: Cut) -> list[Range]:
    """The parts of ``holes`` that lie in a piece."""
    end = cut.offset + cut.length
    found = ((max(at, cut.offset), min(at + length, end)) for at, length in holes)
    return [(start, stop - start) for start, stop in found if stop > start]


def _seek(fd: int, at: int, whence: int, size: int) -> int:
    """``lseek`` for SEEK_DATA and SEEK_HOLE: never beyond ``size``; no holes where a file system knows none."""
    try:
        return min(size, os.lseek(fd, at, whence))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return at if whence == os.SEEK_DATA else size
        raise


def _runs(size: int, holes: list[Range]) -> Iterator[tuple[int, int, int]]:
    """(start, length, bytes per unit of weight) of data and holes in turn."""
    at = 0
    for start, length in [*holes, (size, 0)]:
        if start > at:
            yield at, start - at, 1
        if length:
            yield start, length, HOLE_WEIGHT
        at = start + length


def _weight(start: int, end: int, holes: list[Range]) -> int:
    hollow = sum(length for _, length in holes)
    return end - start - hollow + hollow // HOLE_WEIGHT


def _whole_blocks(length: int) -> int:
    return max(BLOCK, length // BLOCK * BLOCK)


def is_far(entry: Entry) -> bool:
    """True for a file whose path no plain tool can open."""
    return entry.type is FileType.FILE and len(entry.path) > MAX_PATH_BYTES
