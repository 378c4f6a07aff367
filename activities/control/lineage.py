"""Lineage: which volume may replace the archive that is there."""

from __future__ import annotations

from activities.backends.base import VolumeView
from activities.dataplane.foreign import foreign_archive_id
from activities.objectstore.base import ARCHIVE_ID, ObjectStore
from activities.state.proof import FOREIGN, find_kept, read_manifest
from activities.state.record import Record
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key


async def check_lineage(store: ObjectStore, record: Record, view: VolumeView, *, versions_kept: bool) -> None:
    """``LineageConflict`` unless the volume may replace the archive that is there.

    It may if the archive was made from it, or it was restored from that archive; or from an older one that stays,
    because then nothing is replaced that cannot be restored.
    """
    key = archive_key(record.workspace_id)
    origins = {view.restored_from, record.volume.archive_id if record.volume else None} - {None}
    found = await read_manifest(store, key)
    if found is not None and found[0].archive_id is not None:
        manifest = found[0]
        made_from_it = manifest.source is not None and manifest.source.volume_uid == view.uid
        if made_from_it or manifest.archive_id in origins or (versions_kept and await _is_kept(store, key, origins)):
            return
        raise _conflict(view, manifest.archive_id or "")
    info = await store.head(key)
    if info is not None and ARCHIVE_ID not in info.metadata and foreign_archive_id(info) not in origins:
        raise _conflict(view, foreign_archive_id(info), _moved(key, origins))


async def _is_kept(store: ObjectStore, key: str, archive_ids: set[str | None]) -> bool:
    for archive_id in archive_ids:
        try:
            await find_kept(store, key, archive_id or "")
        except StorageError as error:
            if error.code not in (ErrorCode.ARCHIVE_NOT_FOUND, ErrorCode.ARCHIVE_CORRUPT, ErrorCode.ARCHIVE_UNPROVEN):
                raise
        else:
            return True
    return False


def _moved(key: str, origins: set[str | None]) -> str | None:
    """What to do where the object may be what the volume came from, and was copied since: it bears nothing by which we
    could know it again."""
    if not any(origin and origin.startswith(FOREIGN) for origin in origins):
        return None
    return (
        f"The volume came from an archive that was not made here; if {key} is a copy of that, as in a bucket that was "
        f"moved, the volume holds all of it: remove it with `codehub-storage purge --archive {key}`, then archive."
    )


def _conflict(view: VolumeView, archive_id: str, hint: str | None = None) -> StorageError:
    return StorageError(
        ErrorCode.LINEAGE_CONFLICT,
        f"volume {view.home_store_key} ({view.uid}) was neither the source of archive {archive_id} nor restored from "
        "it; both are kept",
        hint=hint,
    )
