"""The proof: a finished archive is read back whole, and every byte of it is what was meant to be stored.

Only that justifies the deletion of a volume. A HEAD proves nothing: stores have been seen to answer the right checksum
for bytes that had rotted, and the full size for objects that lacked parts.
"""

from __future__ import annotations

from typing import Any

from activities.dataplane.archivemap import ArchiveMap, check_statement
from activities.dataplane.archiver import running
from activities.dataplane.feeding import Feeder
from activities.dataplane.manifest import Manifest
from activities.dataplane.plan import Progress
from activities.objectstore.base import ObjectInfo, ObjectStore

LANES = 3


async def verify_archive(
    store: ObjectStore,
    info: ObjectInfo,
    manifest: Manifest,
    *,
    progress: Progress,
    lanes: int = LANES,
    lock_fd: int | None = None,
) -> None:
    """Read the object ``info`` back, by ranges, against ``manifest``; ``progress`` gets stored bytes.

    Checked are stored length, CRC-64 and gzip trailer, raw length and digest of every segment, its tar headers against
    the walk's content fingerprint, that the segments are the whole object and the whole tree, and that the archive's
    tail states the same. Raises ``ArchiveCorrupt``, naming the segment where it is one, and what the store raises;
    ``PreconditionFailed`` if the object was replaced meanwhile.
    """
    archive = ArchiveMap.of(manifest, info)
    segments = [*archive.data, *archive.tail]
    found: dict[str, Any] = {}
    async with running("verify", "--threads", str(lanes), lock_fd=lock_fd) as archiver:
        await Feeder(archiver, store, info).feed(
            segments, lanes=lanes, last=len(segments), said=found.update, progress=progress
        )
    check_statement(manifest, found.get("statement"))
