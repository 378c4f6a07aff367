"""One data segment back into files: fetch, inflate, digest, gate, write.

A segment counts as restored only when its digest was right *and* its writer ended well; what a wrong one has written
stays in a volume that nobody is handed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from awscrt import checksums

from activities.dataplane import attributes
from activities.dataplane.attributes import Abilities, count_skipped
from activities.dataplane.beneath import Beneath, shown, write_all, writing
from activities.dataplane.confine import confine_process
from activities.dataplane.entries import Entry, FileType
from activities.dataplane.gate import Gate, corrupt_segment
from activities.dataplane.gzipmember import CorruptMember, MemberReader
from activities.dataplane.hollow import HollowFile
from activities.dataplane.manifest import Piece, Segment, decode_path
from activities.dataplane.report import RestoreReport
from activities.dataplane.running import Port
from activities.dataplane.segments import SegmentKind
from activities.dataplane.tarheader import TarError, TarScanner, padding_of
from activities.dataplane.threads import Stop
from codehub_storage.errors import ErrorCode, StorageError

_ZEROS = bytes(1 << 18)

Chunks = Iterable[bytes | memoryview]
"""Stored bytes, each piece valid until the next is asked for."""


@dataclass(frozen=True)
class Target:
    """Where to write, and as who."""

    root: Path
    abilities: Abilities


class Writer(Protocol):
    """Takes the raw bytes of one segment in order."""

    def write(self, raw: bytes) -> None:
        """The next bytes."""

    def finish(self) -> None:
        """All bytes have come and their digest is right: wait until they are written."""


def unpack_walled(port: Port, target: Target, segment: Segment, number: int, is_walled: bool) -> RestoreReport:
    """``unpack_segment`` in a process of its own, which is confined to the target first if ``is_walled``.

    ``Unsupported`` if the kernel refuses that.
    """
    if is_walled:
        try:
            confine_process([target.root])
        except OSError as error:
            raise StorageError(ErrorCode.UNSUPPORTED, "the kernel refuses to confine what writes") from error
    return unpack_segment(target, port, segment, number, port.stop)


def unpack_segment(target: Target, chunks: Chunks, segment: Segment, number: int, stop: Stop) -> RestoreReport:
    """Restore one data segment from its stored bytes.

    Raises ``ArchiveCorrupt`` naming the segment, ``NoSpace``, ``AccessDenied``, ``BackendUnavailable``.
    """
    report = RestoreReport()
    with _writer_for(target, segment, number, report) as writer:
        copy_checked(chunks, segment, number, writer, stop)
        writer.finish()
    stop.check()
    return report


def copy_checked(chunks: Chunks, segment: Segment, number: int, writer: Writer, stop: Stop) -> None:
    """All raw bytes of a segment into ``writer``; ``ArchiveCorrupt`` unless they are those that the manifest names."""
    member, digest, crc64 = MemberReader(segment.raw_bytes), hashlib.sha256(), 0
    try:
        for chunk in chunks:
            stop.check()
            crc64 = checksums.crc64nvme(chunk, crc64)
            for raw in member.feed(chunk):
                digest.update(raw)
                writer.write(raw)
        member.finish()
    except (CorruptMember, TarError) as error:
        raise corrupt_segment(number, str(error)) from error
    found = (member.raw_bytes, crc64.to_bytes(8, "big").hex(), digest.hexdigest())
    if found != (segment.raw_bytes, segment.crc64, segment.sha256):
        raise corrupt_segment(number, "its bytes are not those that were archived")


def _writer_for(target: Target, segment: Segment, number: int, report: RestoreReport) -> AbstractContextManager[Writer]:
    if segment.kind == SegmentKind.LARGE.name.lower() and segment.piece is not None:
        return PieceWriter(target, segment.piece, number)

    def on_entry(entry: Entry) -> None:
        report.files += 1
        report.bytes += entry.size
        count_skipped(entry, target.abilities, report.skipped)

    return FileWriter(target, Gate(segment, number, on_entry))


class FileWriter:
    """Writes whole files, one after the other, each with its metadata before it is closed."""

    def __init__(self, target: Target, gate: Gate) -> None:
        self._target = target
        self._gate = gate
        self._scanner = TarScanner()
        self._entry: Entry | None = None
        self._fd = -1

    def __enter__(self) -> FileWriter:
        self._beneath = Beneath(self._target.root)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._beneath.close()

    def write(self, raw: bytes) -> None:
        """Headers make files, data fills them."""
        for found in self._scanner.feed(raw):
            if isinstance(found, Entry):
                self._seal()
                self._gate.admit_next(found, self._scanner)
                with writing(found.path):
                    self._fd = self._beneath.replace(found.path)
                self._entry, self._content = found, HollowFile(self._fd)
            else:
                with writing(self._entry.path if self._entry else b""):
                    self._content.write(found)

    def finish(self) -> None:
        """Give the last file its metadata."""
        if not self._scanner.between_entries:
            raise self._gate.refusal("it does not end with a whole file")
        self._seal()
        self._gate.finish()

    def _seal(self) -> None:
        if self._entry is not None:
            with writing(self._entry.path):
                self._content.finish()
            attributes.apply_open(self._fd, self._entry, self._target.abilities)
        self._entry = None
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class PieceWriter:
    """Writes one piece of a large file at its offset; holes are left out, so they become holes again.

    Pieces of one file run side by side. Metadata come once, after all of them: a write strips capabilities.
    """

    def __init__(self, target: Target, piece: Piece, number: int) -> None:
        self._target = target
        self._piece = piece
        self._number = number
        self._path = decode_path(piece.path)
        self._header_left = piece.header_bytes
        self._scanner = TarScanner()
        self._entry: Entry | None = None
        self._at = piece.offset
        self._end = piece.offset + piece.length
        self._padding = padding_of(piece.file_bytes) if self._end == piece.file_bytes else 0
        self._holes = sorted(piece.holes)
        self._hole = 0

    def __enter__(self) -> PieceWriter:
        with Beneath(self._target.root) as beneath, writing(self._path):
            self._fd = beneath.open_shared(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self, raw: bytes) -> None:
        """Header first (of the first piece), then data, then padding (of the last)."""
        data = memoryview(raw)
        if self._header_left:
            data = self._take_header(data)
        with writing(self._path):
            while data and self._at < self._end:
                data = self._take_data(data)
        if any(data) or len(data) > self._padding:
            raise corrupt_segment(self._number, "it holds more than its piece of the file")
        self._padding -= len(data)

    def finish(self) -> None:
        """All bytes have come; the file gets its full length, which a hole at its end would not give it."""
        if self._header_left or self._at != self._end or self._padding:
            raise corrupt_segment(self._number, "it holds less than its piece of the file")
        if self._piece.offset == 0 and self._entry is None:
            raise corrupt_segment(self._number, f"it has no header of {shown(self._path)}")
        if self._end == self._piece.file_bytes:
            with writing(self._path):
                os.ftruncate(self._fd, self._piece.file_bytes)

    def _take_header(self, data: memoryview) -> memoryview:
        header, data = data[: self._header_left], data[self._header_left :]
        self._header_left -= len(header)
        for found in self._scanner.feed(header):
            if isinstance(found, Entry):
                self._entry = found
        if not self._header_left and not _is_header_of(self._entry, self._path, self._piece.file_bytes):
            raise corrupt_segment(self._number, f"its header is not that of {shown(self._path)}")
        return data

    def _take_data(self, data: memoryview) -> memoryview:
        """Write up to the next hole, or pass over a hole's zeros."""
        while self._hole < len(self._holes) and sum(self._holes[self._hole]) <= self._at:
            self._hole += 1
        start, length = self._holes[self._hole] if self._hole < len(self._holes) else (self._end, 0)
        inside = start <= self._at
        run = data[: min(self._end, start + length if inside else start) - self._at]
        if not inside:
            write_all(self._fd, run, self._at)
        elif run.tobytes() != _ZEROS[: len(run)]:  # comparing a view takes fifty times as long
            raise corrupt_segment(self._number, f"there are data where the manifest sees a hole in {shown(self._path)}")
        self._at += len(run)
        return data[len(run) :]


def _is_header_of(entry: Entry | None, path: bytes, size: int) -> bool:
    return entry is not None and (entry.path, entry.type, entry.size) == (path, FileType.FILE, size)
