"""Files that tar is not asked to read: large ones, cut into pieces, and paths that are too long to be opened by name.

Everything is opened component by component below the volume's root, links never followed. Holes are found with
SEEK_DATA, written as zeros without being read, and noted so that a restore can make them again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from activities.dataplane.entries import Content, Entry, FileType, content_of
from activities.dataplane.gzipmember import MemberWriter
from activities.dataplane.tarheader import BLOCK, padding_of
from activities.dataplane.tarwrite import build_header
from activities.dataplane.threads import Stop
from activities.dataplane.walk import entry_of_file, volume_changed, volume_error

MAX_PATH_BYTES = 4095
"""Longer names cannot be passed to the kernel whole, so not to tar either."""
HOLE_WEIGHT = 512
"""So many bytes of a hole count as one byte of data when a file is cut: ISA-L makes one byte of about 980 zeros."""
MIN_HOLE_BYTES = 64 << 10
MAX_HOLES = 65536
_PAGE = 4096
_READ_BYTES = 1 << 18
_ZEROS = bytes(_READ_BYTES)
_FOLDER_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

Range = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """One piece of a large file: the bytes ``[offset, offset + length)``, and what it weighs when cutting."""

    offset: int
    length: int
    weight: int


@contextmanager
def open_below(root: Path | str, path: bytes) -> Iterator[int]:
    """A file of the volume, open for reading. Raises ``VolumeChanged`` and ``VolumeUnreadable``."""
    *folders, name = path.split(b"/")
    fd = -1
    try:
        at = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                inner = os.open(folder, _FOLDER_FLAGS, dir_fd=at)
                os.close(at)
                at = inner
            fd = os.open(name, _FILE_FLAGS, dir_fd=at)
        finally:
            os.close(at)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise volume_changed(path, "is no regular file any more")
        yield fd
    except OSError as error:
        raise volume_error(path, error) from error
    finally:
        if fd >= 0:
            os.close(fd)


def find_holes(fd: int, size: int) -> list[Range]:
    """The holes of a file as (offset, length), in whole blocks; small ones count as data.

    The least length grows with the file, so that there are at most ``MAX_HOLES`` of them.
    """
    least = max(MIN_HOLE_BYTES, size // MAX_HOLES)
    holes: list[Range] = []
    at = 0
    while at < size:
        data = _seek(fd, at, os.SEEK_DATA, size)
        end = data if data == size else data - data % _PAGE
        if end - at >= least:
            holes.append((at, end - at))
        if data >= size:
            break
        at = min(size, -(-_seek(fd, data, os.SEEK_HOLE, size) // _PAGE) * _PAGE)
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


def write_piece(
    root: Path | str, entry: Entry, content: Content, cut: Cut, holes: list[Range], member: MemberWriter, stop: Stop
) -> int:
    """One piece of a file into its member; answers the bytes of the tar header (0 but in the first piece).

    The file must be, before and after, what the plan saw: ``VolumeChanged`` otherwise.
    """
    header = build_header(entry) if cut.offset == 0 else b""
    with open_below(root, entry.path) as fd:
        _expect(fd, entry, content)
        if header:
            member.write(header)
        end = cut.offset + cut.length
        at = cut.offset
        for start, length in [*holes_within(holes, cut), (end, 0)]:
            _copy(fd, entry, at, start, member, stop)
            _zeros(length, member, stop)
            at = start + length
        if end == entry.size:
            member.write(bytes(padding_of(entry.size)))
        _expect(fd, entry, content)
    return len(header)


def write_file(root: Path | str, entry: Entry, content: Content, member: MemberWriter, stop: Stop) -> None:
    """A whole file, header and data."""
    write_piece(root, entry, content, Cut(0, entry.size, entry.size), [], member, stop)


def _expect(fd: int, entry: Entry, content: Content) -> None:
    """The open file is still the one that was planned."""
    now = entry_of_file(fd, entry.path)
    if (now.inode, now.ctime_ns) != (entry.inode, entry.ctime_ns) or content_of(now) != content:
        raise volume_changed(entry.path, "changed while it was read")


def _copy(fd: int, entry: Entry, start: int, end: int, member: MemberWriter, stop: Stop) -> None:
    while start < end:
        stop.check()
        data = os.pread(fd, min(_READ_BYTES, end - start), start)
        if not data:
            raise volume_changed(entry.path, "became shorter while it was read")
        member.write(data)
        start += len(data)


def _zeros(length: int, member: MemberWriter, stop: Stop) -> None:
    view = memoryview(_ZEROS)
    while length:
        stop.check()
        step = min(length, len(_ZEROS))
        member.write(view[:step])
        length -= step


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


def needs_own_code(entry: Entry) -> bool:
    """True for a file whose path tar could not open."""
    return entry.type is FileType.FILE and len(entry.path) > MAX_PATH_BYTES
