"""Takes a volume into the record as it is: one that the platform made before us, or one of ours that is in doubt.

It is no run: the record is written by one conditional PUT. For the platform's volume there must be no record, or a
tombstone that its owner released. The volume keeps its name and content. Its uid is derived from what its place
reports about it. In doubt is a volume whose record is older than this copy of the bucket: only its user knows more.
"""

from __future__ import annotations

import secrets
from typing import Protocol, runtime_checkable

from activities.backends.base import ReadOnlyBackend
from activities.control.services import Services
from activities.objectstore.base import PreconditionFailed
from activities.state.fence import read_record, write_record
from activities.state.proof import read_manifest
from activities.state.record import Owner, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, workspace_of_volume

_OPERATION = "adopt"


@runtime_checkable
class Adopting(Protocol):
    """A backend whose volumes can be taken over as they are."""

    async def adopt(self, workspace_id: str) -> str:
        """The uid that the workspace's volume shall have. ``VolumeNotFound``; ``VolumeConflict`` for one of ours."""
        ...


async def adopt(services: Services, home_store_key: str) -> str:
    """The uid under which the volume is now the workspace's, `ready`. Again is fine.

    Of ours it takes one that exists there, where the record is older than this copy of the bucket. Raises
    ``VolumeNotFound``, ``VolumeConflict`` (the record has another volume, or another process wrote to it meanwhile),
    ``LineageConflict`` (an archive is there), ``OperationInProgress``, ``WrongStore``, ``Unsupported``.
    """
    workspace_id = workspace_of_volume(home_store_key)
    backend = services.backend
    if backend.home_store_key(workspace_id) != home_store_key:
        raise StorageError(ErrorCode.UNSUPPORTED, f"backend {backend.name} does not take over {home_store_key}")
    identity = await services.verify_identity()
    found = await read_record(services.store, workspace_id)
    doubted = None if found is None else await _doubted(services, found[0], identity.epoch)
    uid = doubted or await _strange(services, workspace_id, home_store_key)
    new = Record(workspace_id=workspace_id, place=services.place, owner=_owner(identity.epoch), revision=0)
    record, etag = found or (new, None)
    volume = record.volume
    is_current = volume is not None and volume.epoch == identity.epoch
    if volume is not None and volume.uid == uid and volume.state is VolumeState.READY and (is_current or not doubted):
        await _end_movers(services, record, uid)
        return uid
    if not doubted:
        _check_free(record, uid, services.place)
    taken = VolumeRecord(uid=uid, state=VolumeState.RESTORING, place=services.place)
    owned = record.model_copy(update={"owner": _owner(identity.epoch), "place": services.place})
    adopted = owned.with_volume(taken).handed_out(uid)
    adopted = adopted.model_copy(update={"owner": _owner(identity.epoch), "revision": record.revision + 1})
    try:
        await write_record(services.store, adopted, etag)
    except PreconditionFailed as error:
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT, f"the record of {workspace_id} was written by somebody else meanwhile"
        ) from error
    await _end_movers(services, adopted, uid)
    return uid


async def _end_movers(services: Services, record: Record, uid: str) -> None:
    """End movers before the volume is handed out: the fence keeps an earlier run from the record, but its mover may
    still write to the volume.

    Done after the record is written, so that no lease starts another mover.
    """

    async def fence() -> Record:
        return record

    await services.backend.detach(record.workspace_id, uid, fence=fence)


async def _doubted(services: Services, record: Record, epoch: int) -> str | None:
    """The uid of a volume of ours that exists here, where the bucket was copied since its record was written.

    ``None`` where that is not so. No earlier run can write any more, so it does not matter if an owner never released
    the record.
    """
    backend, volume = services.backend, record.volume
    is_older = record.owner.epoch < epoch or (volume is not None and volume.epoch < epoch)
    if not isinstance(backend, ReadOnlyBackend) or not (is_older or record.owner.operation == _OPERATION):
        return None
    if not record.owner.signed_off and record.owner.epoch == epoch:
        raise StorageError(
            ErrorCode.OPERATION_IN_PROGRESS, f"{record.owner.operation} of {record.workspace_id} has not ended"
        )
    view = await backend.peek(record.workspace_id, record)
    if view is None:
        raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"no volume stands at place {services.place!r}")
    if view.uid is None:
        return None
    is_sealed = volume is not None and volume.uid == view.uid and volume.state is VolumeState.DELETING
    has_work = volume is not None and volume.state in (VolumeState.READY, VolumeState.ARCHIVED)
    if is_sealed or record.is_given_up(view.uid) or (has_work and record.volume_place != services.place):
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT,
            f"{view.home_store_key} ({view.uid}) was given up, or the home is at place {record.volume_place}",
        )
    return view.uid


async def _strange(services: Services, workspace_id: str, home_store_key: str) -> str:
    """The uid for a volume that the platform made."""
    backend = services.backend
    if not isinstance(backend, Adopting):
        raise StorageError(ErrorCode.UNSUPPORTED, f"backend {backend.name} does not take over {home_store_key}")
    key = archive_key(workspace_id)
    manifest = await read_manifest(services.store, key)
    if await services.store.head(key) is not None or (manifest and manifest[0].archive_id):
        raise StorageError(ErrorCode.LINEAGE_CONFLICT, f"{key} exists, and was not made from {home_store_key}")
    return await backend.adopt(workspace_id)


def _check_free(record: Record, uid: str, place: str) -> None:
    if not record.owner.signed_off:
        raise StorageError(
            ErrorCode.OPERATION_IN_PROGRESS, f"{record.owner.operation} of {record.workspace_id} has not ended"
        )
    if record.volume is not None or record.is_given_up(uid) or record.place != place:
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT,
            f"the record of {record.workspace_id} names another volume, place {record.place}",
        )


def _owner(epoch: int) -> Owner:
    """An owner that is no run, and has no write in flight."""
    return Owner(run_id=f"adopt-{secrets.token_hex(8)}", operation=_OPERATION, signed_off=True, epoch=epoch)
