"""Activities on volumes and their record: announce, create, hand out, abandon, delete."""

from __future__ import annotations

from temporalio import activity

from activities.backends.base import Deletion, Walk
from activities.control.cleanup import Cleanup
from activities.control.services import Services
from activities.state.fence import FencedRecord
from activities.state.proof import is_proven
from activities.state.record import COLD, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import check_workspace_id
from workflows.messages import AnnounceInput, ArchivedInput, StepInput, VolumeInput


class VolumeActivities:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._backend = services.backend
        self._services = services
        self._cleanup = Cleanup(services)

    # ------------------------------------------------------------ a new volume

    @activity.defn
    async def announce_volume(self, step: AnnounceInput) -> None:
        """Write a new uid, `restoring`; the one before is given up, or left behind, in the same PUT.

        ``NotYours`` if the record has another volume than the inspection saw, or gave this one up: a late attempt.
        """
        fenced = self._fenced(step)

        def edit(record: Record) -> Record:
            volume = record.volume
            if volume is not None and volume.uid == step.volume_uid:
                return record
            if record.is_given_up(step.volume_uid) or (volume is not None and volume.uid != step.replaces):
                raise StorageError(ErrorCode.NOT_YOURS, f"the record moved on; {step.volume_uid} is not announced")
            announced = VolumeRecord(
                uid=step.volume_uid,
                state=VolumeState.RESTORING,
                archive_id=step.archive_id,
                made_by=fenced.run_id,
                place=record.place,
                epoch=record.owner.epoch,
            )
            # A loss is reported until its caller accepted it, or an archive has been made since.
            is_told = step.is_accepted or (volume is not None and volume.state in COLD)
            record = record.with_no_loss() if is_told else record
            announcement = record.found_clear().with_volume(announced, lost=step.lost)
            return announcement.with_no_loss() if step.is_accepted else announcement

        await fenced.change(edit)

    @activity.defn
    async def create_volume(self, step: VolumeInput) -> None:
        """Create the announced volume; one that no user was ever given is cleared out of its way."""
        fenced = self._fenced(step)
        announced = (await fenced.check()).volume
        if announced is None or announced.uid != step.volume_uid:
            raise StorageError(ErrorCode.NOT_YOURS, f"volume {step.volume_uid} was given up meanwhile")
        await self._cleanup.settled(fenced, keep=step.volume_uid)
        # The backend asks the fence once more: between the two a later run may have given this uid up.
        await self._backend.create(
            step.workspace_id, step.volume_uid, restored_from=step.archive_id, spec=step.spec, fence=fenced.check
        )

    @activity.defn
    async def hand_out_volume(self, step: VolumeInput) -> None:
        """Write `ready`. ``NotYours`` if the record no longer announces this uid.

        Whatever became of the lease: here the mover is known to be gone, and the volume to be there.
        """
        fenced = self._fenced(step)
        # First no writer, then the inspection, then `ready`: from that PUT on a user may have the volume.
        await self._backend.detach(step.workspace_id, step.volume_uid, fence=fenced.check)
        view = await self._backend.inspect(step.workspace_id, fence=fenced.check, users=False)
        if view is None or view.uid != step.volume_uid:
            raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"volume {step.volume_uid} is gone before it was handed out")

        def edit(record: Record) -> Record:
            if record.volume is None or record.volume.uid != step.volume_uid:
                raise StorageError(ErrorCode.NOT_YOURS, f"volume {step.volume_uid} was given up meanwhile")
            return record.handed_out(step.volume_uid)

        await fenced.change(edit)

    @activity.defn
    async def abandon_volume(self, step: VolumeInput) -> None:
        """First the record, then the volume. A volume that was handed out is left alone."""
        fenced = self._fenced(step)

        def edit(record: Record) -> Record:
            volume = record.volume
            half = volume is not None and volume.uid == step.volume_uid and volume.state == VolumeState.RESTORING
            return record.with_volume(None) if half else record

        # The record first: while it says `restoring`, a late attempt of this run could still hand the volume out.
        record = await fenced.change(edit)
        if record.is_given_up(step.volume_uid):
            await self._backend.detach(step.workspace_id, step.volume_uid, fence=fenced.check)
            await self._backend.delete(step.workspace_id, step.volume_uid, fence=fenced.check, deletion=None)

    # ------------------------------------------------------------ its mover

    @activity.defn
    async def detach_mover(self, step: VolumeInput) -> None:
        """Whatever became of the lease: one that is cancelled between two attempts, or while it adopts, stops none."""
        await self._backend.detach(step.workspace_id, step.volume_uid, fence=self._fenced(step).check)

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
                return record  # a late attempt: behind the seal there is no way back to `archived`
            return record.with_state(
                step.volume_uid, VolumeState.ARCHIVED, step.archive_id, fingerprint=step.fingerprint
            )

        await fenced.change(edit)

    @activity.defn
    async def mark_ready_again(self, step: VolumeInput) -> None:
        """`archived` becomes `ready` without archive id: the volume changed since."""
        await self._fenced(step).change(lambda record: record.with_state(step.volume_uid, VolumeState.READY))

    @activity.defn
    async def delete_volume(self, step: VolumeInput) -> None:
        """Check for the last time, seal, delete. A sealed deletion is only finished.

        A container or Pod whose worker died while stopping it is ended here, whatever became of the lease.
        """
        fenced = self._fenced(step)
        record = await fenced.check()
        volume = record.volume
        evidence = (step.volume_uid, step.archive_id, step.fingerprint)
        if (
            volume is None
            or (volume.uid, volume.archive_id, volume.fingerprint) != evidence
            or volume.state not in COLD
        ):
            raise StorageError(ErrorCode.NOT_YOURS, f"the record does not say that {step.volume_uid} was archived")

        async def check(walk: Walk) -> None:
            if await walk() != step.fingerprint:
                raise StorageError(
                    ErrorCode.VOLUME_CHANGED, "the volume was written to after it was archived; it is kept"
                )

        async def seal() -> None:
            await fenced.change(lambda now: now.sealed(step.volume_uid))

        # A seal cannot be taken back, and what is left of the volume may be half of it: no more checks, only the end.
        deletion = None if volume.state == VolumeState.DELETING else Deletion(check, seal)
        await self._backend.detach(step.workspace_id, step.volume_uid, fence=fenced.check)
        await self._backend.delete(step.workspace_id, step.volume_uid, fence=fenced.check, deletion=deletion)

    def _fenced(self, step: StepInput) -> FencedRecord:
        return self._services.fenced(check_workspace_id(step.workspace_id))
