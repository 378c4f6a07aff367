"""From the volume into an upload: data segments side by side, then the last of them with the tail.

Each data segment but the last is one part, whose number is the segment's. The last data segment and the tail share
the parts that follow, so a small volume is one small part without padding. Nothing here completes the upload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from activities.dataplane.changes import find_change
from activities.dataplane.gzipmember import PackedMember
from activities.dataplane.pack import pack_with
from activities.dataplane.plan import MIB, Plan, Progress, SegmentPlan
from activities.dataplane.running import IN_THREADS, Runner
from activities.dataplane.segments import SegmentKind, SegmentRecord
from activities.dataplane.tail import Origin, TailSegment, pack_tail
from activities.dataplane.threads import Budget, Stop, run_blocking, run_together
from activities.dataplane.walk import change_fingerprint
from activities.objectstore.base import ObjectStore, UploadedPart, UploadLost

CONCURRENCY = 3
BUDGET_BYTES = 128 * MIB


@dataclass(frozen=True)
class UploadRef:
    """The open multipart upload that an archive is sent into."""

    key: str
    upload_id: str
    archive_id: str


@dataclass(frozen=True)
class TailResult:
    """What the last step left: records of the last data segment and of the tail, and the parts that hold them."""

    records: list[SegmentRecord]
    parts: list[UploadedPart]


async def copy_segments(
    plan: Plan,
    store: ObjectStore,
    upload: UploadRef,
    first: int,
    last: int,
    *,
    done: Sequence[SegmentRecord],
    accepted: Callable[[SegmentRecord], None],
    progress: Progress,
    concurrency: int = CONCURRENCY,
    budget_bytes: int = BUDGET_BYTES,
    runner: Runner = IN_THREADS,
) -> list[SegmentRecord]:
    """Send data segments ``first`` to ``last`` (which is not the last of the plan); answers their records in order.

    ``done`` are records of an earlier attempt: those that the store still has, and that this plan would make, are not
    sent again. ``accepted`` is called for each segment that the store has accepted now, ``progress`` with the raw
    bytes that are through. ``runner`` packs them. Raises ``UploadLost``,
    ``VolumeChanged``, ``VolumeUnreadable`` and what the store raises.
    """
    if not 1 <= first <= last < plan.summary.data_segments:
        raise ValueError(f"segments {first} to {last} of {plan.summary.data_segments}, of which the last goes apart")
    records = {
        record.number: record
        for record in await _still_there(plan, store, upload, done)
        if first <= record.number <= last
    }
    moved = sum(record.raw_bytes for record in records.values())
    progress(moved)
    todo = iter([number for number in range(first, last + 1) if number not in records])
    budget = Budget(budget_bytes)

    async def work() -> None:
        nonlocal moved
        for number in todo:
            record = await _send_segment(plan, store, upload, plan.segment(number), budget, runner)
            records[number] = record
            moved += record.raw_bytes
            accepted(record)
            progress(moved)

    await run_together(work() for _ in range(concurrency))
    return [records[number] for number in range(first, last + 1)]


async def copy_tail(
    plan: Plan,
    store: ObjectStore,
    upload: UploadRef,
    *,
    records: Sequence[SegmentRecord],
    origin: Origin,
    progress: Progress,
    runner: Runner = IN_THREADS,
) -> TailResult:
    """Pack the last data segment, look whether the volume is still what was planned, then send it with the tail.

    ``records``: those of all data segments before the last. ``progress`` gets raw bytes. Raises ``VolumeChanged``
    if anything moved since the plan, ``UploadLost``, and what the store raises. May be called again.
    """
    if [record.number for record in records] != list(range(1, max(1, plan.summary.data_segments))):
        raise ValueError("the records of all data segments before the last are needed, in order")
    packed_bytes = 0
    sender = _PartSender(plan, store, upload, first_part=len(records) + 1)
    digests = [record.sha256 for record in records]
    if plan.segments:
        segment = plan.segments[-1]
        member = await pack_with(runner, plan, segment, min_bytes=0)
        digests.append(member.sha256)
        packed_bytes = member.raw_bytes
        progress(packed_bytes)
    # After the last byte of data was read, and before anything says that the archive is whole.
    if await change_fingerprint(plan.root, lambda: progress(packed_bytes)) != plan.summary.change_fingerprint:
        raise await run_blocking(lambda stop: find_change(plan, lambda: progress(packed_bytes), stop))
    if plan.segments:
        await sender.add(segment.number, segment.kind, member, segment.content.to_bytes32())
    number, tail = len(digests), _Tail(plan, origin, digests)
    while (packed := await tail.next()) is not None:
        number += 1
        await sender.add(number, SegmentKind.TAIL, packed.member, packed.content.to_bytes32())
    await sender.flush()
    return TailResult(sender.records, sender.parts)


def parts_of(records: Sequence[SegmentRecord], tail: TailResult) -> list[UploadedPart]:
    """All parts of an upload, for `complete`: one per record of ``copy_segments``, then those of the tail."""
    return [
        UploadedPart(record.number, record.stored_bytes, record.etag, record.crc64) for record in records
    ] + tail.parts


async def _still_there(
    plan: Plan, store: ObjectStore, upload: UploadRef, done: Sequence[SegmentRecord]
) -> list[SegmentRecord]:
    """Those of ``done`` that need not be sent again. A part sent twice may be listed twice: one match is enough."""
    if not done:
        return []
    listed = await store.list_parts(upload.key, upload.upload_id)
    if listed is None:
        raise UploadLost(f"the upload {upload.upload_id} of {upload.key} is gone")
    held = {(part.number, part.etag, part.size_bytes) for part in listed}
    return [
        record
        for record in done
        if (record.number, record.etag, record.stored_bytes) in held
        and record.number <= len(plan.segments)
        and record.kind is plan.segment(record.number).kind
        and record.content == plan.segment(record.number).content.to_bytes32()
    ]


async def _send_segment(
    plan: Plan, store: ObjectStore, upload: UploadRef, segment: SegmentPlan, budget: Budget, runner: Runner
) -> SegmentRecord:
    min_bytes = plan.limits.min_part_bytes
    # What it would take if it cannot be compressed; what it does not take is given back as soon as that is known.
    taken = await budget.take(max(min_bytes, segment.weight + segment.weight // 64))
    try:
        member = await pack_with(runner, plan, segment, min_bytes=min_bytes)
        excess = max(0, taken - member.stored_bytes)
        taken -= excess
        await budget.give(excess)
        part = await store.upload_part(upload.key, upload.upload_id, segment.number, member.chunks)
        return _record(segment.number, segment.kind, member, segment.content.to_bytes32(), part.etag)
    finally:
        await budget.give(taken)


def _record(number: int, kind: SegmentKind, member: PackedMember, content: bytes, etag: str) -> SegmentRecord:
    return SegmentRecord(
        number=number,
        kind=kind,
        raw_bytes=member.raw_bytes,
        stored_bytes=member.stored_bytes,
        padding_bytes=member.padding_bytes,
        sha256=member.sha256,
        crc64=member.crc64,
        content=content,
        etag=etag,
    )


class _PartSender:
    """Packs members into parts: one is sent as soon as it is long enough, the last is what remains."""

    def __init__(self, plan: Plan, store: ObjectStore, upload: UploadRef, *, first_part: int) -> None:
        self._min_bytes = plan.limits.min_part_bytes
        self._store = store
        self._upload = upload
        self._number = first_part
        self._chunks: list[bytes | bytearray] = []
        self._size = 0
        self.records: list[SegmentRecord] = []
        self.parts: list[UploadedPart] = []

    async def add(self, number: int, kind: SegmentKind, member: PackedMember, content: bytes) -> None:
        self.records.append(_record(number, kind, member, content, ""))
        self._chunks += member.chunks
        self._size += member.stored_bytes
        if self._size >= self._min_bytes:
            await self.flush()

    async def flush(self) -> None:
        if not self._chunks:
            return
        part = await self._store.upload_part(self._upload.key, self._upload.upload_id, self._number, self._chunks)
        self.parts.append(part)
        self._number += 1
        self._chunks, self._size = [], 0


class _Tail:
    """The tail's segments, packed in a thread one at a time."""

    def __init__(self, plan: Plan, origin: Origin, digests: Sequence[bytes]) -> None:
        self._stop = Stop()
        self._segments: Iterator[TailSegment] = pack_tail(plan, origin, digests, self._stop)

    async def next(self) -> TailSegment | None:
        def step(stop: Stop) -> TailSegment | None:
            with stop.on_stop(self._stop.stop):
                return next(self._segments, None)

        return await run_blocking(step)
