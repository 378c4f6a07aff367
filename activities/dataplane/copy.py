"""From the volume into an upload: data segments batch by batch, then what is left of them with the tail.

Segments are packed side by side and come in order; consecutive ones share a part, which is closed as soon as it holds
what the store demands. Parts are sent side by side, and only the unbroken run of accepted ones counts. [B3] to [B5]
Nothing here completes the upload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from itertools import islice

from activities.dataplane.archiver import Archiver, ArchiverDied, running
from activities.dataplane.parts import MIN_PART_BYTES, part_of, runs_of
from activities.dataplane.plan import Plan, Progress
from activities.dataplane.segments import SegmentRecord, digest_text
from activities.dataplane.tail import Origin
from activities.objectstore.base import ObjectStore, UploadLost

LANES = 4
"""Parts under way at a time. Part n + LANES is not begun before part n is accepted."""
BATCH_SEGMENTS = 512
BATCH_BYTES = 2 << 30
"""A batch ends with the first part that is closed after so many segments, or so many raw bytes. [B5]"""
_DIGESTS_BYTES = 1 << 20


@dataclass(frozen=True)
class UploadRef:
    """The open multipart upload that an archive is sent into."""

    key: str
    upload_id: str
    archive_id: str


@dataclass(frozen=True)
class Place:
    """Where an archive is continued: the next segment, and the next part. Both count from 1."""

    segment: int = 1
    part: int = 1


@dataclass(frozen=True)
class Means:
    """What the packing may use: ``threads`` at most, ``memory_bytes`` in the archiver, and as many for parts under way.

    One segment, and one part, may be longer than that.
    """

    threads: int = LANES
    memory_bytes: int = 32 << 20
    min_part_bytes: int = MIN_PART_BYTES
    lock_fd: int | None = None


@dataclass(frozen=True)
class Batch:
    """``records`` of whole parts, in order. ``at_end``: no part that may be closed yet is left, so the tail is next."""

    records: list[SegmentRecord]
    next: Place
    at_end: bool
    sent_bytes: int


@dataclass
class _Sending:
    """Parts on their way, in order. ``accepted`` gets the unbroken run each time that it grows."""

    store: ObjectStore
    upload: UploadRef
    part: int
    accepted: Callable[[list[SegmentRecord]], None]
    memory_bytes: int
    records: list[SegmentRecord] = field(default_factory=list)
    sent_bytes: int = 0
    _under_way: list[tuple[list[SegmentRecord], asyncio.Task[str]]] = field(default_factory=list)

    async def send(self, run: list[SegmentRecord], chunks: list[bytes]) -> None:
        """Begin a part, once there is a lane and room for it."""
        while self._under_way and (len(self._under_way) >= LANES or self._held_with(run) > self.memory_bytes):
            await self._settle()
        task = asyncio.create_task(self._upload(self.part, run, chunks))
        self.part += 1
        self._under_way.append((run, task))

    async def flush(self) -> None:
        """Wait until all parts are accepted."""
        while self._under_way:
            await self._settle()

    async def drop(self) -> None:
        """Give up what is under way, and wait for that."""
        for _, task in self._under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in self._under_way), return_exceptions=True)

    def _held_with(self, run: list[SegmentRecord]) -> int:
        return sum(record.stored_bytes for part in (run, *(part for part, _ in self._under_way)) for record in part)

    async def _settle(self) -> None:
        run, task = self._under_way[0]
        etag = await task
        self._under_way.pop(0)
        self.records += [*run[:-1], replace(run[-1], etag=etag)]
        self.accepted(self.records)

    async def _upload(self, number: int, run: list[SegmentRecord], chunks: list[bytes]) -> str:
        part = await self.store.upload_part(self.upload.key, self.upload.upload_id, number, chunks)
        packed = part_of(number, run, part.etag)
        if (part.size_bytes, part.crc64) != (packed.size_bytes, packed.crc64):
            raise ArchiverDied("pack", f"counts another checksum of part {number} than was sent")
        self.sent_bytes += part.size_bytes
        return part.etag


async def copy_segments(
    plan: Plan,
    store: ObjectStore,
    upload: UploadRef,
    first: Place,
    *,
    done: Sequence[SegmentRecord],
    accepted: Callable[[list[SegmentRecord]], None],
    progress: Progress,
    means: Means = Means(),
) -> Batch:
    """Send a batch of data segments from ``first`` on, as whole parts.

    ``done`` are records of an earlier attempt at this batch: the parts of them that the store still has, unbroken from
    the first, are not sent again. ``accepted`` gets all records of the batch so far, ``progress`` the raw bytes that
    are through. Raises ``UploadLost``, ``VolumeChanged``, ``VolumeUnreadable`` and what the store raises.
    """
    kept = await _still_there(plan, store, upload, first, done)
    before = moved = sum(record.raw_bytes for record in kept)
    part = first.part + sum(bool(record.etag) for record in kept)
    sending = _Sending(store, upload, part, accepted, means.memory_bytes, kept)
    progress(moved)
    at, count = first.segment + len(kept), len(kept)
    run: list[SegmentRecord] = []
    chunks: list[bytes] = []
    try:
        if not _is_full(count, moved) and at <= plan.summary.data_segments:
            async with _packing(plan, "pack", at, means) as archiver:
                async for record, member in _members(archiver, lambda raw: progress(before + raw)):
                    run.append(record)
                    chunks += member
                    count, moved = count + 1, moved + record.raw_bytes
                    if sum(each.stored_bytes for each in run) < means.min_part_bytes:
                        continue
                    await sending.send(run, chunks)
                    at, run, chunks = at + len(run), [], []
                    if _is_full(count, moved):
                        break  # the archiver has packed a little more, which is dropped with it
        await sending.flush()
    finally:
        await sending.drop()
    at_end = bool(run) or at > plan.summary.data_segments
    return Batch(sending.records, Place(at, sending.part), at_end, sending.sent_bytes)


async def copy_tail(
    plan: Plan,
    store: ObjectStore,
    upload: UploadRef,
    first: Place,
    *,
    before: Sequence[SegmentRecord],
    origin: Origin,
    progress: Progress,
    means: Means = Means(),
) -> Batch:
    """Send the data segments that made no whole part, see that the volume is still what was planned, send the tail.

    ``before``: the records of all segments before ``first``. Raises ``VolumeChanged`` if anything moved since the plan,
    ``UploadLost``, and what the store raises. May be called again.
    """
    if [record.number for record in before] != list(range(1, first.segment)):
        raise ValueError("the records of all segments before are needed, in order")
    sending = _Sending(store, upload, first.part, lambda records: None, means.memory_bytes)
    run: list[SegmentRecord] = []
    chunks: list[bytes] = []
    fingerprint = plan.summary.change_fingerprint
    try:
        async with _packing(plan, "tail", first.segment, means, "--change-fingerprint", fingerprint) as archiver:
            digests = b"".join(record.digest for record in before)
            await archiver.send({"origin": origin.model_dump(exclude_none=True), "digests": len(before)})
            for start in range(0, len(digests), _DIGESTS_BYTES):
                await archiver.send({"data": 0}, digests[start : start + _DIGESTS_BYTES])
            async for record, member in _members(archiver, progress):
                run.append(record)
                chunks += member
                if sum(each.stored_bytes for each in run) >= means.min_part_bytes:
                    await sending.send(run, chunks)
                    run, chunks = [], []
        if run:
            await sending.send(run, chunks)
        await sending.flush()
    finally:
        await sending.drop()
    at = first.segment + len(sending.records)
    return Batch(sending.records, Place(at, sending.part), True, sending.sent_bytes)


def _packing(plan: Plan, command: str, at: int, means: Means, *more: str) -> AbstractAsyncContextManager[Archiver]:
    return running(
        command,
        *("--root", plan.root, "--plan", plan.folder, "--from", str(at)),
        *("--threads", str(means.threads), "--memory", str(means.memory_bytes), *more),
        lock_fd=means.lock_fd,
    )


async def _members(archiver: Archiver, progress: Progress) -> AsyncIterator[tuple[SegmentRecord, list[bytes]]]:
    """Packed segments in order, with their stored bytes."""
    chunks: list[bytes] = []
    async for frame in archiver.frames():
        if "data" in frame.line:
            chunks.append(frame.payload)
        elif "packed" in frame.line:
            yield SegmentRecord.of_packed(frame.line["packed"]), chunks
            chunks = []
        elif "progress" in frame.line:
            progress(frame.line["progress"])


async def _still_there(
    plan: Plan, store: ObjectStore, upload: UploadRef, first: Place, done: Sequence[SegmentRecord]
) -> list[SegmentRecord]:
    """The longest unbroken run of ``done`` that is of this plan, and whose parts the store holds. A part sent twice may
    be listed twice: one match is enough."""
    if not done:
        return []
    listed = await store.list_parts(upload.key, upload.upload_id)
    if listed is None:
        raise UploadLost(f"the upload {upload.upload_id} of {upload.key} is gone")
    held = {(part.number, part.etag, part.size_bytes) for part in listed}
    planned = await asyncio.to_thread(_planned, plan, first, done)
    kept: list[SegmentRecord] = []
    for number, run in enumerate(runs_of(done), first.part):
        size = sum(record.stored_bytes for record in run)
        if len(kept) + len(run) > planned or (number, run[-1].etag, size) not in held:
            break
        kept += run
    return kept


def _planned(plan: Plan, first: Place, done: Sequence[SegmentRecord]) -> int:
    """How many of ``done``, unbroken from the first, are what the plan has at ``first``: number, kind and entries."""
    segments = islice(plan.segments(), first.segment - 1, plan.summary.data_segments)
    for count, (record, segment) in enumerate(zip(done, segments, strict=False)):
        said = record.number, record.kind.name.lower(), digest_text(record.content)
        if said != (first.segment + count, segment.kind, segment.content):
            return count
    return min(len(done), plan.summary.data_segments - first.segment + 1)


def _is_full(segments: int, raw_bytes: int) -> bool:
    return segments >= BATCH_SEGMENTS or raw_bytes >= BATCH_BYTES
