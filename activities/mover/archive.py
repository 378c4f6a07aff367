"""Activities that make an archive: scan, copy, copy the tail, verify, prove.

Thin: the data plane does the work, these give it directory, store, limits and progress. A mover that did not make the
plan itself walks again and must find the same fingerprint and cuts. If it does not, the volume changed.
"""

from __future__ import annotations

import asyncio
import shutil

from temporalio import activity

from activities.dataplane.copy import Place, UploadRef, copy_segments, copy_tail
from activities.dataplane.manifest import Manifest, Source, VolumeBlock
from activities.dataplane.plan import Plan, scan_volume
from activities.dataplane.proof import build_manifest
from activities.dataplane.segments import pack_records, unpack_records
from activities.dataplane.tail import Origin
from activities.dataplane.verify import verify_archive
from activities.mover.context import MoverContext, object_info
from activities.objectstore.base import PreconditionFailed, UploadLost
from activities.runtime.failures import upload_lost
from activities.runtime.heartbeats import Progress
from activities.state.proof import read_manifest
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import manifest_key
from workflows.messages import (
    ArchiveStep,
    CopyInput,
    CopyResult,
    PlanSummary,
    ProofInput,
    ProofResult,
    ScanInput,
    TailInput,
    TailResult,
    Upload,
)


class ArchiveActivities:
    """See the module. One instance per mover; its plan lives as long as the process."""

    def __init__(self, context: MoverContext) -> None:
        self._context = context
        self._store = context.store
        self._plan: Plan | None = None

    @activity.defn
    async def scan_volume(self, step: ScanInput) -> PlanSummary:
        """Walk and cut again."""
        async with self._context.exclusive_attempt(step.volume_uid) as progress:
            plan = await self._scan(progress)
        summary = plan.summary
        return PlanSummary(
            fingerprint=summary.change_fingerprint,
            cut_digest=summary.cut_digest,
            data_segments=summary.data_segments,
            files=summary.files,
            file_bytes=summary.file_bytes,
            entries=summary.entries,
            skipped=summary.totals.skipped,
        )

    @activity.defn
    async def copy_segments(self, step: CopyInput) -> CopyResult:
        """Send a batch. What an earlier attempt reported as accepted is looked up in the store, not sent again."""
        async with self._context.exclusive_attempt(step.volume_uid) as progress:
            plan = await self._planned(step, progress)
            try:
                batch = await copy_segments(
                    plan,
                    self._store,
                    _upload(step.upload),
                    Place(step.first_segment, step.first_part),
                    done=unpack_records(progress.records),
                    accepted=lambda records: progress.accepted(pack_records(records)),
                    progress=progress.moved,
                    means=self._context.means,
                )
            except UploadLost as lost:
                raise upload_lost(lost) from lost
        return CopyResult(
            records=pack_records(batch.records),
            next_segment=batch.next.segment,
            next_part=batch.next.part,
            at_end=batch.at_end,
            sent_bytes=batch.sent_bytes,
        )

    @activity.defn
    async def copy_tail(self, step: TailInput) -> TailResult:
        """The rest of the data, then the second walk, then the tail."""
        async with self._context.exclusive_attempt(step.volume_uid) as progress:
            plan = await self._planned(step, progress)
            try:
                tail = await copy_tail(
                    plan,
                    self._store,
                    _upload(step.upload),
                    Place(step.first_segment, step.first_part),
                    before=unpack_records(step.records),
                    origin=self._origin(step),
                    progress=progress.moved,
                    means=self._context.means,
                )
            except UploadLost as lost:
                raise upload_lost(lost) from lost
        return TailResult(records=pack_records(tail.records), sent_bytes=tail.sent_bytes)

    @activity.defn
    async def verify_archive(self, step: ProofInput) -> ProofResult:
        """Read it back whole. ``ArchiveCorrupt`` names the segment."""
        async with self._context.exclusive_attempt(step.volume_uid) as progress:
            manifest = await self._manifest(step, progress)
            try:
                await verify_archive(
                    self._store,
                    object_info(step.stored),
                    manifest,
                    progress=progress.moved,
                    lanes=self._context.concurrency,
                    lock_fd=self._context.lock_fd,
                )
            except PreconditionFailed as error:
                await self._context.fenced(step.workspace_id).check()
                raise StorageError(
                    ErrorCode.ARCHIVE_CORRUPT, f"{step.stored.key} was replaced while it was read back"
                ) from error
        return _proof(manifest)

    @activity.defn
    async def write_manifest(self, step: ProofInput) -> ProofResult:
        """Write it over the one that was there when the upload began, and over no other."""
        async with self._context.exclusive_attempt(step.volume_uid) as progress:
            manifest = await self._manifest(step, progress)
            fenced = self._context.fenced(step.workspace_id)
            await fenced.check()
            key = step.stored.key
            try:
                await self._store.put_if(manifest_key(key), manifest.to_json(), etag=step.upload.manifest_etag)
            except PreconditionFailed as error:
                found = await read_manifest(self._store, key)
                if found is None or found[0].archive_id != step.stored.archive_id:
                    await fenced.check()
                    raise StorageError(
                        ErrorCode.NOT_YOURS, f"the manifest of {key} was replaced while it was being proven"
                    ) from error
        return _proof(manifest)

    async def _scan(self, progress: Progress) -> Plan:
        await self._forget_plan()
        folder = self._context.folder()
        try:
            self._plan = await scan_volume(
                self._context.root, folder, self._context.limits, progress.moved, lock_fd=self._context.lock_fd
            )
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        return self._plan

    async def _forget_plan(self) -> None:
        """A mover may plan several times, and its temporary directory may be memory."""
        if self._plan is not None:
            await asyncio.to_thread(shutil.rmtree, self._plan.folder, ignore_errors=True)
        self._plan = None

    async def _planned(self, step: ArchiveStep, progress: Progress) -> Plan:
        """The plan that the workflow has. ``VolumeChanged`` if a new walk comes to another one."""
        plan = self._plan or await self._scan(progress)
        if (plan.summary.change_fingerprint, plan.summary.cut_digest) != (step.fingerprint, step.cut_digest):
            await self._forget_plan()
            raise StorageError(ErrorCode.VOLUME_CHANGED, "the volume is not as it was when its archive was begun")
        return plan

    async def _manifest(self, step: ProofInput, progress: Progress) -> Manifest:
        return await build_manifest(
            await self._planned(step, progress),
            unpack_records(step.records),
            object_info(step.stored),
            origin=self._origin(step),
        )

    def _origin(self, step: ArchiveStep) -> Origin:
        return Origin(
            archive_id=step.upload.archive_id,
            workspace_id=step.workspace_id,
            created_at=step.upload.created_at,
            source=Source(
                volume_uid=step.volume_uid,
                place=self._context.place,
                restored_from=step.restored_from,
                change_fingerprint=step.fingerprint,
            ),
            volume=VolumeBlock(
                backend=self._context.backend,
                size_bytes=int(step.spec["size_bytes"]) if step.spec.get("size_bytes") else None,
                storage_class=step.spec.get("storage_class"),
            ),
        )


def _upload(upload: Upload) -> UploadRef:
    return UploadRef(upload.key, upload.upload_id, upload.archive_id)


def _proof(manifest: Manifest) -> ProofResult:
    totals = manifest.totals
    return ProofResult(
        files=totals.files,
        raw_bytes=totals.file_bytes,
        stored_bytes=totals.stored_bytes,
        skipped=totals.skipped,
    )
