"""Questions about archives: is this one proven, what does the manifest say, may this volume replace it.

Read-only. *Proven* means: the current manifest names the archive, and exactly that stored version is there.
"""

from __future__ import annotations

from activities.backends.base import VolumeView
from activities.dataplane.foreign import foreign_archive_id
from activities.dataplane.manifest import Manifest
from activities.objectstore.base import ObjectInfo, ObjectStore
from activities.record import Record
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, is_foreign, manifest_key, workspace_of_archive

ARCHIVE_ID = "archive-id"
"""The metadata field by which an object of ours says which archive it is."""


async def read_manifest(
    store: ObjectStore, key: str, version_id: str | None = None
) -> tuple[Manifest, ObjectInfo] | None:
    """The manifest of the archive at ``key`` and the object that it is; ``None`` if there is none.

    ``ArchiveCorrupt`` for what is no manifest, or is that of another workspace.
    """
    found = await store.get(manifest_key(key), version_id=version_id)
    return None if found is None else (manifest_of(key, found[0]), found[1])


def manifest_of(key: str, data: bytes) -> Manifest:
    """The manifest that ``data``, stored beside ``key``, is. See ``read_manifest``."""
    manifest = Manifest.from_json(data)
    named = manifest.object.key if manifest.object is not None else key
    if manifest.workspace_id != workspace_of_archive(key) or named != key:
        raise StorageError(
            ErrorCode.ARCHIVE_CORRUPT,
            f"{manifest_key(key)} is the manifest of {named} of workspace {manifest.workspace_id!r}",
            hint=f"Put the right one back, or run `codehub-storage verify {key} --write-manifest`.",
        )
    return manifest


async def is_proven(store: ObjectStore, workspace_id: str, archive_id: str | None) -> bool:
    """True if the current manifest names ``archive_id`` and that version is stored."""
    found = await read_manifest(store, archive_key(workspace_id))
    return (
        found is not None
        and archive_id is not None
        and found[0].archive_id == archive_id
        and await stored_version(store, archive_key(workspace_id), found[0]) is not None
    )


async def stored_version(store: ObjectStore, key: str, manifest: Manifest) -> ObjectInfo | None:
    """The object that the manifest of ``key`` proves, if it is stored there: that version, that ETag, that size.

    A manifest that names another key proves nothing: it would hand out the home of another workspace.
    """
    proven = manifest.object
    if proven is None or proven.key != key:
        return None
    info = await store.head(proven.key, version_id=proven.version_id)
    same = info is not None and (info.etag, info.size_bytes) == (proven.etag, proven.size_bytes)
    return info if same else None


async def find_archive(store: ObjectStore, key: str, archive_id: str | None) -> tuple[Manifest | None, ObjectInfo, str]:
    """What restore reads: manifest (``None`` for a foreign archive), object, archive id.

    ``ArchiveNotFound``: no object, or no kept version of that id. ``ArchiveUnproven``: an object of ours that no
    manifest names. ``ArchiveCorrupt``: the manifest names it, but what is stored is something else.
    """
    if archive_id is not None and not is_foreign(key) and not archive_id.startswith("foreign-"):
        return await _find_kept(store, key, archive_id)
    info = await store.head(key)
    if info is None:
        raise StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{store.bucket} has no {key}")
    named = info.metadata.get(ARCHIVE_ID)
    if named is None:
        found_id = foreign_archive_id(info)
        if archive_id not in (None, found_id):
            raise StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{key} is {found_id}, not {archive_id}")
        return None, info, found_id
    found = await read_manifest(store, key)
    if found is None or found[0].archive_id is None:
        raise StorageError(ErrorCode.ARCHIVE_UNPROVEN, f"no manifest proves {key} ({named})")
    return found[0], await _stored(store, key, found[0], named), found[0].archive_id


async def _find_kept(store: ObjectStore, key: str, archive_id: str) -> tuple[Manifest, ObjectInfo, str]:
    """The manifest version that names ``archive_id``, newest first."""
    for version in await store.list_versions(manifest_key(key)):
        if version.is_delete_marker:
            continue
        found = await read_manifest(store, key, version.version_id)
        if found is not None and found[0].archive_id == archive_id:
            return found[0], await _stored(store, key, found[0], archive_id), archive_id
    raise StorageError(
        ErrorCode.ARCHIVE_NOT_FOUND,
        f"no version of {key} is archive {archive_id}",
        hint="Older archives exist only on a versioned bucket with `retention: keep`.",
    )


async def _stored(store: ObjectStore, key: str, manifest: Manifest, named: str) -> ObjectInfo:
    info = await stored_version(store, key, manifest)
    if info is not None:
        return info
    if named != manifest.archive_id:
        raise StorageError(
            ErrorCode.ARCHIVE_UNPROVEN, f"{key} is {named}, but its manifest proves {manifest.archive_id}"
        )
    raise StorageError(ErrorCode.ARCHIVE_CORRUPT, f"{key} is not the object that its manifest proves")


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
        raise _conflict(view, foreign_archive_id(info))


async def _is_kept(store: ObjectStore, key: str, archive_ids: set[str | None]) -> bool:
    for archive_id in archive_ids:
        try:
            await _find_kept(store, key, archive_id or "")
        except StorageError as error:
            if error.code not in (ErrorCode.ARCHIVE_NOT_FOUND, ErrorCode.ARCHIVE_CORRUPT):
                raise
        else:
            return True
    return False


def _conflict(view: VolumeView, archive_id: str) -> StorageError:
    return StorageError(
        ErrorCode.LINEAGE_CONFLICT,
        f"volume {view.home_store_key} ({view.uid}) was neither the source of archive {archive_id} nor restored from "
        "it; both are kept",
    )
