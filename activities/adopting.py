"""Takes a volume into the record as it is: one that the platform made before us, or one of ours that is in doubt.

It is no run: the record is written by one conditional PUT. Of the platform's volume there must be none, or a tombstone
whose owner signed off; it keeps its name and content, and is known by a uid that is derived from what its place says
of it. In doubt is a volume that was half-made when the bucket was copied (its record is of an older epoch): nobody but
its user knows whether it was handed out since.
"""

from __future__ import annotations

import secrets
from typing import Protocol, runtime_checkable

from activities.backends.base import Glancing
from activities.fencing import read_record, write_record
from activities.objectstore.base import PreconditionFailed
from activities.proofs import read_manifest
from activities.record import Owner, Record, VolumeRecord, VolumeState
from activities.services import Services
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

    Of ours it takes one that an older copy of the bucket calls half-made, if it stands there. Raises
    ``VolumeNotFound``, ``VolumeConflict`` (the record has another volume, or somebody wrote to it meanwhile),
    ``LineageConflict`` (an archive is there), ``OperationInProgress``, ``WrongStore``, ``Unsupported``.
    """
    workspace_id = workspace_of_volume(home_store_key)
    backend = services.backend
    if backend.home_store_key(workspace_id) != home_store_key:
        raise StorageError(ErrorCode.UNSUPPORTED, f"backend {backend.name} does not take over {home_store_key}")
    identity = await services.ground()
    found = await read_record(services.store, workspace_id)
    is_doubted = found is not None and (_is_rolled_back(found[0], identity.epoch) or _was_taken(found[0]))
    if found is not None and is_doubted:
        uid = await _doubted(services, found[0])
    else:
        uid = await _strange(services, workspace_id, home_store_key)
    new = Record(workspace_id=workspace_id, place=services.place, owner=_owner(), revision=0)
    record, etag = found or (new, None)
    volume = record.volume
    if volume is not None and volume.uid == uid and volume.state is VolumeState.READY:
        return uid
    if not is_doubted:
        _check_free(record, uid, services.place)
    taken = VolumeRecord(uid=uid, state=VolumeState.RESTORING, place=services.place)
    adopted = record.with_volume(taken).handed_out(uid)
    adopted = adopted.model_copy(update={"owner": _owner(), "revision": record.revision + 1, "epoch": identity.epoch})
    try:
        await write_record(services.store, adopted, etag)
    except PreconditionFailed as error:
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT, f"the record of {workspace_id} was written by somebody else meanwhile"
        ) from error
    return uid


def _is_rolled_back(record: Record, epoch: int) -> bool:
    """True for a volume that was half-made when the bucket was copied: its user may have it since."""
    return record.epoch < epoch and record.volume is not None and record.volume.state is VolumeState.RESTORING


def _was_taken(record: Record) -> bool:
    """True if this command wrote the record last."""
    return record.owner.operation == _OPERATION and record.volume is not None


async def _doubted(services: Services, record: Record) -> str:
    """The uid of the record's volume, if that is what stands here."""
    volume, backend = record.volume, services.backend
    assert volume is not None
    if not isinstance(backend, Glancing):
        raise StorageError(ErrorCode.UNSUPPORTED, f"backend {backend.name} shows no volumes")
    view = await backend.glance(record.workspace_id, record) if record.volume_place == services.place else None
    if view is None:
        raise StorageError(
            ErrorCode.VOLUME_NOT_FOUND,
            f"volume {volume.uid} is not at place {services.place!r}; the record says {record.volume_place!r}",
        )
    if view.uid != volume.uid:
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT, f"{view.home_store_key} is {view.uid or 'not ours'}; the record has {volume.uid}"
        )
    return volume.uid


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


def _owner() -> Owner:
    """Nobody's run, which has nothing in flight."""
    return Owner(run_id=f"adopt-{secrets.token_hex(8)}", operation=_OPERATION, signed_off=True)
