"""Activities that inspect: what is there, to which workspace it belongs, and what is left to do.

This is where an operation that is called again, or after any crash, finds out how far it is.
"""

from __future__ import annotations

from typing import Any

from temporalio import activity

from activities.backends.base import VolumeView
from activities.control.cleanup import Cleanup, conflict, describe_loss, doubted, lost
from activities.control.lineage import check_lineage
from activities.control.services import Services
from activities.dataplane.manifest import Manifest, VolumeBlock
from activities.objectstore.base import ObjectInfo
from activities.state.fence import FencedRecord
from activities.state.proof import (
    ArchiveState,
    check_same_bucket,
    find_archive,
    read_manifest,
    refuse_missing,
)
from activities.state.record import COLD, Record, VolumeRecord, VolumeState
from codehub_storage.contracts import VolumeSpec
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, check_workspace_id, is_foreign
from workflows.messages import InspectInput, InspectResult, NextStep, StepInput


class InspectionActivities:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._backend = services.backend
        self._services = services
        self._cleanup = Cleanup(services)

    @activity.defn
    async def inspect_for_provision(self, step: InspectInput) -> InspectResult:
        """``NOTHING``: an empty volume is ready. ``LineageConflict`` where an archive is, proven or not."""
        fenced = self._fenced(step)
        key = archive_key(step.workspace_id)
        manifest = await read_manifest(self._store, key)
        if await self._store.head(key) is not None or (manifest and manifest[0].archive_id):
            raise StorageError(
                ErrorCode.LINEAGE_CONFLICT,
                f"{key} exists; an empty volume must not stand in for it",
                hint="Restore the archive, or purge it first.",
            )
        before = (await fenced.check()).volume
        if before is None or before.uid != step.accept_loss:
            await self._unproven(fenced)
        view, record = await self._dropped(fenced, step, *await self._cleanup.settled(fenced))
        spec = _spec(step.volume)
        if view is None:
            missing = record.missing or _vanished(record)
            if missing is not None and step.accept_loss != missing.uid:
                raise lost(record, missing)
            return InspectResult(next_step=NextStep.RUN, spec=spec, recorded_uid=_uid(record), **_told(record, missing))
        self._check_ours(record, view)
        if record.volume and record.volume.state == VolumeState.READY and view.restored_from is None:
            return InspectResult(
                next_step=NextStep.NOTHING, volume_uid=view.uid, lost_volume_uid=record.lost_volume_uid
            )
        raise conflict(view, "it is not the empty volume of an earlier provision")

    @activity.defn
    async def inspect_for_archive(self, step: InspectInput) -> InspectResult:
        """See ``NextStep``. ``VolumeNotFound`` where neither a volume nor an archive made from it is there."""
        fenced = self._fenced(step)
        self._check_key(step)
        unproven = await self._unproven(fenced)
        if unproven is not None:
            return unproven
        view, record = await self._cleanup.settled_for_archive(fenced)
        if view is None:
            return await self._gone(record)
        volume = self._check_ours(record, view, step.expected_volume_uid)
        if volume.state == VolumeState.DELETING:
            return _resume(NextStep.FINISH_DELETION, record, volume)
        await self._refuse_rolled_back(fenced, view, record)
        if volume.state == VolumeState.ARCHIVED:
            found = await self._cleanup.archive_state(record)
            if found is ArchiveState.PROVEN:
                return _resume(NextStep.DELETE_VOLUME, record, volume)
            if found is ArchiveState.READABLE:
                return _resume(NextStep.PROVE_AGAIN, record, volume, is_whole=True)
            record = await fenced.change(lambda now: now.with_state(view.uid, VolumeState.READY))
        if volume.state == VolumeState.RESTORING:
            raise conflict(view, "its restore never ended")
        kept = self._services.retention_keep and await self._store.is_versioned()
        await check_lineage(self._store, record, view, versions_kept=kept)
        await self._cleanup.check_unused(fenced, view, remove_stopped=step.remove_stopped)
        return InspectResult(
            next_step=NextStep.RUN,
            volume_uid=view.uid,
            restored_from=view.restored_from,
            spec=dict(view.spec),
            lost_volume_uid=record.lost_volume_uid,
        )

    @activity.defn
    async def inspect_after_cancel(self, step: InspectInput) -> InspectResult:
        """``RUN``: the volume is ready, and stays. ``FINISH_DELETION``, ``NOTHING``: an earlier run was past its gate;
        ``PROVE_AGAIN`` where its archive must be proven again before that is true."""
        fenced = self._fenced(step)
        unproven = await self._unproven(fenced)
        if unproven is not None:
            return unproven
        view, record = await self._cleanup.settled_for_archive(fenced, users=False)
        if view is None:
            return await self._gone(record)
        volume = self._check_ours(record, view)
        if volume.state == VolumeState.DELETING:
            return _resume(NextStep.FINISH_DELETION, record, volume)
        if volume.state == VolumeState.RESTORING:
            raise conflict(view, "its restore never ended")
        await self._refuse_rolled_back(fenced, view, record)
        await fenced.change(lambda now: now.with_state(view.uid, VolumeState.READY))
        return InspectResult(next_step=NextStep.RUN, volume_uid=view.uid)

    @activity.defn
    async def inspect_for_restore(self, step: InspectInput) -> InspectResult:
        """``NOTHING``: the volume that came from this archive is there, with whatever was written to it since.

        ``PROVE_AGAIN``: the deletion of a volume was sealed, and the archive that it became must be proven again first.
        """
        fenced = self._fenced(step)
        key = step.archive_key or ""
        manifest, info, archive_id = await find_archive(self._store, key, step.archive_id)
        if step.archive_id is None and not is_foreign(key):
            check_same_bucket(await fenced.check(), archive_id)
        unproven = await self._unproven(fenced, wanted=step.archive_id)
        if unproven is not None:
            return unproven
        view, record = await self._dropped(fenced, step, *await self._cleanup.settled(fenced))
        if view is not None:
            volume = self._check_ours(record, view)
            await self._refuse_rolled_back(fenced, view, record)
            await self._backend.detach(step.workspace_id, view.uid or "", fence=fenced.check)
            if not await self._holds(fenced, view, volume, archive_id):
                raise conflict(view, f"it did not come from archive {archive_id}")
            return InspectResult(
                next_step=NextStep.NOTHING,
                volume_uid=view.uid,
                archive_id=archive_id,
                lost_volume_uid=record.lost_volume_uid,
            )
        return InspectResult(
            next_step=NextStep.RUN,
            archive_id=archive_id,
            recorded_uid=_uid(record),
            foreign=manifest is None,
            spec=_spec(step.volume, manifest.volume if manifest else None),
            segments=_data_segments(manifest),
            raw_bytes=_expected_bytes(manifest, info),
            stored_bytes=info.size_bytes,
            **_told(record, record.missing),
        )

    async def _holds(self, fenced: FencedRecord, view: VolumeView, volume: VolumeRecord, archive_id: str) -> bool:
        """True if the volume was made from the archive and is ready; an unchanged `archived` one is made ready."""
        if volume.state == VolumeState.READY:
            return archive_id in (view.restored_from, volume.archive_id)
        if volume.state != VolumeState.ARCHIVED or volume.archive_id != archive_id:
            return False
        if await self._backend.fingerprint(fenced.workspace_id, volume.uid, fence=fenced.check) != volume.fingerprint:
            return False
        await fenced.change(lambda now: now.with_state(view.uid, VolumeState.READY, archive_id))
        return True

    async def _refuse_rolled_back(self, fenced: FencedRecord, view: VolumeView, record: Record) -> None:
        """``VolumeConflict`` for a volume that became the archive which is there, by a record from before the copy.

        Its deletion may have begun since, so only half of it may be left. It must not replace the archive, nor be
        handed out. One that is `archived` and unchanged is whole.
        """
        volume = record.volume
        if volume is None or not record.is_rolled_back:
            return
        if volume.state == VolumeState.ARCHIVED:
            seen = await self._backend.fingerprint(fenced.workspace_id, volume.uid, fence=fenced.check)
            if seen == volume.fingerprint:
                return
            raise doubted(view, "it is not what it was when it was archived, and may be half of it")
        found = await read_manifest(self._store, archive_key(fenced.workspace_id))
        source = found[0].source if found is not None else None
        if source is not None and source.volume_uid == volume.uid:
            raise doubted(view, "it became the archive that is there, and may be half of what it was")

    async def _dropped(
        self, fenced: FencedRecord, step: InspectInput, view: VolumeView | None, record: Record
    ) -> tuple[VolumeView | None, Record]:
        """The same, after the volume that is there was given up and deleted, where the caller names it and the
        bucket was copied since its record was written. ``VolumeInUse`` if it has a user."""
        uid = view.uid if view is not None else None
        is_named = record.volume is not None and record.volume.uid == uid
        may_drop = record.is_rolled_back or (record.owner.epoch > 1 and not is_named)
        if view is None or uid is None or step.accept_loss != uid or not may_drop:
            return view, record
        seen = await self._backend.inspect(step.workspace_id, fence=fenced.check)  # with its users this time
        if seen is None or seen.uid != uid:
            raise conflict(view, "it was replaced while it was looked at")
        await self._cleanup.check_unused(fenced, seen, remove_stopped=False)
        await fenced.change(lambda now: now.with_given_up(uid))
        return await self._cleanup.settled(fenced)

    def _fenced(self, step: StepInput) -> FencedRecord:
        return self._services.fenced(check_workspace_id(step.workspace_id))

    def _check_key(self, step: InspectInput) -> None:
        here = self._backend.home_store_key(step.workspace_id)
        if step.home_store_key not in (None, here):
            raise StorageError(
                ErrorCode.INVALID_INPUT, f"{step.home_store_key} is not a volume of this backend; that would be {here}"
            )

    def _check_ours(self, record: Record, view: VolumeView, expected: str | None = None) -> VolumeRecord:
        if view.uid is None or record.volume is None or record.volume.uid != view.uid:
            if view.uid is not None and record.owner.epoch > 1:
                raise doubted(view, "it is not the one that this workspace's record names")
            raise conflict(view, "it is not the one that this workspace's record names")
        if expected is not None and expected != view.uid:
            raise conflict(view, f"the caller expected {expected}")
        return record.volume

    async def _unproven(self, fenced: FencedRecord, *, wanted: str | None = None) -> InspectResult | None:
        """``PROVE_AGAIN`` where what is left of a volume would go on an archive that is merely there; raises where not
        even that is so. ``wanted``: an archive that the caller named, where another one's is not asked for."""
        record = await fenced.check()
        found = await self._cleanup.sealed(record)
        if found is ArchiveState.READABLE and record.volume is not None:
            return _resume(NextStep.PROVE_AGAIN, record, record.volume)
        if found is not ArchiveState.PROVEN and not (found is ArchiveState.ELSE and wanted is not None):
            await refuse_missing(self._store, record, found)
        return None

    async def _gone(self, record: Record) -> InspectResult:
        """The volume is gone: fine if an archive that the record names may replace it. ``VolumeLost`` where it was
        ready."""
        volume = record.volume
        if record.missing is not None:
            raise lost(record, record.missing)
        if volume and volume.archive_id and volume.state in COLD:
            found = await self._cleanup.archive_state(record)
            if found is ArchiveState.PROVEN:
                return InspectResult(
                    next_step=NextStep.NOTHING,
                    volume_uid=volume.uid,
                    archive_id=volume.archive_id,
                    elsewhere=tuple(map(str, record.found_clear().elsewhere)),
                    lost_volume_uid=record.lost_volume_uid,
                )
            if found is ArchiveState.READABLE:
                return _resume(NextStep.PROVE_AGAIN, record, volume)
            await refuse_missing(self._store, record, found)
        raise StorageError(
            ErrorCode.VOLUME_NOT_FOUND,
            f"workspace {record.workspace_id} has no volume here, and no proven archive of one",
        )


def _resume(verdict: NextStep, record: Record, volume: VolumeRecord, *, is_whole: bool = False) -> InspectResult:
    return InspectResult(
        next_step=verdict,
        volume_uid=volume.uid,
        archive_id=volume.archive_id,
        fingerprint=volume.fingerprint,
        is_whole=is_whole,
        lost_volume_uid=record.lost_volume_uid,
    )


def _vanished(record: Record) -> VolumeRecord | None:
    """Where no archive is there: the volume that became one, and that was not removed by us."""
    volume = record.volume
    return volume if volume is not None and volume.fingerprint is not None else None


def _told(record: Record, missing: VolumeRecord | None) -> dict[str, Any]:
    """What an inspection that found no volume reports: the one that is lost, and those that are elsewhere."""
    elsewhere = tuple(map(str, record.found_clear().elsewhere))
    if missing is None:
        return {"elsewhere": elsewhere, "lost_volume_uid": record.lost_volume_uid}
    return {"elsewhere": elsewhere, "lost_volume_uid": missing.uid, "lost": describe_loss(record, missing)}


def _uid(record: Record) -> str | None:
    return record.volume.uid if record.volume else None


def _spec(asked: VolumeSpec, block: VolumeBlock | None = None) -> dict[str, str]:
    """What the new volume shall be like: as the caller asks, else as the archived one was."""
    size = asked.size_bytes or (block.size_bytes if block else None)
    storage_class = asked.storage_class or (block.storage_class if block else None)
    spec = {"size_bytes": str(size) if size else None, "storage_class": storage_class}
    return {name: value for name, value in spec.items() if value}


def _data_segments(manifest: Manifest | None) -> int:
    return sum(segment.kind != "tail" for segment in manifest.segments) if manifest else 0


def _expected_bytes(manifest: Manifest | None, info: ObjectInfo) -> int:
    return manifest.totals.file_bytes if manifest else info.size_bytes
