"""What is in the way of an operation: volumes that no user was ever given, and users of those that one was given.

Cleanup deletes only what the record calls disposable. In-use checks only read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from activities.backends.base import Presence, VolumeView
from activities.control.services import Services
from activities.state.fence import FencedRecord
from activities.state.proof import ArchiveState, archive_state
from activities.state.record import Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, workspace_of_volume


class Cleanup:
    """Inspects the volume of a workspace, after deleting what must not be there."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._backend = services.backend

    async def settled(self, fenced: FencedRecord, *, keep: str | None = None) -> tuple[VolumeView | None, Record]:
        """The volume and the record, after deleting what was never handed out, or must not be again (but ``keep``)."""

        async def is_rubbish(record: Record, uid: str) -> bool:
            return uid != keep and record.is_disposable(uid)

        return await self._cleared(fenced, is_rubbish, keep, users=False)

    async def settled_for_archive(
        self, fenced: FencedRecord, *, users: bool = True
    ) -> tuple[VolumeView | None, Record]:
        """The same, but a `restoring` volume is the caller's to refuse. One whose deletion was sealed is returned
        where there is any trace of an archive. So its deletion is finished as a commit, and not by an inspection."""

        async def is_rubbish(record: Record, uid: str) -> bool:
            volume = record.volume
            if volume is None or volume.uid != uid or volume.state != VolumeState.DELETING:
                return record.is_given_up(uid)
            return await self.archive_state(record) is ArchiveState.NOTHING

        return await self._cleared(fenced, is_rubbish, users=users)

    async def sealed(self, record: Record) -> ArchiveState:
        """What is stored of the archive that replaces a volume whose deletion was sealed and not seen to its end.
        ``PROVEN`` where there is no such volume at this place.

        Call it before any call of the backend: each of those may settle what a crash left, and finish a deletion.
        """
        volume = record.volume
        if volume is None or volume.state != VolumeState.DELETING or volume.gone or record.is_elsewhere:
            return ArchiveState.PROVEN
        return await self.archive_state(record)

    async def archive_state(self, record: Record) -> ArchiveState:
        """The same of the record's archive. A volume that purge sealed need not have one."""
        archive_id = record.volume.archive_id if record.volume else None
        if archive_id is None or (record.volume and record.volume.fingerprint is None):
            return ArchiveState.NOTHING
        return await archive_state(self._store, record.workspace_id, archive_id)

    async def _cleared(
        self,
        fenced: FencedRecord,
        is_rubbish: Callable[[Record, str], Awaitable[bool]],
        keep: str | None = None,
        *,
        users: bool,
    ) -> tuple[VolumeView | None, Record]:
        workspace_id = fenced.workspace_id
        while True:
            view = await self._backend.inspect(workspace_id, fence=fenced.check, users=users)
            record = await fenced.check()  # after the inspection: the record as it is now decides about what was seen
            if view is None:
                return None, record
            self._refuse_late(record, fenced, keep)
            if view.presence == Presence.TERMINATING:
                raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"{view.home_store_key} is still being deleted")
            if view.uid is None or not await is_rubbish(record, view.uid):
                return view, record
            await self._backend.detach(workspace_id, view.uid, fence=fenced.check)  # a mover would write into it still
            await self._backend.delete(workspace_id, view.uid, fence=fenced.check, deletion=None)
            # Inspected again: another volume may have the name by now, and is judged by the record as this one was.

    def _refuse_late(self, record: Record, fenced: FencedRecord, keep: str | None) -> None:
        """Refuse an attempt whose own run has announced a volume by now: it is late and must not clear that volume."""
        volume = record.volume
        if volume and volume.state == VolumeState.RESTORING and volume.made_by == fenced.run_id and volume.uid != keep:
            raise StorageError(ErrorCode.NOT_YOURS, f"this look is late: its run is making volume {volume.uid}")

    async def check_unused(self, fenced: FencedRecord, view: VolumeView, *, remove_stopped: bool) -> None:
        """``VolumeInUse``, unless all users are stopped ones of this workspace, which the caller lets us remove."""
        users = view.users
        assert users is not None, "no users were looked for"
        if remove_stopped and users and all(user.stopped and user.ours for user in users):
            workspace_id = fenced.workspace_id
            await self._backend.remove_stopped_users(workspace_id, fence=fenced.check)
            seen = await self._backend.inspect(workspace_id, fence=fenced.check)
            users = seen.users if seen else ()
        _check_unused(replace(view, users=users))


def _check_unused(view: VolumeView) -> None:
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


def lost(record: Record, volume: VolumeRecord) -> StorageError:
    """[H11] ``VolumeLost``, for a home that is not there though no process of ours removed it."""
    return StorageError(
        ErrorCode.VOLUME_LOST,
        describe_loss(record, volume),
        hint="Bring it back, or restore the last archive if there is one. To begin anew without it: "
        f"`codehub-storage provision {record.workspace_id} --accept-loss {volume.uid}`.",
        details={
            "uid": volume.uid,
            "handed_out_at": volume.handed_out_at,
            "place": volume.place or record.place,
        },
    )


def describe_loss(record: Record, volume: VolumeRecord) -> str:
    """What became of a volume that is not there, as far as that is known."""
    who = f"volume {volume.uid} of workspace {record.workspace_id}"
    if volume.handed_out_at:
        who += f" (handed out at {volume.handed_out_at})"
    if volume.state != VolumeState.READY:
        return f"{who} became archive {volume.archive_id}, which is gone from the bucket"
    if volume.place not in (None, record.place):
        return f"{who} was left behind at place {volume.place!r}"
    return f"{who} is not there, and nobody of ours deleted it"


def conflict(view: VolumeView, why: str) -> StorageError:
    """``VolumeConflict``, naming the volume and its uid."""
    return StorageError(ErrorCode.VOLUME_CONFLICT, f"{view.home_store_key} ({view.uid or 'no uid of ours'}): {why}")


def doubted(view: VolumeView, why: str) -> StorageError:
    """[H12] ``VolumeConflict``, with the ways out of a record that is older than this copy of the bucket."""
    found = conflict(view, why)
    key = archive_key(workspace_of_volume(view.home_store_key))
    return StorageError(
        found.code,
        found.message,
        hint=f"If somebody has it: `codehub-storage adopt {view.home_store_key}` takes it over. If it is worth "
        f"nothing: `codehub-storage restore {key} --accept-loss {view.uid}` drops it.",
        details={"uid": view.uid},
    )
