"""A manifest from a finished archive alone, for one whose manifest was lost: `verify KEY --write-manifest`.

The archive is read whole and checked against the statement in its own tail. A lost or foreign member cannot go
unnoticed: the statement holds a digest over the digests of all segments. Holes of sparse files are not known any more;
they come back as zeros.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from activities.dataplane.archivemap import ArchiveMap, corrupt_segment
from activities.dataplane.archiver import running
from activities.dataplane.feeding import feed_whole
from activities.dataplane.manifest import Manifest, Segment
from activities.dataplane.plan import Progress
from activities.dataplane.proof import stored_object
from activities.dataplane.tail import Statement
from activities.objectstore.base import ObjectInfo, ObjectStore
from codehub_storage.errors import ErrorCode, StorageError


async def verify_from_tail(store: ObjectStore, info: ObjectInfo, *, progress: Progress) -> Manifest:
    """Read the object ``info`` whole, check it against its own tail, and return the manifest that proves it.

    ``progress`` gets stored bytes. Raises ``ArchiveCorrupt``, also for an object that has no such statement, and what
    the store raises. Whether the archive id is the one in the object's metadata is for the caller to compare.
    """
    segments: list[Segment] = []
    stated: dict[str, Any] = {}

    def said(line: dict[str, Any]) -> None:
        if "segment" in line:
            try:
                segments.append(Segment.model_validate(line["segment"]))
            except ValidationError as error:  # a name that no volume has, which no manifest holds
                raise corrupt_segment(len(segments) + 1, "no manifest can describe it") from error
        elif "statement" in line:
            stated.update(line)

    async with running("rebuild") as archiver:
        await feed_whole(archiver, store, info, said=said, progress=progress)
    try:
        statement = Statement.model_validate(stated["statement"])
        totals = statement.totals.model_copy(update={"raw_bytes": stated["raw_bytes"], "stored_bytes": info.size_bytes})
    except (KeyError, ValidationError) as error:
        raise StorageError(ErrorCode.ARCHIVE_CORRUPT, "the archive's own statement cannot be read") from error
    origin = statement.origin
    manifest = Manifest(
        archive_id=origin.archive_id,
        workspace_id=origin.workspace_id,
        created_at=origin.created_at,
        object=stored_object(info, segments),
        source=origin.source,
        volume=origin.volume,
        totals=totals,
        content_fingerprint=statement.content_fingerprint,
        segments=tuple(segments),
    )
    ArchiveMap.of(manifest, info)
    return manifest
