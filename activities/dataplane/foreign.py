"""Restore a ``tar.gz`` that we did not make: one stream, nothing taken on trust.

The archiver reads it behind all walls. Left out and counted: devices other than whiteouts, setuid and setgid of files,
attributes other than ``user.*``.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activities.dataplane.archiver import Wall, running
from activities.dataplane.feeding import feed_whole
from activities.dataplane.report import RestoreReport
from activities.objectstore.base import ObjectInfo, ObjectStore, PreconditionFailed
from codehub_storage.errors import ErrorCode, StorageError


@dataclass(frozen=True)
class ForeignLimits:
    """What a foreign archive may expand to. ``max_bytes`` of its tar stream: by default what is free."""

    max_bytes: int | None = None
    max_entries: int = 10_000_000


def foreign_archive_id(info: ObjectInfo) -> str:
    """The archive id of an object that has none of ours: it changes when the object does."""
    parts = (info.key, info.version_id or "", info.etag)
    return f"foreign-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"


async def restore_foreign(
    root: Path,
    store: ObjectStore,
    info: ObjectInfo,
    *,
    spool: Path,
    limits: ForeignLimits = ForeignLimits(),
    progress: Callable[[int], None] = lambda stored_bytes: None,
    wall: Wall = Wall.AVAILABLE,
    lock_fd: int | None = None,
) -> RestoreReport:
    """Fill the empty folder ``root`` from the object; the caller syncs and hands out.

    ``spool`` is a folder for temporary files. ``progress`` gets the stored bytes read so far.
    Raises ``ArchiveCorrupt``, ``ArchiveNotFound`` (replaced while we read), ``ArchiveTooLarge``, ``NoSpace``,
    ``Unsupported``, ``VolumeConflict`` if something is there.
    """
    found: dict[str, Any] = {}
    bounds = ["--max-entries", str(limits.max_entries)]
    if limits.max_bytes is not None:
        bounds += ["--max-bytes", str(limits.max_bytes)]
    with tempfile.TemporaryDirectory(dir=spool) as late:
        try:
            async with running(
                "foreign", "--root", root, "--spool", late, *bounds, wall=wall, lock_fd=lock_fd
            ) as archiver:
                await feed_whole(archiver, store, info, said=found.update, progress=progress)
        except PreconditionFailed as error:
            raise StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{info.key} was replaced while it was read") from error
    report = found["report"]
    return RestoreReport(files=report["files"], bytes=report["bytes"], skipped=Counter(report["skipped"]))


async def check_foreign(
    store: ObjectStore, info: ObjectInfo, *, progress: Callable[[int], None] = lambda stored_bytes: None
) -> RestoreReport:
    """Read it whole and write nothing: files, and bytes of their content. ``ArchiveCorrupt`` for what is not complete
    and well formed."""
    found: dict[str, Any] = {}
    async with running("check-foreign") as archiver:
        await feed_whole(archiver, store, info, said=found.update, progress=progress)
    return RestoreReport(files=found["report"]["files"], bytes=found["report"]["bytes"])
