"""Activities on volumes and their record: look, announce, create, hand out, delete.

The looks are where an operation that is called again, or after any crash, finds out what is left to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from temporalio import activity

from activities.backends.base import Deletion, Presence, VolumeView
from activities.dataplane.manifest import Manifest, VolumeBlock
from activities.dataplane.walk import change_fingerprint
from activities.fencing import FencedRecord
from activities.objectstore.base import ObjectInfo
from activities.proofs import check_lineage, find_archive, is_proven, read_manifest
from activities.record import Record, VolumeRecord, VolumeState
from activities.services import Services
from codehub_storage.contracts import VolumeSpec
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, check_workspace_id
from workflows.messages import (
    AnnounceInput,
    ArchivedInput,
    LookInput,
    LookResult,
    StepInput,
    Verdict,
    VolumeInput,
)


class VolumeActivities:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._backend = services.backend
        self._services = services

    # ------------------------------------------------------------ looks

    @activity.defn
    async def look_for_provision(self, step: LookInput) -> LookResult:
        """``DONE``: an empty volume is ready. ``LineageConflict`` where an archive is, proven or not."""
        fenced = self._fenced(step)
        key = archive_key(step.workspace_id)
        manifest = await read_manifest(self._store, key)
        if await self._store.head(key) is not None or (manifest and manifest[0].archive_id):
            raise StorageError(
                ErrorCode.LINEAGE_CONFLICT,
                f"{key} exists; an empty volume must not stand in for it",
                hint="Restore the archive, or purge it first.",
            )
        view, record = await self._settled(fenced)
        spec = _spec(step.volume)
        if view is None:
            return LookResult(verdict=Verdict.GO, spec=spec, recorded_uid=_uid(record))
        self._check_ours(record, view)
        if record.volume and record.volume.state == VolumeState.READY and view.restored_from is None:
            return LookResult(verdict=Verdict.DONE, volume_uid=view.uid)
        raise _conflict(view, "it is not the empty volume of an earlier provision")

    @activity.defn
    async def look_for_archive(self, step: LookInput) -> LookResult:
        """See ``Verdict``. ``VolumeNotFound`` where neither a volume nor an archive made from it is there."""
        fenced = self._fenced(step)
        self._check_key(step)
        view, record = await self._settled_for_archive(fenced)
        if view is None:
            return await self._gone(record)
        volume = self._check_ours(record, view, step.expected_volume_uid)
        if volume.state == VolumeState.DELETING:
            return _resume(Verdict.FINISH, view, volume)
        if volume.state == VolumeState.ARCHIVED:
            if await is_proven(self._store, step.workspace_id, volume.archive_id):
                return _resume(Verdict.DELETE, view, volume)
            record = await fenced.change(lambda now: _with_state(now, view.uid, VolumeState.READY))
        if volume.state == VolumeState.RESTORING:
            raise _conflict(view, "its restore never ended")
        kept = self._services.retention_keep and await self._store.is_versioned()
        await check_lineage(self._store, record, view, versions_kept=kept)
        await self._check_unused(step, fenced, view)
        return LookResult(
            verdict=Verdict.GO, volume_uid=view.uid, restored_from=view.restored_from, spec=dict(view.spec)
        )

    @activity.defn
    async def look_after_cancel(self, step: LookInput) -> LookResult:
        """``GO``: the volume is ready, and stays. ``FINISH`` or ``DONE``: an earlier run was past its gate."""
        fenced = self._fenced(step)
        view, record = await self._settled_for_archive(fenced)
        if view is None:
            return await self._gone(record)
        volume = self._check_ours(record, view)
        if volume.state == VolumeState.DELETING:
            return _resume(Verdict.FINISH, view, volume)
        if volume.state == VolumeState.RESTORING:
            raise _conflict(view, "its restore never ended")
        await fenced.change(lambda now: _with_state(now, view.uid, VolumeState.READY))
        return LookResult(verdict=Verdict.GO, volume_uid=view.uid)

    @activity.defn
    async def look_for_restore(self, step: LookInput) -> LookResult:
        """``DONE``: the volume that came from this archive is there, with whatever was written to it since."""
        fenced = self._fenced(step)
        manifest, info, archive_id = await find_archive(self._store, step.archive_key or "", step.archive_id)
        view, record = await self._settled(fenced)
        if view is not None:
            volume = self._check_ours(record, view)
            await self._backend.detach(step.workspace_id, view.uid or "", fence=fenced.check)
            if not await self._holds(fenced, view, volume, archive_id):
                raise _conflict(view, f"it did not come from archive {archive_id}")
            return LookResult(verdict=Verdict.DONE, volume_uid=view.uid, archive_id=archive_id)
        return LookResult(
            verdict=Verdict.GO,
            archive_id=archive_id,
            recorded_uid=_uid(record),
            foreign=manifest is None,
            spec=_spec(step.volume, manifest.volume if manifest else None),
            segments=_data_segments(manifest),
            raw_bytes=_expected_bytes(manifest, info),
        )

    async def _holds(self, fenced: FencedRecord, view: VolumeView, volume: VolumeRecord, archive_id: str) -> bool:
        """True if the volume stands for the archive and is ready; an unchanged `archived` one is made ready."""
        if volume.state == VolumeState.READY:
            return archive_id in (view.restored_from, volume.archive_id)
        if volume.state != VolumeState.ARCHIVED or volume.archive_id != archive_id or view.path is None:
            return False
        if await change_fingerprint(view.path) != volume.fingerprint:
            return False
        await fenced.change(lambda now: _with_state(now, view.uid, VolumeState.READY, archive_id))
        return True

    # ------------------------------------------------------------ a new volume

    @activity.defn
    async def announce_volume(self, step: AnnounceInput) -> None:
        """Write a new uid, `restoring`; the one before is given up in the same PUT.

        ``NotYours`` if the record has another volume than the look saw, or gave this one up: a late attempt.
        """
        fenced = self._fenced(step)

        def edit(record: Record) -> Record:
            volume = record.volume
            if volume is not None and volume.uid == step.volume_uid:
                return record
            if record.is_given_up(step.volume_uid) or (volume is not None and volume.uid != step.replaces):
                raise StorageError(ErrorCode.NOT_YOURS, f"the record moved on; {step.volume_uid} is not announced")
            return record.with_volume(
                VolumeRecord(uid=step.volume_uid, state=VolumeState.RESTORING, made_by=fenced.run_id)
            )

        await fenced.change(edit)

    @activity.defn
    async def create_volume(self, step: VolumeInput) -> None:
        """Create the announced volume; what nobody was ever handed is cleared out of its way."""
        fenced = self._fenced(step)
        announced = (await fenced.check()).volume
        if announced is None or announced.uid != step.volume_uid:
            raise StorageError(ErrorCode.NOT_YOURS, f"volume {step.volume_uid} was given up meanwhile")
        await self._settled(fenced, keep=step.volume_uid)
        await self._backend.create(
            step.workspace_id, step.volume_uid, restored_from=step.archive_id, spec=step.spec, fence=fenced.check
        )

    @activity.defn
    async def hand_out_volume(self, step: VolumeInput) -> None:
        """Write `ready`. ``NotYours`` if the record no longer announces this uid.

        Whatever became of the lease: here the mover is known to be gone, and the volume to be there.
        """
        fenced = self._fenced(step)
        await self._backend.detach(step.workspace_id, step.volume_uid, fence=fenced.check)
        view = await self._backend.inspect(step.workspace_id, fence=fenced.check)
        if view is None or view.uid != step.volume_uid:
            raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"volume {step.volume_uid} is gone before it was handed out")

        def edit(record: Record) -> Record:
            if record.volume is None or record.volume.uid != step.volume_uid:
                raise StorageError(ErrorCode.NOT_YOURS, f"volume {step.volume_uid} was given up meanwhile")
            return _with_state(record, step.volume_uid, VolumeState.READY)

        await fenced.change(edit)

    @activity.defn
    async def abandon_volume(self, step: VolumeInput) -> None:
        """First the record, then the volume. A volume that was handed out is left alone."""
        fenced = self._fenced(step)

        def edit(record: Record) -> Record:
            volume = record.volume
            half = volume is not None and volume.uid == step.volume_uid and volume.state == VolumeState.RESTORING
            return record.with_volume(None) if half else record

        record = await fenced.change(edit)
        if record.is_given_up(step.volume_uid):
            await self._backend.detach(step.workspace_id, step.volume_uid, fence=fenced.check)
            await self._backend.delete(step.workspace_id, step.volume_uid, fence=fenced.check, deletion=None)

    # ------------------------------------------------------------ the end of a volume

    @activity.defn
    async def mark_archived(self, step: ArchivedInput) -> None:
        """See the proven version once more, then write `archived` with the evidence. ``ArchiveNotFound`` if gone."""
        fenced = self._fenced(step)
        if not await is_proven(self._store, step.workspace_id, step.archive_id):
            raise StorageError(
                ErrorCode.ARCHIVE_NOT_FOUND, f"archive {step.archive_id} was proven and is gone; the volume is kept"
            )

        def edit(record: Record) -> Record:
            if record.volume is None or record.volume.uid != step.volume_uid:
                raise StorageError(ErrorCode.NOT_YOURS, f"volume {step.volume_uid} is no longer the record's")
            if record.volume.state == VolumeState.DELETING:
                return record
            return _with_state(
                record, step.volume_uid, VolumeState.ARCHIVED, step.archive_id, fingerprint=step.fingerprint
            )

        await fenced.change(edit)

    @activity.defn
    async def mark_ready_again(self, step: VolumeInput) -> None:
        """`archived` becomes `ready` without archive id: the volume changed since."""
        await self._fenced(step).change(lambda record: _with_state(record, step.volume_uid, VolumeState.READY))

    @activity.defn
    async def delete_volume(self, step: VolumeInput) -> None:
        """Check for the last time, seal, delete. A sealed deletion is only finished."""
        fenced = self._fenced(step)
        record = await fenced.check()
        volume = record.volume
        evidence = (step.volume_uid, step.archive_id, step.fingerprint)
        if (
            volume is None
            or (volume.uid, volume.archive_id, volume.fingerprint) != evidence
            or volume.state not in (VolumeState.ARCHIVED, VolumeState.DELETING)
        ):
            raise StorageError(ErrorCode.NOT_YOURS, f"the record does not say that {step.volume_uid} was archived")

        async def check(path: str | None) -> None:
            if path is not None and await change_fingerprint(path) != step.fingerprint:
                raise StorageError(
                    ErrorCode.VOLUME_CHANGED, "the volume was written to after it was archived; it is kept"
                )

        async def seal() -> None:
            await fenced.change(lambda now: sealed(now, step.volume_uid))

        deletion = None if volume.state == VolumeState.DELETING else Deletion(check, seal)
        await self._backend.delete(step.workspace_id, step.volume_uid, fence=fenced.check, deletion=deletion)

    # ------------------------------------------------------------ helpers

    def _fenced(self, step: StepInput) -> FencedRecord:
        return self._services.fenced(check_workspace_id(step.workspace_id))

    def _check_key(self, step: LookInput) -> None:
        here = self._backend.home_store_key(step.workspace_id)
        if step.home_store_key not in (None, here):
            raise StorageError(
                ErrorCode.INVALID_INPUT, f"{step.home_store_key} is not a volume of this backend; that would be {here}"
            )

    async def _settled(self, fenced: FencedRecord, *, keep: str | None = None) -> tuple[VolumeView | None, Record]:
        """The volume and the record, after deleting what was never handed out, or must not be again (but ``keep``)."""

        async def is_rubbish(record: Record, uid: str) -> bool:
            return uid != keep and record.is_disposable(uid)

        return await self._cleared(fenced, is_rubbish, keep)

    async def _settled_for_archive(self, fenced: FencedRecord) -> tuple[VolumeView | None, Record]:
        """The same, but a `restoring` volume is the caller's to refuse, and one whose deletion was sealed for a proven
        archive is answered, so that its deletion is finished as a commit and not by a look."""

        async def is_rubbish(record: Record, uid: str) -> bool:
            volume = record.volume
            if volume is None or volume.uid != uid or volume.state != VolumeState.DELETING:
                return record.is_given_up(uid)
            return not await is_proven(self._store, record.workspace_id, volume.archive_id)

        return await self._cleared(fenced, is_rubbish)

    async def _cleared(
        self,
        fenced: FencedRecord,
        is_rubbish: Callable[[Record, str], Awaitable[bool]],
        keep: str | None = None,
    ) -> tuple[VolumeView | None, Record]:
        record = await fenced.check()
        while True:
            view = await self._backend.inspect(record.workspace_id, fence=fenced.check)
            record = await fenced.check()
            if view is None:
                return None, record
            self._refuse_late(record, fenced, keep)
            if view.presence == Presence.TERMINATING:
                raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"{view.home_store_key} is still being deleted")
            if view.uid is None or not await is_rubbish(record, view.uid):
                return view, record
            await self._backend.detach(record.workspace_id, view.uid, fence=fenced.check)
            await self._backend.delete(record.workspace_id, view.uid, fence=fenced.check, deletion=None)

    def _refuse_late(self, record: Record, fenced: FencedRecord, keep: str | None) -> None:
        """A look whose own run has announced a volume by now is a late attempt, and must not clear that volume."""
        volume = record.volume
        if volume and volume.state == VolumeState.RESTORING and volume.made_by == fenced.run_id and volume.uid != keep:
            raise StorageError(ErrorCode.NOT_YOURS, f"this look is late: its run is making volume {volume.uid}")

    def _check_ours(self, record: Record, view: VolumeView, expected: str | None = None) -> VolumeRecord:
        if view.uid is None or record.volume is None or record.volume.uid != view.uid:
            raise _conflict(view, "it is not the one that this workspace's record names")
        if expected is not None and expected != view.uid:
            raise _conflict(view, f"the caller expected {expected}")
        return record.volume

    async def _gone(self, record: Record) -> LookResult:
        """The volume is gone: fine if an archive that the record names is proven."""
        volume = record.volume
        is_cold = volume is not None and volume.state in (VolumeState.ARCHIVED, VolumeState.DELETING)
        if volume and is_cold and await is_proven(self._store, record.workspace_id, volume.archive_id):
            return LookResult(verdict=Verdict.DONE, volume_uid=volume.uid, archive_id=volume.archive_id)
        raise StorageError(
            ErrorCode.VOLUME_NOT_FOUND,
            f"workspace {record.workspace_id} has no volume here, and no proven archive of one",
        )

    async def _check_unused(self, step: LookInput, fenced: FencedRecord, view: VolumeView) -> None:
        users = view.users
        if step.remove_stopped and users and all(user.stopped and user.ours for user in users):
            await self._backend.remove_stopped_users(step.workspace_id, fence=fenced.check)
            seen = await self._backend.inspect(step.workspace_id, fence=fenced.check)
            users = seen.users if seen else ()
        check_unused(replace(view, users=users))


def check_unused(view: VolumeView) -> None:
    """``VolumeInUse``, naming who has the volume and whether they only hold it (``stopped``)."""
    if not view.users:
        return
    stopped = all(user.stopped for user in view.users)
    names = ", ".join(user.name for user in view.users)
    raise StorageError(
        ErrorCode.VOLUME_IN_USE,
        f"{view.home_store_key} is {'held by stopped' if stopped else 'in use by'} {names}",
        details={"stopped": stopped, "users": [user.name for user in view.users]},
    )


def _with_state(
    record: Record,
    uid: str | None,
    state: VolumeState,
    archive_id: str | None = None,
    *,
    fingerprint: str | None = None,
) -> Record:
    """The record with its volume in another state. `deleting` is final: it is never taken back."""
    volume = record.volume
    if volume is None or volume.uid != uid or volume.state == VolumeState.DELETING:
        raise StorageError(ErrorCode.NOT_YOURS, f"volume {uid} cannot become {state}: the record changed")
    if volume.state == state == VolumeState.READY:
        return record
    return record.with_volume(VolumeRecord(uid=volume.uid, state=state, archive_id=archive_id, fingerprint=fingerprint))


def sealed(record: Record, uid: str) -> Record:
    """The record that says `deleting`, keeping the evidence."""
    volume = record.volume
    if volume is None or volume.uid != uid:
        raise StorageError(ErrorCode.NOT_YOURS, f"volume {uid} is no longer the record's")
    return record.with_volume(volume.model_copy(update={"state": VolumeState.DELETING}))


def _resume(verdict: Verdict, view: VolumeView, volume: VolumeRecord) -> LookResult:
    return LookResult(
        verdict=verdict, volume_uid=view.uid, archive_id=volume.archive_id, fingerprint=volume.fingerprint
    )


def _uid(record: Record) -> str | None:
    return record.volume.uid if record.volume else None


def _conflict(view: VolumeView, why: str) -> StorageError:
    return StorageError(ErrorCode.VOLUME_CONFLICT, f"{view.home_store_key} ({view.uid or 'no uid of ours'}): {why}")


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
