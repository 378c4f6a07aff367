"""A manifest from a finished archive alone, for one whose manifest was lost: `verify KEY --write-manifest`.

The archive is read whole and checked against the statement in its own tail. A lost or foreign member cannot go
unnoticed: the statement holds a digest over the digests of all segments. Holes of sparse files are not known any more;
they come back as zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from awscrt import checksums
from pydantic import ValidationError

from activities.dataplane.entries import EMPTY_CONTENT, Content, Entry, FileType, content_of
from activities.dataplane.gzipmember import CorruptMember, MemberReader
from activities.dataplane.manifest import Manifest, Piece, Segment, Totals, encode_path
from activities.dataplane.plan import COUNTERS, Progress
from activities.dataplane.proof import stored_object
from activities.dataplane.segments import SegmentKind
from activities.dataplane.tail import Statement
from activities.dataplane.tarheader import TarError, TarScanner, padding_of
from activities.dataplane.threads import Stop, run_blocking
from activities.dataplane.verify import check_layout
from activities.objectstore.base import ObjectInfo, ObjectStore
from codehub_storage.errors import ErrorCode, StorageError

if TYPE_CHECKING:
    from hashlib import _Hash

_BLOCK_BYTES = 1 << 20


async def verify_from_tail(store: ObjectStore, info: ObjectInfo, *, progress: Progress) -> Manifest:
    """Read the object ``info`` whole, check it against its own tail, and answer the manifest that proves it.

    ``progress`` gets stored bytes. Raises ``ArchiveCorrupt``, also for an object that has no such statement, and what
    the store raises. Whether the archive id is the one in the object's metadata is for the caller to compare.
    """
    reader, seen = _Reader(), 0
    async for block in _read_blocks(store, info, 0, info.size_bytes):
        await run_blocking(lambda stop, block=block: reader.feed(block, stop))  # type: ignore[misc]
        seen += len(block)
        progress(seen)
    segments = reader.finish()
    last = segments[-1]
    prefix = _Prefix(reader.last_entry_offset - sum(segment.raw_bytes for segment in segments[:-1]))
    async for block in _read_blocks(store, info, last.offset, last.stored_bytes):
        await run_blocking(lambda stop, block=block: prefix.feed(block))  # type: ignore[misc]
    statement = reader.statement()
    _compare(statement, segments, reader, prefix)
    manifest = Manifest(
        archive_id=statement.origin.archive_id,
        workspace_id=statement.origin.workspace_id,
        created_at=statement.origin.created_at,
        object=stored_object(info, segments),
        source=statement.origin.source,
        volume=statement.origin.volume,
        totals=statement.totals.model_copy(update={"raw_bytes": reader.raw_bytes, "stored_bytes": info.size_bytes}),
        content_fingerprint=statement.content_fingerprint,
        segments=tuple(segments),
    )
    check_layout(info, manifest)
    return manifest


def _compare(statement: Statement, segments: list[Segment], reader: _Reader, prefix: _Prefix) -> None:
    before = hashlib.sha256(b"".join(bytes.fromhex(segment.sha256) for segment in segments[:-1]))
    for what, found, stated in (
        ("number of segments", len(segments) - 1, statement.segments),
        ("digest of segments", before.hexdigest(), statement.segments_sha256),
        ("digest of the last segment", prefix.digest.hexdigest(), statement.last_sha256),
        ("content fingerprint", reader.content.hex(), statement.content_fingerprint),
        ("counts", reader.totals(), statement.totals.model_copy(update={"skipped": {}})),
    ):
        if found != stated:
            _corrupt(f"the {what} is not what the archive's tail states")


@dataclass
class _Open:
    """A member that is being read. ``inside``: it began in the middle of a file."""

    offset: int
    inside: bool
    piece_offset: int
    member: MemberReader = field(default_factory=MemberReader)
    sha256: _Hash = field(default_factory=hashlib.sha256)
    crc64: int = 0
    stored_bytes: int = 0
    entries: int = 0
    files: int = 0
    header_bytes: int = 0
    first: bytes = b""
    last: bytes = b""
    content: Content = EMPTY_CONTENT


class _Reader:
    """Takes the stored bytes of a whole archive apart into segments."""

    def __init__(self) -> None:
        self._scanner = TarScanner()
        self._open: _Open | None = None
        self._segments: list[Segment] = []
        self._stored_bytes = 0
        self._file: Entry | None = None
        self._file_done = 0
        self._counts: dict[str, int] = {}
        self._last_path: bytes | None = None
        self.raw_bytes = 0
        self.content = EMPTY_CONTENT
        self.last_entry_offset = 0

    def feed(self, block: bytes, stop: Stop) -> None:
        try:
            while block:
                stop.check()
                if self._open is None:
                    inside = not self._scanner.between_entries
                    self._open = _Open(self._stored_bytes, inside, self._file_done if inside else 0)
                block = self._feed_member(self._open, block)
        except (CorruptMember, TarError, ValidationError) as error:
            _corrupt(f"segment {len(self._segments) + 1}: {error}", error)

    def finish(self) -> list[Segment]:
        if self._open is not None or not self._segments:
            _corrupt("the archive ends within a segment")
        try:
            self._scanner.finish(need_end=True)
        except TarError as error:
            _corrupt(str(error), error)
        return self._segments

    def statement(self) -> Statement:
        comment = self._scanner.records.get(b"comment", b"")
        statement = Statement.from_comment(comment) if self._last_path == b"" else None
        if statement is None:
            _corrupt("the archive ends without a statement of ours")
        return statement

    def totals(self) -> Totals:
        try:
            return Totals(**self._counts)
        except ValidationError as error:
            _corrupt("its files are said to have more bytes than anybody can count", error)

    def _feed_member(self, current: _Open, block: bytes) -> bytes:
        for raw in current.member.feed(block):
            current.sha256.update(raw)
            self.raw_bytes += len(raw)
            for found in self._scanner.feed(raw):
                if isinstance(found, Entry):
                    self._take(current, found)
                else:
                    self._file_done += len(found)
        rest = current.member.unused if current.member.finished else b""
        used = block[: len(block) - len(rest)]
        current.crc64 = checksums.crc64nvme(used, current.crc64)
        current.stored_bytes += len(used)
        self._stored_bytes += len(used)
        if current.member.finished:
            self._close(current)
        return rest

    def _take(self, current: _Open, entry: Entry) -> None:
        current.first = entry.path if not current.entries else current.first
        current.last = self._last_path = entry.path
        current.entries += 1
        current.files += entry.type is FileType.FILE
        current.header_bytes = self._scanner.data_offset - self._scanner.entry_offset
        content = content_of(entry)
        current.content = current.content.plus(content)
        self.content = self.content.plus(content)
        self.last_entry_offset = self._scanner.entry_offset
        self._file, self._file_done = entry, 0
        for counter, step in (("entries", 1), (COUNTERS[entry.type], 1), ("file_bytes", entry.size)):
            self._counts[counter] = self._counts.get(counter, 0) + step

    def _close(self, done: _Open) -> None:
        self._open = None
        number = len(self._segments) + 1
        piece: Piece | None = None
        kind = SegmentKind.FILES if done.files else SegmentKind.TAIL
        if done.inside or (done.files and not self._scanner.between_entries):
            assert self._file is not None
            if done.entries > (0 if done.inside else 1):
                _corrupt(f"segment {number}: a piece of a file and other entries in one gzip member")
            kind, path, size = SegmentKind.LARGE, self._file.path, self._file.size
            header = 0 if done.inside else done.header_bytes
            padding = padding_of(size) if self._file_done == size else 0
            length = done.member.raw_bytes - header - padding
            piece = Piece(
                path=encode_path(path), offset=done.piece_offset, length=length, file_bytes=size, header_bytes=header
            )
            done.first = done.last = path
        elif done.files not in (0, done.entries) or not done.entries:
            _corrupt(f"segment {number}: files and what is none are mixed")
        self._segments.append(
            Segment(
                kind=kind.name.lower(),
                first=encode_path(done.first),
                last=encode_path(done.last),
                entries=done.entries,
                raw_bytes=done.member.raw_bytes,
                sha256=done.sha256.hexdigest(),
                content=done.content.hex(),
                offset=done.offset,
                stored_bytes=done.stored_bytes,
                crc64=f"{done.crc64:016x}",
                piece=piece,
            )
        )


class _Prefix:
    """SHA-256 of the first raw bytes of one member."""

    def __init__(self, length: int) -> None:
        self._left = length
        self._member = MemberReader()
        self.digest = hashlib.sha256()

    def feed(self, block: bytes) -> None:
        for raw in self._member.feed(block):
            self.digest.update(raw[: self._left])
            self._left -= min(self._left, len(raw))


def _corrupt(what: str, cause: Exception | None = None) -> NoReturn:
    raise StorageError(ErrorCode.ARCHIVE_CORRUPT, what) from cause


async def _read_blocks(store: ObjectStore, info: ObjectInfo, offset: int, length: int) -> AsyncIterator[bytes]:
    """A range of the object in blocks of about a mebibyte, whatever pieces the store delivers."""
    parts: list[bytes] = []
    size = 0
    async for chunk in store.read(info.key, offset=offset, length=length, etag=info.etag, version_id=info.version_id):
        parts.append(chunk)
        size += len(chunk)
        if size >= _BLOCK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if size:
        yield b"".join(parts)
