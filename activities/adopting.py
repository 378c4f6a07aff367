"""Takes a volume that the platform made before us into the record, so that it can be archived like ours.

It is no run: the record must be missing, or a tombstone whose owner signed off, and is written by one conditional PUT.
The volume keeps its name and content; it is known by a uid that is derived from what its place says of it.
"""

from __future__ import annotations

import secrets
from typing import Protocol, runtime_checkable

from activities.fencing import read_record
from activities.objectstore.base import PreconditionFailed
from activities.proofs import read_manifest
from activities.record import Owner, Record, VolumeRecord, VolumeState
from activities.services import Services
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, record_key, workspace_of_volume


@runtime_checkable
class Adopting(Protocol):
    """A backend whose volumes can be taken over as they are."""

    async def adopt(self, workspace_id: str) -> str:
        """The uid that the workspace's volume shall have. ``VolumeNotFound``; ``VolumeConflict`` for one of ours."""
        ...


async def adopt(services: Services, home_store_key: str) -> str:
    """The uid under which the volume is now the workspace's, `ready`. Again is fine.

    Raises ``VolumeNotFound``, ``VolumeConflict`` (the record has another volume, or somebody wrote to it meanwhile),
    ``LineageConflict`` (an archive is there), ``OperationInProgress``, ``WrongStore``, ``Unsupported``.
    """
    workspace_id = workspace_of_volume(home_store_key)
    backend = services.backend
    if backend.home_store_key(workspace_id) != home_store_key or not isinstance(backend, Adopting):
        raise StorageError(ErrorCode.UNSUPPORTED, f"backend {backend.name} does not take over {home_store_key}")
    await services.ground()
    key = archive_key(workspace_id)
    manifest = await read_manifest(services.store, key)
    if await services.store.head(key) is not None or (manifest and manifest[0].archive_id):
        raise StorageError(ErrorCode.LINEAGE_CONFLICT, f"{key} exists, and was not made from {home_store_key}")
    uid = await backend.adopt(workspace_id)
    found = await read_record(services.store, workspace_id)
    record, etag = found or (Record(workspace_id=workspace_id, place=services.place, owner=_owner(), revision=0), None)
    volume = record.volume
    if volume is not None and volume.uid == uid and volume.state is VolumeState.READY:
        return uid
    if not record.owner.signed_off:
        raise StorageError(ErrorCode.OPERATION_IN_PROGRESS, f"{record.owner.operation} of {workspace_id} has not ended")
    if volume is not None or record.is_given_up(uid) or record.place != services.place:
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT, f"the record of {workspace_id} names another volume, place {record.place}"
        )
    adopted = record.with_volume(VolumeRecord(uid=uid, state=VolumeState.READY)).model_copy(
        update={"owner": _owner(), "revision": record.revision + 1}
    )
    try:
        data = adopted.model_dump_json(exclude_none=True).encode()
        await services.store.put_if(record_key(workspace_id), data, etag=etag)
    except PreconditionFailed as error:
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT, f"the record of {workspace_id} was written by somebody else meanwhile"
        ) from error
    return uid


def _owner() -> Owner:
    """Nobody's run, which has nothing in flight."""
    return Owner(run_id=f"adopt-{secrets.token_hex(8)}", operation="adopt", signed_off=True)
