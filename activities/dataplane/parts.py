"""Parts of an upload: a run of consecutive segments each, closed as soon as it holds what the store demands.

The record of a part's last segment bears its ETag, so records alone tell all parts: a part's number is how many ETags
there are up to it. [B4]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from awscrt import checksums

from activities.dataplane.segments import SegmentRecord
from activities.objectstore.base import UploadedPart

MIN_PART_BYTES = 5 << 20
"""S3 demands it of every part but the last."""


def combined(crcs: Iterable[tuple[bytes, int]]) -> bytes:
    """The CRC-64/NVME of pieces one behind the other, given that of each and its length."""
    total = 0
    for crc64, length in crcs:
        total = checksums.combine_crc64nvme(total, int.from_bytes(crc64, "big"), length)
    return total.to_bytes(8, "big")


def parts_of(records: Iterable[SegmentRecord]) -> list[UploadedPart]:
    """The parts that the records make, numbered from 1. ``ValueError`` where the last has no ETag."""
    return [part_of(number, run, run[-1].etag) for number, run in enumerate(runs_of(records), 1)]


def part_of(number: int, records: Sequence[SegmentRecord], etag: str) -> UploadedPart:
    """The part that these segments are."""
    size = sum(record.stored_bytes for record in records)
    return UploadedPart(number, size, etag, combined((record.crc64, record.stored_bytes) for record in records))


def runs_of(records: Iterable[SegmentRecord]) -> Iterator[list[SegmentRecord]]:
    """The records of each part."""
    run: list[SegmentRecord] = []
    for record in records:
        run.append(record)
        if record.etag:
            yield run
            run = []
    if run:
        raise ValueError(f"the part of segment {run[-1].number} has no ETag")
