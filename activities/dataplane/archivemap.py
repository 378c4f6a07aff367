"""The one checker of a manifest: restore, verify, rebuild and `show` read an archive by what this accepts.

A manifest is JSON that somebody with access to the bucket may have changed. Offsets, paths, pieces, checksums and
fingerprints that contradict one another are refused here, so who reads segments need not ask again. That each is a
number in its range or a text of its form, the model has seen to before.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from pydantic import ValidationError

from activities.dataplane.manifest import LONGEST_PATH, Manifest, Piece, Segment, StoredObject, decode_path
from activities.dataplane.parts import combined
from activities.dataplane.segments import SegmentKind, digest_bytes, digest_text
from activities.dataplane.tail import Stated
from activities.objectstore.base import ObjectInfo
from codehub_storage.errors import ErrorCode, StorageError

FILES, LARGE, TAIL = (kind.name.lower() for kind in SegmentKind)
FAR_FROM = 4096
"""Bytes of a path that no plain tool can open: PATH_MAX with its final NUL."""
_NAME_MAX = 255
_BLOCK = 512
_SHARES = ((0, 16), (16, 24), (24, 32))
"""Of a content fingerprint: base, ids, privileged. Each is a sum by itself."""


def padding_of(size: int) -> int:
    """How many bytes fill up the last block of a file of ``size`` bytes."""
    return -size % _BLOCK


def sum_of_contents(contents: list[bytes]) -> bytes:
    """The content fingerprint of all together."""
    return b"".join(
        (sum(int.from_bytes(each[start:end], "big") for each in contents) % (1 << 8 * (end - start))).to_bytes(
            end - start, "big"
        )
        for start, end in _SHARES
    )


@dataclass(frozen=True)
class Numbered:
    """A segment and its number, which counts from 1."""

    number: int
    segment: Segment

    @property
    def first(self) -> bytes:
        """The first path in it."""
        return decode_path(self.segment.first)

    @property
    def last(self) -> bytes:
        """The last path in it."""
        return decode_path(self.segment.last)

    @property
    def is_far(self) -> bool:
        """True for a run of files whose paths no plain tool can open."""
        return self.segment.kind == FILES and len(self.first) >= FAR_FROM


@dataclass(frozen=True)
class ArchiveMap:
    """Where everything is in the object. ``large``: the first piece of each large file, in order."""

    object: StoredObject
    content: bytes
    data: tuple[Numbered, ...]
    tail: tuple[Numbered, ...]
    large: tuple[Numbered, ...]

    @classmethod
    def of(cls, manifest: Manifest, info: ObjectInfo | None = None) -> ArchiveMap:
        """``ArchiveUnproven`` for a placeholder, ``ArchiveCorrupt`` for a manifest that contradicts itself, or is not
        of the object ``info``, whatever its ETag."""
        if manifest.archive_id is None or manifest.object is None:
            raise StorageError(ErrorCode.ARCHIVE_UNPROVEN, "no proven archive is named by this manifest")
        named = manifest.object
        if info is not None and (named.key, named.size_bytes) != (info.key, info.size_bytes):
            raise _corrupt("the object is not the one that the manifest names")
        numbered = [Numbered(number, segment) for number, segment in enumerate(manifest.segments, 1)]
        _check_offsets(numbered, named.size_bytes)
        for item in numbered:
            _check_segment(item)
        _check_sums(manifest, named, info)
        data = tuple(item for item in numbered if item.segment.kind != TAIL)
        _check_order([item for item in data if item.segment.kind == FILES and not item.is_far])
        _check_order([item for item in data if item.is_far])
        large = _check_pieces([item for item in data if item.segment.kind == LARGE])
        return cls(named, digest_bytes(manifest.content_fingerprint), data, tuple(numbered[len(data) :]), large)


def check_statement(manifest: Manifest, said: object) -> None:
    """``ArchiveCorrupt`` unless the archive's tail states what the manifest says.

    ``said``: by the archiver, which has read bytes that somebody may have made up, so it counts for a refusal alone.
    """
    try:
        stated = Stated.model_validate(said)
    except ValidationError as error:
        raise _corrupt("the archive ends without a statement of ours") from error
    unasked = {"raw_bytes": 0, "stored_bytes": 0, "skipped": {}}
    totals, expected = (each.model_copy(update=unasked) for each in (stated.totals, manifest.totals))
    for what, is_so in (
        ("number of segments", stated.segments == len(manifest.segments) - 1),
        ("content fingerprint", stated.content_fingerprint == manifest.content_fingerprint),
        ("counts", totals == expected),
    ):
        if not is_so:
            raise _corrupt(f"the {what} in the manifest is not what the archive's tail states")


def _check_offsets(numbered: list[Numbered], size: int) -> None:
    """Segments lie one behind the other and fill the object; the tail is at its end."""
    at, in_tail = 0, False
    for item in numbered:
        segment = item.segment
        in_tail = in_tail or segment.kind == TAIL
        if segment.offset != at or segment.stored_bytes == 0:
            raise corrupt_segment(item.number, "the manifest puts it where it cannot be")
        if segment.kind not in (FILES, LARGE, TAIL) or in_tail != (segment.kind == TAIL):
            raise corrupt_segment(item.number, f"the manifest calls it {segment.kind!r}, out of place")
        if (segment.piece is None) != (segment.kind != LARGE):
            raise corrupt_segment(item.number, "a piece of a file is stated where there is none, or missing")
        at += segment.stored_bytes
    if at != size or not in_tail:
        raise _corrupt("the manifest does not describe the whole object")


def _check_segment(item: Numbered) -> None:
    """What is text in the manifest can be decoded, and names are clean."""
    segment = item.segment
    try:
        known = segment.digest and segment.content and segment.crc64
        if known:
            digest_bytes(segment.digest), digest_bytes(segment.content), bytes.fromhex(segment.crc64)
        names = [item.first, item.last]
    except (ValueError, binascii.Error) as error:
        raise corrupt_segment(item.number, "the manifest's entry for it cannot be read") from error
    if not known:
        raise corrupt_segment(item.number, "the manifest does not say what it holds")
    if segment.kind != TAIL and not all(map(_is_clean, names)):
        raise corrupt_segment(item.number, "the manifest gives it a name that no volume has")


def _check_sums(manifest: Manifest, named: StoredObject, info: ObjectInfo | None) -> None:
    """Segments make the whole: its checksum and its content fingerprint."""
    whole = combined((bytes.fromhex(each.crc64), each.stored_bytes) for each in manifest.segments).hex()
    if whole != named.crc64 or (info is not None and info.crc64 and info.crc64.hex() != whole):
        raise _corrupt("the checksum of the whole object is not that of its segments")
    contents = [digest_bytes(each.content) for each in manifest.segments]
    if digest_text(sum_of_contents(contents)) != manifest.content_fingerprint:
        raise _corrupt("the entries of the segments are not those of the whole")


def _check_order(run: list[Numbered]) -> None:
    """The ranges of runs of files do not overlap, so no name comes twice."""
    previous: list[bytes] = []
    for item in run:
        first, last = item.first.split(b"/"), item.last.split(b"/")
        if first > last or first <= previous or item.segment.entries == 0:
            raise corrupt_segment(item.number, "its range of names overlaps with another")
        previous = last


def _check_pieces(run: list[Numbered]) -> tuple[Numbered, ...]:
    """Pieces of a file follow one another without gap and overlap, from its first byte to its last."""
    large: list[Numbered] = []
    names = set[bytes]()
    at, whole, path = 0, 0, b""
    for item in run:
        piece = item.segment.piece
        if piece is None or piece.path != item.segment.first or item.segment.last != item.segment.first:
            raise corrupt_segment(item.number, "the manifest does not say which piece it is")
        if piece.offset == 0:
            if at != whole or item.first in names:
                raise corrupt_segment(item.number, "another file ends early, or its file comes twice")
            large.append(item)
            names.add(item.first)
            whole, path = piece.file_bytes, item.first
        elif piece.offset != at or piece.file_bytes != whole or item.first != path:
            raise corrupt_segment(item.number, "a piece of its file is missing")
        _check_extent(item, piece)
        at = piece.offset + piece.length
    if at != whole:
        raise corrupt_segment(run[-1].number, "the end of its file is missing")
    return tuple(large)


def _check_extent(item: Numbered, piece: Piece) -> None:
    end, hole_end = piece.offset + piece.length, piece.offset
    for start, length in piece.holes:
        if start < hole_end or length == 0:
            raise corrupt_segment(item.number, "its holes overlap")
        hole_end = start + length
    if (
        hole_end > end
        or end > piece.file_bytes
        or (piece.header_bytes > 0) != (piece.offset == 0)
        or item.segment.entries != (piece.offset == 0)
        or (piece.length == 0 and piece.file_bytes)
    ):
        raise corrupt_segment(item.number, "its piece contradicts itself")
    padding = padding_of(piece.file_bytes) if end == piece.file_bytes else 0
    if item.segment.raw_bytes != piece.header_bytes + piece.length + padding:
        raise corrupt_segment(item.number, "its length is not that of its piece")


def _is_clean(path: bytes) -> bool:
    """A relative name that stays below its root, and that a volume can have."""
    parts = path.split(b"/")
    return (
        len(path) <= LONGEST_PATH
        and b"\0" not in path
        and all(part not in (b"", b".", b"..") and len(part) <= _NAME_MAX for part in parts)
    )


def corrupt_segment(number: int, why: str) -> StorageError:
    """``ArchiveCorrupt``, naming the segment."""
    return StorageError(ErrorCode.ARCHIVE_CORRUPT, f"segment {number}: {why}", details={"segment": number})


def _corrupt(what: str) -> StorageError:
    return StorageError(ErrorCode.ARCHIVE_CORRUPT, what)
