"""From what was sent to the manifest: records tell the stored bytes, the plan tells the paths."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from activities.dataplane.manifest import Manifest, Segment, StoredObject
from activities.dataplane.parts import combined
from activities.dataplane.plan import Plan
from activities.dataplane.segments import SegmentRecord, digest_text
from activities.dataplane.tail import Origin
from activities.objectstore.base import ObjectInfo


async def build_manifest(plan: Plan, records: Sequence[SegmentRecord], info: ObjectInfo, *, origin: Origin) -> Manifest:
    """The manifest of the completed object ``info``, to be written once it is verified.

    ``records``: those of all segments, data and tail, in order. ``origin``: the same as in the tail. ``ValueError``
    if records and plan are not of the same archive.
    """
    return await asyncio.to_thread(_build, plan, records, info, origin)


def _build(plan: Plan, records: Sequence[SegmentRecord], info: ObjectInfo, origin: Origin) -> Manifest:
    segments: list[Segment] = []
    offset = 0
    for number, (record, segment) in enumerate(zip(records, plan.segments(), strict=True), 1):
        if record.number != number or record.kind.name.lower() != segment.kind:
            raise ValueError(f"record {record.number} does not belong to segment {number} of the plan")
        stored = {
            "raw_bytes": record.raw_bytes,
            "digest": digest_text(record.digest),
            "content": digest_text(record.content),
            "offset": offset,
            "stored_bytes": record.stored_bytes,
            "crc64": record.crc64.hex(),
        }
        segments.append(segment.model_copy(update=stored))
        offset += record.stored_bytes
    if offset != info.size_bytes:
        raise ValueError(f"the records make {offset} bytes, the object has {info.size_bytes}")
    sums = {"raw_bytes": sum(record.raw_bytes for record in records), "stored_bytes": offset}
    return Manifest(
        archive_id=origin.archive_id,
        workspace_id=origin.workspace_id,
        created_at=origin.created_at,
        object=stored_object(info, segments),
        source=origin.source,
        volume=origin.volume,
        totals=plan.summary.totals.model_copy(update=sums),
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
        crc64=combined((bytes.fromhex(segment.crc64), segment.stored_bytes) for segment in segments).hex(),
    )
