"""A manifest made ready for reading: checked as a whole before its first segment is fetched.

A manifest is JSON that somebody with access to the bucket may have changed. Offsets, paths and pieces that
contradict one another are refused here, so those who read segments need not ask again.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from activities.dataplane.beneath import clean_components, shown
from activities.dataplane.entries import Content
from activities.dataplane.gate import corrupt_segment
from activities.dataplane.large import MAX_PATH_BYTES
from activities.dataplane.manifest import Manifest, Piece, Segment, StoredObject, decode_path
from activities.dataplane.segments import SegmentKind
from codehub_storage.errors import ErrorCode, StorageError

FILES, LARGE, TAIL = (kind.name.lower() for kind in SegmentKind)


@dataclass(frozen=True)
class Numbered:
    """A segment and its number, which counts from 1."""

    number: int
    segment: Segment

    @property
    def content(self) -> Content:
        """Its content fingerprint."""
        return Content.from_hex(self.segment.content)

    @property
    def first(self) -> bytes:
        """The first path in it."""
        return decode_path(self.segment.first)

    @property
    def last(self) -> bytes:
        """The last path in it."""
        return decode_path(self.segment.last)

    @property
    def is_long(self) -> bool:
        """True for a run of files whose paths no plain tool can open."""
        return self.segment.kind == FILES and len(self.first) > MAX_PATH_BYTES


@dataclass(frozen=True)
class ArchiveMap:
    """Where everything is in the object. ``large``: the first piece of each large file, by path."""

    object: StoredObject
    data: tuple[Numbered, ...]
    tail: tuple[Numbered, ...]
    large: dict[bytes, Numbered]

    @classmethod
    def of(cls, manifest: Manifest) -> ArchiveMap:
        """``ArchiveUnproven`` for a placeholder, ``ArchiveCorrupt`` for a manifest that contradicts itself."""
        if manifest.archive_id is None or manifest.object is None:
            raise StorageError(ErrorCode.ARCHIVE_UNPROVEN, "no proven archive is named by this manifest")
        numbered = [Numbered(number, segment) for number, segment in enumerate(manifest.segments, 1)]
        _check_offsets(numbered, manifest.object.size_bytes)
        data = tuple(item for item in numbered if item.segment.kind != TAIL)
        for item in numbered:
            _check_segment(item)
        _check_order([item for item in data if item.segment.kind == FILES and not item.is_long])
        _check_order([item for item in data if item.is_long])
        large = _check_pieces([item for item in data if item.segment.kind == LARGE])
        return cls(manifest.object, data, tuple(numbered[len(data) :]), large)


def _check_offsets(numbered: list[Numbered], size: int) -> None:
    """Segments lie one behind the other and fill the object; the tail is at its end."""
    at, in_tail = 0, False
    for item in numbered:
        segment = item.segment
        in_tail = in_tail or segment.kind == TAIL
        if segment.offset != at or segment.stored_bytes <= 0 or segment.raw_bytes < 0 or segment.entries < 0:
            raise corrupt_segment(item.number, "the manifest puts it where it cannot be")
        if segment.kind not in (FILES, LARGE, TAIL) or in_tail != (segment.kind == TAIL):
            raise corrupt_segment(item.number, f"the manifest calls it {segment.kind!r}, out of place")
        at += segment.stored_bytes
    if at != size or not in_tail:
        raise StorageError(ErrorCode.ARCHIVE_CORRUPT, "the manifest does not describe the whole object")


def _check_segment(item: Numbered) -> None:
    """What is text in the manifest can be decoded, and names are clean."""
    try:
        _ = item.content
        if item.segment.kind != TAIL:
            clean_components(item.first)
            clean_components(item.last)
    except (ValueError, binascii.Error) as error:
        raise corrupt_segment(item.number, "the manifest's entry for it cannot be read") from error


def _check_order(run: list[Numbered]) -> None:
    """The ranges of runs of files do not overlap, so no name comes twice."""
    previous: list[bytes] = []
    for item in run:
        first, last = item.first.split(b"/"), item.last.split(b"/")
        if first > last or first <= previous or item.segment.entries < 1 or item.segment.piece is not None:
            raise corrupt_segment(item.number, "its range of names overlaps with another")
        previous = last


def _check_pieces(run: list[Numbered]) -> dict[bytes, Numbered]:
    """Pieces of a file follow one another without gap and overlap, from its first byte to its last."""
    large: dict[bytes, Numbered] = {}
    at, whole = 0, 0
    for item in run:
        piece, path = item.segment.piece, item.first
        if piece is None or piece.path != item.segment.first or item.segment.last != item.segment.first:
            raise corrupt_segment(item.number, "the manifest does not say which piece it is")
        if piece.offset == 0:
            if at != whole or path in large:
                raise corrupt_segment(item.number, f"another file ends early, or {shown(path)} comes twice")
            large[path], whole = item, piece.file_bytes
        elif piece.offset != at or piece.file_bytes != whole or path != next(reversed(large), None):
            raise corrupt_segment(item.number, f"a piece of {shown(path)} is missing")
        _check_extent(item.number, piece)
        at = piece.offset + piece.length
    if at != whole:
        raise corrupt_segment(run[-1].number, f"the end of {shown(run[-1].first)} is missing")
    return large


def _check_extent(number: int, piece: Piece) -> None:
    end, hole_end = piece.offset + piece.length, piece.offset
    for start, length in piece.holes:
        if start < hole_end or length <= 0:
            raise corrupt_segment(number, "its holes overlap")
        hole_end = start + length
    starts_with_header = (piece.header_bytes > 0) == (piece.offset == 0)
    if (
        not 0 <= piece.file_bytes < 1 << 63
        or piece.length < 0
        or hole_end > end
        or end > piece.file_bytes
        or not starts_with_header
    ):
        raise corrupt_segment(number, "its piece contradicts itself")
    if piece.length == 0 and piece.file_bytes:
        raise corrupt_segment(number, "its piece is empty")
