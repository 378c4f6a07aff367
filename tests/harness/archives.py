"""A tree into an archive in one call, through the same steps as the activities take."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from activities.dataplane.copy import Means, Place, UploadRef, copy_segments, copy_tail
from activities.dataplane.manifest import Manifest, Source, VolumeBlock
from activities.dataplane.parts import parts_of
from activities.dataplane.plan import Plan, PlanLimits, scan_volume
from activities.dataplane.proof import build_manifest
from activities.dataplane.report import RestoreReport
from activities.dataplane.restore import ArchiveRestore
from activities.dataplane.segments import SegmentRecord
from activities.dataplane.tail import Origin
from activities.objectstore.base import ObjectInfo, ObjectStore
from codehub_storage.keys import workspace_of_archive

TINY = PlanLimits(segment_bytes=8192, large_file_bytes=10_000)
"""So small that a few files meet every cut."""
SMALL_PARTS = Means(threads=2, min_part_bytes=1)
"""For a store that asks for no least part."""


@dataclass(frozen=True)
class Made:
    """A finished archive, and what it was made from."""

    plan: Plan
    records: list[SegmentRecord]
    info: ObjectInfo
    manifest: Manifest


def ignore(_: object) -> None:
    """A callback that does nothing."""


async def plan_of(root: Path, limits: PlanLimits = TINY, *, spool: Path | None = None) -> Plan:
    """The plan of a tree, in a spool folder beside it unless one is given."""
    folder = spool or Path(tempfile.mkdtemp(prefix="spool-", dir=root.parent))
    return await scan_volume(root, folder, limits, ignore)


async def make_archive(
    root: Path,
    store: ObjectStore,
    *,
    limits: PlanLimits = TINY,
    key: str = "ws1/home.tar.gz",
    archive_id: str = "00000000-archive",
    spool: Path | None = None,
    means: Means = SMALL_PARTS,
) -> Made:
    """Plan, upload, complete, and the manifest (not yet verified, nor stored)."""
    plan = await plan_of(root, limits, spool=spool)
    upload = UploadRef(key, await store.create_upload(key, {"archive-id": archive_id}), archive_id)
    source = Source(volume_uid="uid-1", place="default", change_fingerprint=plan.summary.change_fingerprint)
    origin = Origin(
        archive_id=archive_id,
        workspace_id=workspace_of_archive(key),
        created_at="2026-01-01T00:00:00Z",
        source=source,
        volume=VolumeBlock(backend="directory", size_bytes=1 << 30, labels={"team": "a"}),
    )
    records, place, at_end = list[SegmentRecord](), Place(), plan.summary.data_segments == 0
    while not at_end:
        batch = await copy_segments(plan, store, upload, place, done=[], accepted=ignore, progress=ignore, means=means)
        records, place, at_end = records + batch.records, batch.next, batch.at_end
    tail = await copy_tail(plan, store, upload, place, before=records, origin=origin, progress=ignore, means=means)
    records += tail.records
    info = await store.complete_upload(key, upload.upload_id, parts_of(records), archive_id=archive_id)
    return Made(plan, records, info, await build_manifest(plan, records, info, origin=origin))


async def restore_archive(restore: ArchiveRestore) -> RestoreReport:
    """All steps in order: restored, compared and on disk."""
    await restore.prepare()
    report = RestoreReport()
    if restore.data_segments:
        report.add(await restore.restore_segments(1, restore.data_segments))
    report.add(await restore.finish())
    await restore.sync()
    return report
