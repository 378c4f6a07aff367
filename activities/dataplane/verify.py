"""The proof: a finished archive is read back whole, and every byte of it is what was meant to be stored.

Only that justifies the deletion of a volume. A HEAD proves nothing: stores have been seen to answer the right checksum
for bytes that had rotted, and the full size for objects that lacked parts.
"""

from __future__ import annotations

import hashlib
from typing import NoReturn

from awscrt import checksums

from activities.dataplane.entries import EMPTY_CONTENT, Content, Entry, FileType, content_of, is_clean_path
from activities.dataplane.gzipmember import CorruptMember, MemberReader
from activities.dataplane.manifest import Manifest, Segment, StoredObject, encode_path
from activities.dataplane.plan import Progress
from activities.dataplane.proof import combined_crc64
from activities.dataplane.running import IN_THREADS, Port, Runner
from activities.dataplane.segments import SegmentKind
from activities.dataplane.tarheader import TarError, TarScanner, padding_of
from activities.dataplane.threads import Stop, run_together
from activities.objectstore.base import ObjectInfo, ObjectStore
from codehub_storage.errors import ErrorCode, StorageError

CONCURRENCY = 3
_TAIL, _LARGE = SegmentKind.TAIL.name.lower(), SegmentKind.LARGE.name.lower()


async def verify_archive(
    store: ObjectStore,
    info: ObjectInfo,
    manifest: Manifest,
    *,
    progress: Progress,
    concurrency: int = CONCURRENCY,
    runner: Runner = IN_THREADS,
) -> None:
    """Read the object ``info`` back, by ranges, against ``manifest``; ``progress`` gets stored bytes.

    Checked are stored length, CRC-64 and gzip trailer, raw length and SHA-256 of every segment, its tar headers
    against the walk's content fingerprint, and that the segments are the whole object and the whole tree. ``runner``
    says where that is done. Raises
    ``ArchiveCorrupt``, naming the segment, and what the store raises; ``PreconditionFailed`` if the object was
    replaced meanwhile.
    """
    check_layout(info, manifest)
    contents: dict[int, Content] = {}
    seen_bytes = 0
    todo = iter(list(enumerate(manifest.segments, 1)))

    def count(length: int) -> None:
        nonlocal seen_bytes
        seen_bytes += length
        progress(seen_bytes)

    async def work() -> None:
        for number, segment in todo:
            source = store.read(
                info.key,
                offset=segment.offset,
                length=segment.stored_bytes,
                etag=info.etag,
                version_id=info.version_id,
            )
            is_last = number == len(manifest.segments)
            contents[number] = await runner.run(check_segment, number, segment, is_last, source=source, on_chunk=count)

    await run_together(work() for _ in range(concurrency))
    total = EMPTY_CONTENT
    for content in contents.values():
        total = total.plus(content)
    if total.hex() != manifest.content_fingerprint:
        _corrupt("the entries of the archive are not those of the volume")


def check_layout(info: ObjectInfo, manifest: Manifest) -> StoredObject:
    """The manifest is of this object, whatever its ETag here, and its segments cover it without gap.
    ``ArchiveCorrupt`` otherwise."""
    named = manifest.object
    if named is None or manifest.is_placeholder or not manifest.segments:
        _corrupt("the manifest names no object")
    if (named.key, named.size_bytes) != (info.key, info.size_bytes):
        _corrupt("the object is not the one that the manifest names")
    offset = 0
    for number, segment in enumerate(manifest.segments, 1):
        if segment.offset != offset or segment.stored_bytes <= 0:
            _corrupt("it does not begin where the one before it ends", number)
        offset += segment.stored_bytes
    if offset != info.size_bytes:
        _corrupt(f"the segments cover {offset} bytes of {info.size_bytes}")
    whole = _combined(manifest)
    if whole != named.crc64 or (info.crc64 and info.crc64.hex() != whole):
        _corrupt("the checksum of the whole object is not that of its segments")
    _check_pieces(manifest)
    kinds = [segment.kind for segment in manifest.segments]
    if (
        kinds[-1] != _TAIL
        or _TAIL in kinds[: kinds.index(_TAIL)]
        or kinds != sorted(kinds, key=lambda kind: kind == _TAIL)
    ):
        _corrupt("the tail is not at the end")
    return named


def _combined(manifest: Manifest) -> str:
    try:
        return combined_crc64(manifest.segments)
    except (ValueError, OverflowError) as error:
        _corrupt("the manifest has a checksum that is none", cause=error)


def _check_pieces(manifest: Manifest) -> None:
    """The pieces of each large file follow one another, from its first byte to its last."""
    path, expected, size = "", 0, 0
    for number, segment in enumerate(manifest.segments, 1):
        piece = segment.piece
        if (piece is None) != (segment.kind != _LARGE):
            _corrupt("a piece of a file is stated where there is none, or the other way round", number)
        if expected < size and (piece is None or piece.path != path):
            _corrupt("the rest of a large file is missing before it", number)
        if piece is None:
            continue
        if expected >= size:
            path, expected, size = piece.path, 0, piece.file_bytes
        if piece.offset != expected or piece.file_bytes != size or piece.length < 0:
            _corrupt("it is not the next piece of its file", number)
        raw = piece.header_bytes + piece.length + (padding_of(size) if piece.offset + piece.length == size else 0)
        if raw != segment.raw_bytes or (piece.header_bytes > 0) != (piece.offset == 0):
            _corrupt("its length is not that of its piece", number)
        expected += piece.length


def check_segment(port: Port, number: int, segment: Segment, is_last: bool) -> Content:
    """Check one segment as a whole; answers what it holds. Raises ``ArchiveCorrupt``."""
    check = SegmentCheck(number, segment, is_last=is_last)
    for chunk in port:
        check.feed(chunk, port.stop)
    return check.finish()


class SegmentCheck:
    """Checks one segment as its stored bytes come in."""

    def __init__(self, number: int, segment: Segment, *, is_last: bool) -> None:
        self._number = number
        self._segment = segment
        self._is_last = is_last
        self._member = MemberReader(raw_limit=segment.raw_bytes)
        self._sha256 = hashlib.sha256()
        self._crc64 = 0
        self._stored_bytes = 0
        self._scanner = TarScanner()
        self._scan_left = segment.piece.header_bytes if segment.piece else segment.raw_bytes
        self._entries = 0
        self._first = self._last = b""
        self._content = EMPTY_CONTENT

    def feed(self, block: bytes | memoryview, stop: Stop) -> None:
        """Take the next stored bytes. Raises ``ArchiveCorrupt``."""
        self._crc64 = checksums.crc64nvme(block, self._crc64)
        self._stored_bytes += len(block)
        try:
            for raw in self._member.feed(block):
                stop.check()
                self._sha256.update(raw)
                if self._scan_left:
                    self._scan(memoryview(raw)[: self._scan_left])
        except (CorruptMember, TarError) as error:
            _corrupt(str(error), self._number, error)

    def finish(self) -> Content:
        """All bytes are in: do they make the segment? Answers what it holds."""
        segment = self._segment
        try:
            self._member.finish()
            if segment.piece is None:
                self._scanner.finish(need_end=self._is_last)
        except (CorruptMember, TarError) as error:
            _corrupt(str(error), self._number, error)
        if not self._is_last and self._scanner.end_offset is not None:
            _corrupt("end-of-archive blocks before the end", self._number)
        for what, found, stated in (
            ("stored length", self._stored_bytes, segment.stored_bytes),
            ("CRC-64", f"{self._crc64:016x}", segment.crc64),
            ("length", self._member.raw_bytes, segment.raw_bytes),
            ("SHA-256", self._sha256.hexdigest(), segment.sha256),
            ("number of entries", self._entries, segment.entries),
            ("content fingerprint", self._content.hex(), segment.content),
        ):
            if found != stated:
                _corrupt(f"its {what} is {found}, not {stated}", self._number)
        if self._entries and (encode_path(self._first), encode_path(self._last)) != (segment.first, segment.last):
            _corrupt("its first and last path are not those stated", self._number)
        return self._content

    def _scan(self, raw: memoryview) -> None:
        self._scan_left -= len(raw)
        for found in self._scanner.feed(raw):
            if isinstance(found, Entry):
                self._take(found)

    def _take(self, entry: Entry) -> None:
        if (entry.type is FileType.FILE) is (self._segment.kind == _TAIL):
            _corrupt("files and what is none are mixed", self._number)
        if entry.path and not is_clean_path(entry.path):
            _corrupt("a name leads out of the volume", self._number)
        if not self._entries:
            self._first = entry.path
        self._last = entry.path
        self._entries += 1
        self._content = self._content.plus(content_of(entry))


def _corrupt(what: str, number: int | None = None, cause: Exception | None = None) -> NoReturn:
    where, details = ("", {}) if number is None else (f"segment {number}: ", {"segment": number})
    raise StorageError(ErrorCode.ARCHIVE_CORRUPT, where + what, details=details) from cause
