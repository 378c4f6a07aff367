"""[C1] Questions about archives. Two of them must not be taken for one another.

*May it be read* as the archive that a manifest names? Content decides: key, size, archive id where the object has one,
CRC-64 where the store reports it, and the digests while it is read. ETag and version id are those of the bucket that
it is in. They pin one read and are looked up for it.

*May it replace a volume* that is deleted, or is gone? Only the very object that was read back whole, so its ETag and
version id are those of the manifest too. A HEAD is no evidence: stores report the right size and checksum for rotten
bytes.

This module only reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum

from activities.dataplane.foreign import foreign_archive_id
from activities.dataplane.manifest import Manifest
from activities.objectstore.base import ARCHIVE_ID, UNVERSIONED, ObjectInfo, ObjectStore
from activities.state.record import Record, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, is_foreign, manifest_key, workspace_of_archive

FOREIGN = "foreign-"
"""What the ids of archives begin with that we did not make."""


# ------------------------------------------------------------ the two questions


def may_be_read(info: ObjectInfo, key: str, manifest: Manifest) -> bool:
    """True if ``info`` can be the archive that the manifest of ``key`` names; its bytes are still to be compared.

    A manifest that names another key is of another archive: it would hand out the home of another workspace.
    """
    named = manifest.object
    return (
        named is not None
        and named.key == info.key == key
        and named.size_bytes == info.size_bytes
        and info.metadata.get(ARCHIVE_ID) in (None, manifest.archive_id)
        and (info.crc64 is None or info.crc64.hex() == named.crc64)
    )


def may_stand(info: ObjectInfo, key: str, manifest: Manifest) -> bool:
    """True if ``info`` is the very object that was read back whole when the manifest of ``key`` was written."""
    named = manifest.object
    return (
        named is not None
        and may_be_read(info, key, manifest)
        and (info.etag, _version(info.version_id)) == (named.etag, _version(named.version_id))
    )


def _version(version_id: str | None) -> str | None:
    """Servers call the version of an object `null` once the bucket keeps versions, and before that nothing."""
    return None if version_id == UNVERSIONED else version_id


class ArchiveState(Enum):
    """What is stored of an archive that a record names.

    ``PROVEN``: it may replace the volume. ``READABLE``: its content is there; it may replace the volume once it was
    read back whole. ``CORRUPT``: the object is not what the manifest says. ``ELSE``: another archive's manifest, or
    none. ``NOTHING``: neither manifest nor object.
    """

    PROVEN = "proven"
    READABLE = "readable"
    CORRUPT = "corrupt"
    ELSE = "else"
    NOTHING = "nothing"


async def archive_state(store: ObjectStore, workspace_id: str, archive_id: str | None) -> ArchiveState:
    """What is stored of the archive ``archive_id``, by the current manifest."""
    key = archive_key(workspace_id)
    found = await read_manifest(store, key)
    manifest = found[0] if found is not None and not found[0].is_placeholder else None
    if manifest is None:
        return ArchiveState.NOTHING if await store.head(key) is None else ArchiveState.ELSE
    if archive_id is None or manifest.archive_id != archive_id:
        return ArchiveState.ELSE
    if await proven_object(store, key, manifest) is not None:
        return ArchiveState.PROVEN
    return ArchiveState.CORRUPT if await stored_version(store, key, manifest) is None else ArchiveState.READABLE


async def is_proven(store: ObjectStore, workspace_id: str, archive_id: str | None) -> bool:
    """True if the current manifest names ``archive_id`` and that very object is stored."""
    return await archive_state(store, workspace_id, archive_id) is ArchiveState.PROVEN


async def proven_object(store: ObjectStore, key: str, manifest: Manifest) -> ObjectInfo | None:
    """The object that may replace the volume that the manifest of ``key`` was made from."""
    named = manifest.object
    if named is None or named.key != key:
        return None
    info = await store.head(key, version_id=named.version_id)
    return info if info is not None and may_stand(info, key, manifest) else None


# ------------------------------------------------------------ looked up


async def copies(store: ObjectStore, key: str, manifest: Manifest) -> AsyncIterator[ObjectInfo]:
    """What may be read as the archive that the manifest of ``key`` names, the likeliest first, the others newest first.

    The version that the manifest names, the current object, and then what a listing has of that size. The digests
    decide: who finds one refused takes the next.
    """
    named = manifest.object
    if named is None or named.key != key:
        return
    seen: set[tuple[str, str | None]] = set()

    async def look(version_id: str | None) -> ObjectInfo | None:
        info = await store.head(key, version_id=version_id)
        if info is None or not may_be_read(info, key, manifest):
            return None
        which = (info.etag, _version(info.version_id))
        if which in seen:
            return None
        seen.add(which)
        return info

    for version_id in dict.fromkeys((named.version_id, None)):
        info = await look(version_id)
        if info is not None:
            yield info
    for listed in await store.list_versions(key):
        if not listed.is_delete_marker and listed.size_bytes == named.size_bytes:
            info = await look(listed.version_id)
            if info is not None:
                yield info


async def stored_version(store: ObjectStore, key: str, manifest: Manifest) -> ObjectInfo | None:
    """The first of the ``copies``, which ETag and version pin for one read; ``None`` if there is none."""
    async for info in copies(store, key, manifest):
        return info
    return None


async def stored_archive(store: ObjectStore, key: str, manifest: Manifest | None) -> tuple[ObjectInfo | None, bool]:
    """The object at ``key``, and whether it is proven: the manifest names it by key, size, id and checksum.

    Proven is what a restore reads. That may be an older version, where another object is the current one. ``None``:
    there is nothing at the key.
    """
    current = await store.head(key)
    if current is None or manifest is None:
        return current, False
    proven = current if may_be_read(current, key, manifest) else await stored_version(store, key, manifest)
    return proven or current, proven is not None


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


async def find_archive(store: ObjectStore, key: str, archive_id: str | None) -> tuple[Manifest | None, ObjectInfo, str]:
    """What restore reads: manifest (``None`` for a foreign archive), object, archive id.

    A manifest beside the object decides whether it is ours, whatever became of the object's metadata.
    ``ArchiveNotFound``: no object, or no kept version of that id. ``ArchiveUnproven``: an object of ours that no
    manifest names. ``ArchiveCorrupt``: a manifest is there, but what is stored is something else.
    """
    is_foreign_id = archive_id is not None and archive_id.startswith(FOREIGN)
    if archive_id is not None and not is_foreign(key) and not is_foreign_id:
        return await find_kept(store, key, archive_id)
    info = await store.head(key)
    if info is None:
        raise StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{store.bucket} has no {key}")
    named = info.metadata.get(ARCHIVE_ID)
    manifest = None if is_foreign(key) else await _deciding_manifest(store, key, info)
    if manifest is None and named is not None:
        raise StorageError(ErrorCode.ARCHIVE_UNPROVEN, f"no manifest proves {key} ({named})")
    found_id = foreign_archive_id(info) if manifest is None else manifest.archive_id or ""
    if archive_id not in (None, found_id):
        raise StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{key} is {found_id}, not {archive_id}")
    if manifest is None:
        return None, info, found_id
    return manifest, await _stored(store, key, manifest, info), found_id


async def _deciding_manifest(store: ObjectStore, key: str, info: ObjectInfo) -> Manifest | None:
    """The manifest beside the object, unless it is a placeholder. If it cannot be read, only the object itself can
    show which archive it belongs to."""
    try:
        found = await read_manifest(store, key)
    except StorageError as error:
        if error.code != ErrorCode.ARCHIVE_CORRUPT or ARCHIVE_ID in info.metadata:
            raise
        raise StorageError(error.code, f"{manifest_key(key)}: {error.message}", hint=_whose(key)) from error
    return None if found is None or found[0].is_placeholder else found[0]


async def find_kept(store: ObjectStore, key: str, archive_id: str) -> tuple[Manifest, ObjectInfo, str]:
    """The manifest that names ``archive_id``: the current one, else the newest version of it that does."""
    async for manifest in _manifests(store, key):
        if manifest.archive_id == archive_id:
            return manifest, await _stored(store, key, manifest, await store.head(key)), archive_id
    raise StorageError(
        ErrorCode.ARCHIVE_NOT_FOUND,
        f"no version of {key} is archive {archive_id}",
        hint="Older archives exist only on a versioned bucket with `retention: keep`.",
    )


async def _manifests(store: ObjectStore, key: str) -> AsyncIterator[Manifest]:
    """The current manifest, by its key, then the versions that a listing shows, newest first."""
    current = await read_manifest(store, key)
    if current is not None:
        yield current[0]
    for version in await store.list_versions(manifest_key(key)):
        found = None if version.is_delete_marker else await read_manifest(store, key, version.version_id)
        if found is not None:
            yield found[0]


async def _stored(store: ObjectStore, key: str, manifest: Manifest, current: ObjectInfo | None) -> ObjectInfo:
    """The first copy of what the manifest names; raises why there is none. ``current``: the object at the key now."""
    info = await stored_version(store, key, manifest)
    if info is not None:
        return info
    if current is None:
        raise StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{store.bucket} no longer has {key} ({manifest.archive_id})")
    named = current.metadata.get(ARCHIVE_ID)
    if named is None:
        raise StorageError(
            ErrorCode.ARCHIVE_CORRUPT,
            f"{key} says no archive id, and is not {manifest.archive_id}, which its manifest names",
            hint=_whose(key),
        )
    if named != manifest.archive_id:
        raise StorageError(
            ErrorCode.ARCHIVE_UNPROVEN, f"{key} is {named}, but its manifest proves {manifest.archive_id}"
        )
    raise StorageError(ErrorCode.ARCHIVE_CORRUPT, f"{key} is not the object that its manifest proves")


def _whose(key: str) -> str:
    return (
        f"If {key} is a damaged copy of an archive of ours, copy it again. If it was made elsewhere, delete the object "
        f"{manifest_key(key)}: without it {key} is restored as an archive that was not made here."
    )


# ------------------------------------------------------------ what a record says


def check_same_bucket(record: Record, archive_id: str) -> None:
    """[C3] ``ArchiveNotFound`` where the record speaks of another archive than the one that was found.

    One of the two is of another time: the bucket was copied while it was in use, or put back in part.
    """
    volume, (named, epoch) = record.volume, record.named_archive
    if named in (None, archive_id) or (volume is not None and volume.state == VolumeState.READY):
        return
    # Of a restore that was cut off the caller may want another archive now; not so of one from before the copy.
    if (volume is None or volume.state == VolumeState.RESTORING) and epoch == record.owner.epoch:
        return
    if named.startswith(FOREIGN):
        return  # its id is of the bucket that it was in
    raise StorageError(
        ErrorCode.ARCHIVE_NOT_FOUND,
        f"the record of workspace {record.workspace_id} names archive {named}, but {archive_id} is stored",
        hint=f"Bring back {named}, or restore what is there: `codehub-storage restore "
        f"{archive_key(record.workspace_id)} --archive-id {archive_id}`.",
        details={"recorded": named, "stored": archive_id},
    )


async def refuse_missing(store: ObjectStore, record: Record, found: ArchiveState) -> None:
    """Raises the error for an archive that the record names and that is neither proven nor readable. Returns where
    there is no trace of any archive."""
    key = archive_key(record.workspace_id)
    recorded = record.volume.archive_id if record.volume else None
    if recorded is None:
        return
    sealed = record.volume
    is_archived = sealed is not None and sealed.fingerprint is not None and sealed.purged_by is None
    if found is ArchiveState.NOTHING and is_archived:
        raise StorageError(
            ErrorCode.ARCHIVE_NOT_FOUND,
            f"the volume became archive {recorded}, and nothing of {key} is stored; what is left is kept",
            hint="Bring the archive back, or purge the volume by its key.",
        )
    if found is ArchiveState.CORRUPT and await store.head(key) is None:
        raise StorageError(
            ErrorCode.ARCHIVE_NOT_FOUND,
            f"the volume became archive {recorded}, and {key} is gone; what is left is kept",
        )
    if found is ArchiveState.CORRUPT:
        raise StorageError(
            ErrorCode.ARCHIVE_CORRUPT,
            f"the volume became archive {recorded}, and {key} is not what its manifest says; what is left is kept",
        )
    if found is ArchiveState.ELSE:
        manifest = await read_manifest(store, key)
        if manifest is not None and manifest[0].archive_id is not None:
            check_same_bucket(record, manifest[0].archive_id)
        raise StorageError(
            ErrorCode.ARCHIVE_UNPROVEN, f"the volume became archive {recorded}, and no manifest proves {key}"
        )
