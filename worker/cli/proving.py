"""Writes the proof of an archive whose manifest was lost, without ever replacing another archive's.

It is no run and claims nothing, so it keeps out of the way. No run may be open. The record must stay unchanged from
before the reading to right before the write. The manifest is replaced by PUT If-Match on what was there. Where there is
none, an empty manifest is written first: a purge that comes in between removes it, and the proof is refused.
"""

from __future__ import annotations

from collections.abc import Callable

from activities.dataplane.manifest import Manifest
from activities.dataplane.rebuild import verify_from_tail
from activities.dataplane.verify import verify_archive
from activities.objectstore.base import ARCHIVE_ID, ObjectInfo, ObjectStore, PreconditionFailed
from activities.state.fence import read_record
from activities.state.proof import copies, manifest_of, may_stand
from codehub_storage.client import StorageClient
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import manifest_key, workspace_of_archive


async def prove(
    store: ObjectStore, client: StorageClient, key: str, *, progress: Callable[[int, int], None]
) -> tuple[Manifest, ObjectInfo, bool]:
    """The manifest of the archive at ``key``, its object, and whether the manifest had to be written.

    ``progress`` gets the bytes read and their number. Raises ``OperationInProgress``, ``ArchiveNotFound``,
    ``Unsupported`` (a foreign archive needs no manifest), ``LineageConflict`` (the manifest proves another archive,
    which is still stored), ``ArchiveCorrupt``, ``NotYours`` (something changed meanwhile).
    """
    workspace_id = workspace_of_archive(key)
    await _check_idle(client, workspace_id)
    fence = await _record_etag(store, workspace_id)
    manifest, etag = await _manifest_there(store, key)
    is_named = etag is not None and not (manifest is not None and manifest.is_placeholder)
    info = await _object_of_ours(store, key, is_named=is_named)
    if manifest is not None and await _names(store, manifest, info):
        await verify_archive(store, info, manifest, progress=lambda seen: progress(seen, info.size_bytes))
        if may_stand(info, key, manifest):
            return manifest, info, False
        proof = manifest.pinned_to(info)  # a copy of the bucket: from now on this is the object that was read back
    else:
        if etag is None:
            etag = await _put(store, key, Manifest(workspace_id=workspace_id), None)
        proof = await verify_from_tail(store, info, progress=lambda seen: progress(seen, info.size_bytes))
        named = info.metadata.get(ARCHIVE_ID, proof.archive_id)
        if (proof.archive_id, proof.workspace_id) != (named, workspace_id):
            raise StorageError(
                ErrorCode.ARCHIVE_CORRUPT,
                f"{key} says of itself that it is {named}, but it holds {proof.archive_id} of workspace "
                f"{proof.workspace_id!r}",
            )
    await _check_idle(client, workspace_id)
    if await _record_etag(store, workspace_id) != fence:
        raise _overtaken(key)
    await _put(store, key, proof, etag)
    return proof, info, True


async def _check_idle(client: StorageClient, workspace_id: str) -> None:
    latest = await client.progress(workspace_id)
    if latest is not None and not latest.closed:
        raise StorageError(
            ErrorCode.OPERATION_IN_PROGRESS,
            f"{latest.operation} of workspace {workspace_id} is running",
            details={"operation": latest.operation, "run_id": latest.run_id},
        )


async def _record_etag(store: ObjectStore, workspace_id: str) -> str | None:
    """Changes with every write of a run, and with every claim."""
    found = await read_record(store, workspace_id)
    return found[1] if found else None


async def _object_of_ours(store: ObjectStore, key: str, *, is_named: bool) -> ObjectInfo:
    """``is_named``: there is a manifest beside it, so it is ours although it may have lost its own mark."""
    info = await store.head(key)
    if info is None:
        raise StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{store.bucket} has no {key}")
    if ARCHIVE_ID not in info.metadata and not is_named:
        raise StorageError(
            ErrorCode.UNSUPPORTED,
            f"{key} was not made by this service",
            hint="It needs no manifest: restore reads it as it is.",
        )
    return info


async def _manifest_there(store: ObjectStore, key: str) -> tuple[Manifest | None, str | None]:
    """The manifest, ``None`` if there is none that can be read; and the ETag of the object there."""
    found = await store.get(manifest_key(key))
    if found is None:
        return None, None
    try:
        return manifest_of(key, found[0]), found[1].etag
    except StorageError as error:
        if error.code != ErrorCode.ARCHIVE_CORRUPT:
            raise
        return None, found[1].etag


async def _names(store: ObjectStore, manifest: Manifest, info: ObjectInfo) -> bool:
    """True if the manifest names this object. ``LineageConflict`` if it names another one that is stored."""
    there = [each async for each in copies(store, info.key, manifest)]
    if any((each.version_id, each.etag) == (info.version_id, info.etag) for each in there):
        return True
    if not there:
        return False
    raise StorageError(
        ErrorCode.LINEAGE_CONFLICT,
        f"the manifest proves {manifest.archive_id}, which is stored under {info.key} as an older version",
        hint=f"Restore it with --archive-id {manifest.archive_id}, or purge the newer version by hand first.",
    )


async def _put(store: ObjectStore, key: str, manifest: Manifest, etag: str | None) -> str:
    try:
        return (await store.put_if(manifest_key(key), manifest.to_json(), etag=etag)).etag
    except PreconditionFailed as error:
        raise _overtaken(key) from error


def _overtaken(key: str) -> StorageError:
    return StorageError(ErrorCode.NOT_YOURS, f"an operation changed {key} or its record while it was read")
