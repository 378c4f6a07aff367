"""From what was sent to the manifest: records tell the stored bytes, the plan tells the paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from awscrt import checksums

from activities.dataplane.large import holes_within
from activities.dataplane.manifest import Manifest, Piece, Segment, StoredObject, encode_path
from activities.dataplane.plan import Plan, SegmentPlan
from activities.dataplane.segments import SegmentKind, SegmentRecord
from activities.dataplane.tail import Origin, tail_cuts
from activities.dataplane.tarwrite import build_header
from activities.dataplane.threads import run_blocking
from activities.objectstore.base import ObjectInfo


async def build_manifest(plan: Plan, records: Sequence[SegmentRecord], info: ObjectInfo, *, origin: Origin) -> Manifest:
    """The manifest of the completed object ``info``, to be written once it is verified.

    ``records``: those of all segments, data and tail, in order. ``origin``: the same as in the tail. ``ValueError``
    if records and plan are not of the same archive.
    """
    return await run_blocking(lambda stop: _build(plan, records, info, origin))


def _build(plan: Plan, records: Sequence[SegmentRecord], info: ObjectInfo, origin: Origin) -> Manifest:
    segments: list[Segment] = []
    offset = 0
    for number, (record, segment) in enumerate(zip(records, _segments(plan), strict=True), 1):
        if record.number != number or record.kind.name.lower() != segment.kind:
            raise ValueError(f"record {record.number} does not belong to segment {number} of the plan")
        segments.append(
            segment.model_copy(
                update={
                    "raw_bytes": record.raw_bytes,
                    "sha256": record.sha256.hex(),
                    "content": record.content.hex(),
                    "offset": offset,
                    "stored_bytes": record.stored_bytes,
                    "crc64": record.crc64.hex(),
                }
            )
        )
        offset += record.stored_bytes
    if offset != info.size_bytes:
        raise ValueError(f"the records make {offset} bytes, the object has {info.size_bytes}")
    totals = plan.summary.totals.model_copy(
        update={
            "raw_bytes": sum(record.raw_bytes for record in records),
            "stored_bytes": offset,
            "padding_bytes": sum(record.padding_bytes for record in records),
        }
    )
    return Manifest(
        archive_id=origin.archive_id,
        workspace_id=origin.workspace_id,
        created_at=origin.created_at,
        object=stored_object(info, segments),
        source=origin.source,
        volume=origin.volume,
        totals=totals,
        content_fingerprint=plan.summary.content_fingerprint,
        segments=tuple(segments),
    )


def stored_object(info: ObjectInfo, segments: Sequence[Segment]) -> StoredObject:
    """The object that a manifest proves; its CRC comes from those of the segments."""
    return StoredObject(
        key=info.key,
        size_bytes=info.size_bytes,
        etag=info.etag,
        version_id=info.version_id,
        crc64=combined_crc64(segments),
    )


def combined_crc64(segments: Sequence[Segment]) -> str:
    """The CRC-64/NVME of all segments one behind the other, as 16 hex digits."""
    total = 0
    for segment in segments:
        total = checksums.combine_crc64nvme(total, int(segment.crc64, 16), segment.stored_bytes)
    return f"{total:016x}"


def _segments(plan: Plan) -> Iterator[Segment]:
    """What the plan knows of each segment; the stored side is still blank."""
    for data in plan.segments:
        yield _blank(data.kind, data.first, data.last, data.entries, _piece(plan, data))
    first = last = b""
    count = 0
    for starts_segment, spooled in tail_cuts(plan):
        path = spooled.entry.path
        if starts_segment:
            yield _blank(SegmentKind.TAIL, first, last, count)
        if starts_segment or not count:
            first, count = path, 0
        last, count = path, count + 1
    yield _blank(SegmentKind.TAIL, first, last, count)


def _piece(plan: Plan, segment: SegmentPlan) -> Piece | None:
    if segment.cut is None:
        return None
    entry = next(plan.entries(segment)).entry
    cut = segment.cut
    return Piece(
        path=encode_path(entry.path),
        offset=cut.offset,
        length=cut.length,
        file_bytes=entry.size,
        header_bytes=0 if cut.offset else len(build_header(entry)),
        holes=tuple(holes_within(plan.holes.get(segment.start, []), cut)),
    )


def _blank(kind: SegmentKind, first: bytes, last: bytes, entries: int, piece: Piece | None = None) -> Segment:
    return Segment(
        kind=kind.name.lower(),
        first=encode_path(first),
        last=encode_path(last),
        entries=entries,
        raw_bytes=0,
        sha256="",
        content="",
        offset=0,
        stored_bytes=0,
        crc64="",
        piece=piece,
    )
