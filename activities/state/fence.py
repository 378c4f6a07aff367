"""The fence: who may write is read again right before each write, from the one record that changes atomically.

The record names the run that claimed it, as ``activity.info()`` has it. A reset run that replays an old claim has a
new run id and is locked out; late attempts and zombies of older runs likewise. Only the record's PUT If-Match is
atomic. Every other write is check-then-act and leans on a uid, an upload id, `deleting`, a lock or waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from activities.objectstore.base import ObjectStore, PreconditionFailed
from activities.state.formats import check_format
from activities.state.record import COLD, FORMAT_VERSION, Owner, Record, VolumeRecord, VolumeState
from codehub_storage.contracts import Operation
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, record_key

RACES = 5
"""Maximum number of times a refused PUT is checked again. After that it counts as the store's fault."""

TAKING = frozenset({Operation.RESTORE.value, Operation.PURGE.value})
"""Operations that take a workspace from another place."""

_RECORD_BYTES = 64 << 10


@dataclass(frozen=True)
class Claimant:
    """Who claims: the place, the operation, the epoch of the store that it read, and what its caller accepts.

    ``accept_loss``: this volume may be lost. ``old_place_is_dead``: nothing runs any more at the place that is left.
    ``home_store_key``: what its place calls the volume.
    """

    place: str
    operation: str
    epoch: int = 1
    accept_loss: str | None = None
    old_place_is_dead: bool = False
    home_store_key: str = "HOME_STORE_KEY"


async def read_record(store: ObjectStore, workspace_id: str) -> tuple[Record, str] | None:
    """The record and its ETag; ``None`` if the workspace has none.

    ``ArchiveCorrupt`` if it cannot be read, or is the record of another workspace; ``Unsupported`` for a later format.
    """
    found = await store.get(record_key(workspace_id))
    return None if found is None else (_record_of(workspace_id, found[0]), found[1].etag)


def _record_of(workspace_id: str, data: bytes) -> Record:
    key = record_key(workspace_id)
    check_format(data, f"the record {key}", newest=FORMAT_VERSION)
    try:
        if len(data) > _RECORD_BYTES:
            raise ValueError(f"{len(data)} bytes are no record")
        record = Record.model_validate_json(data)
    except ValueError as error:  # pydantic's own is one
        raise _corrupt(f"the record {key} cannot be read") from error
    if record.workspace_id != workspace_id:
        raise _corrupt(f"{key} is the record of workspace {record.workspace_id!r}, not of {workspace_id}")
    volume = record.volume
    # Before places were noted a purge did not note itself; nothing else sealed without evidence.
    is_older = volume is not None and volume.place is None and volume.state == VolumeState.DELETING
    if volume is not None and not volume.has_evidence and not is_older:
        raise _corrupt(f"{key} says that its volume is {volume.state}, and names neither archive nor purge")
    return record


def _corrupt(message: str) -> StorageError:
    return StorageError(
        ErrorCode.ARCHIVE_CORRUPT,
        message,
        hint="Somebody else wrote to it; nothing was touched. Restore an older version of that object.",
    )


async def write_record(store: ObjectStore, record: Record, etag: str | None) -> None:
    """PUT If-Match (``None``: if there is none). ``PreconditionFailed`` if another process wrote first.

    What could not be read again is never written.
    """
    data = record.model_dump_json(exclude_none=True).encode()
    _record_of(record.workspace_id, data)
    await store.put_if(record_key(record.workspace_id), data, etag=etag)


class FencedRecord:
    """The record of one workspace as one run may read and change it."""

    def __init__(self, store: ObjectStore, workspace_id: str, run_id: str, epoch: int | None = None) -> None:
        """``epoch``: the store's, as this process knows it; ``None`` where that does not matter."""
        self._epoch = epoch
        self._store = store
        self._workspace_id = workspace_id
        self._run_id = run_id

    @property
    def workspace_id(self) -> str:
        """The workspace that this record belongs to."""
        return self._workspace_id

    @property
    def run_id(self) -> str:
        """The run that this fence belongs to."""
        return self._run_id

    async def claim(self, claimant: Claimant) -> Record | None:
        """Become the owner; claiming again is fine. Returns the record as it was before, ``None`` if there was none.

        ``WrongStore``, ``OperationInProgress``: the workspace is at another place and may not be taken from there.
        ``VolumeConflict``: its volume may have been handed out before the bucket was copied.
        """
        found = await read_record(self._store, self._workspace_id)
        owner = Owner(run_id=self._run_id, operation=claimant.operation, epoch=claimant.epoch)
        if found is None:
            record = Record(workspace_id=self._workspace_id, place=claimant.place, owner=owner)
            etag, before = None, None
        else:
            before, etag = found
            if before.owner.run_id == self._run_id and before.place == claimant.place:
                return before  # an earlier attempt wrote it, and the store's response was lost
            _check_may_claim(before, claimant)
            record = _claimed(before, claimant, owner)
        if await self._put(record, etag):
            return before
        # No second look here: a late claim of a dead run would take the record from the one that lives.
        raise self._contended()

    async def check(self) -> Record:
        """The record as it is now. ``NotYours`` if another run owns it."""
        return (await self._read())[0]

    async def change(self, edit: Callable[[Record], Record]) -> Record:
        """Change the record by PUT If-Match and return it. ``edit`` gets the record as it is now and may refuse.

        An edit that changes nothing writes nothing. A late attempt reads the record again here and may get through. So
        every edit must be right at any moment of its run: it compares the state that it relies on.
        """
        for _ in range(RACES):
            record, etag = await self._read()
            edited = edit(record)
            if edited == record:
                return record
            # Two equal records would have one ETag: without a revision If-Match could not detect an older one.
            edited = edited.model_copy(update={"revision": record.revision + 1})
            if await self._put(edited, etag):
                return edited
        raise self._contended()

    async def release(self, gone_uid: str | None = None) -> None:
        """Write that this run writes nothing more; again is fine. After it every other read here is ``NotYours``.

        ``gone_uid``: a volume that this run saw to be gone, and archived.
        """
        found = await read_record(self._store, self._workspace_id)
        if found is not None and found[0].owner.run_id == self._run_id and found[0].owner.signed_off:
            return  # said by an earlier attempt; ``change`` would take it for another run's

        def edit(record: Record) -> Record:
            volume = record.volume
            is_cold = volume is not None and volume.state in COLD
            # Only what this run saw: a volume that is elsewhere, or ready, may exist whatever was deleted here.
            if volume is not None and volume.uid == gone_uid and is_cold and not record.is_elsewhere:
                volume = volume.model_copy(update={"gone": True})
            owner = record.owner.model_copy(update={"signed_off": True})
            return record.model_copy(update={"owner": owner, "volume": volume})

        await self.change(edit)

    async def _read(self) -> tuple[Record, str]:
        found = await read_record(self._store, self._workspace_id)
        signed_off = found is not None and found[0].owner.signed_off
        # A released record counts as another run's: a late attempt of this run must not write after the release.
        if found is None or found[0].owner.run_id != self._run_id or signed_off:
            raise StorageError(
                ErrorCode.NOT_YOURS,
                f"workspace {self._workspace_id} is owned by "
                f"{'nobody' if found is None else 'run ' + found[0].owner.run_id}, not by run {self._run_id}"
                + (", which released it" if signed_off else ""),
            )
        claimed = found[0].owner.epoch
        if self._epoch is not None and claimed != self._epoch:
            # What it relied on was seen in another bucket: an archive that it proved there is not proven here.
            raise StorageError(
                ErrorCode.NOT_YOURS,
                f"run {self._run_id} claimed in epoch {claimed} of the store, which is in epoch {self._epoch} now",
                hint="The bucket was copied meanwhile. Call again: the next run looks anew.",
            )
        return found

    async def _put(self, record: Record, etag: str | None) -> bool:
        """False if another process wrote first."""
        try:
            await write_record(self._store, record, etag)
        except PreconditionFailed:
            return False
        return True

    def _contended(self) -> StorageError:
        return StorageError(
            ErrorCode.STORE_UNAVAILABLE,
            f"the record of workspace {self._workspace_id} was changed while it was being written",
        )


def _claimed(before: Record, claimant: Claimant, owner: Owner) -> Record:
    """The record of the new owner. Where a volume is stays with it, though the record leaves the place."""
    volume = before.volume
    if volume is not None and volume.place is None:
        purged_by = volume.purged_by if volume.has_evidence else before.owner.run_id  # see _record_of
        volume = volume.model_copy(update={"place": before.place, "purged_by": purged_by})
    facts = {"place": claimant.place, "volume": volume, "owner": owner}
    return before.model_copy(update={**facts, "revision": before.revision + 1})


def _check_may_claim(before: Record, claimant: Claimant) -> None:
    """[H10] Check the volume's state first, then whether the last owner at another place has ended.

    COLD belongs to no place: there is no volume, its deletion is sealed, or no user was ever given it. A restore or a
    purge may then take the record to its own place. In any other state the volume may hold work. The place that has
    the volume may take the record back for any operation. Where there is no volume, a provision may begin again.
    """
    is_taken, volume = before.place != claimant.place, before.volume
    is_home = volume is not None and before.volume_place == claimant.place
    may_take = claimant.operation in TAKING or is_home
    may_take = may_take or (volume is None and claimant.operation == Operation.PROVISION)
    if is_taken and not may_take:
        raise StorageError(
            ErrorCode.WRONG_STORE,
            f"workspace {before.workspace_id} lives in place {before.place!r}, not in {claimant.place!r}",
            hint="Call with the place of the workspace. A restore or a purge takes an archived one to another place.",
        )
    if volume is not None and not volume.gone and volume.uid != claimant.accept_loss:
        if volume.state == VolumeState.RESTORING and volume.epoch < claimant.epoch:
            raise _may_be_handed_out(before, volume, claimant)
        if before.volume_place != claimant.place and volume.state in (VolumeState.READY, VolumeState.ARCHIVED):
            raise StorageError(
                ErrorCode.WRONG_STORE,
                f"volume {volume.uid} of workspace {before.workspace_id} is at place {before.volume_place!r}, "
                f"{volume.state}, and may hold work that no archive has",
                hint=f"Archive it there. If that place is lost for good: `{_without(volume, before, claimant)}`.",
                details={"uid": volume.uid, "place": before.volume_place},
            )
    if is_taken and not before.owner.signed_off and not claimant.old_place_is_dead:
        raise StorageError(
            ErrorCode.OPERATION_IN_PROGRESS,
            f"{before.owner.operation} of workspace {before.workspace_id} at place {before.place!r} has not ended",
            hint="Wait for it, or call the operation again there. If nothing runs there any more, "
            f"`codehub-storage restore {archive_key(before.workspace_id)} --old-place-is-dead` takes the workspace.",
            details={"operation": before.owner.operation, "run_id": before.owner.run_id, "place": before.place},
        )


def _without(volume: VolumeRecord, before: Record, claimant: Claimant) -> str:
    """What to type to go on without a volume: archive and cancel have nothing to go on with but its restore."""
    if claimant.operation == Operation.PROVISION and volume.archive_id is None:
        return f"codehub-storage provision {before.workspace_id} --accept-loss {volume.uid}"
    return f"codehub-storage restore {archive_key(before.workspace_id)} --accept-loss {volume.uid}"


def _may_be_handed_out(before: Record, volume: VolumeRecord, claimant: Claimant) -> StorageError:
    """[H12] A record of before the bucket was copied is a record rolled back: the home may be in use since."""
    return StorageError(
        ErrorCode.VOLUME_CONFLICT,
        f"the record of workspace {before.workspace_id} is older than this copy of the bucket and says that volume "
        f"{volume.uid} at place {before.volume_place!r} was being made; it may have been handed out since, and is kept",
        hint=f"If somebody has it: `codehub-storage adopt {claimant.home_store_key}`, typed at that place, takes it "
        f"over. If it was never ready: `{_without(volume, before, claimant)}` drops it.",
        details={"uid": volume.uid, "place": before.volume_place},
    )
