"""Activities on archive objects beside no volume: begin, complete, sync, prove again, prune, abort."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime

from temporalio import activity

from activities.control.services import Services
from activities.dataplane.archiver import ArchiverDied
from activities.dataplane.manifest import Manifest
from activities.dataplane.parts import parts_of
from activities.dataplane.segments import unpack_records
from activities.dataplane.verify import verify_archive
from activities.objectstore.base import ARCHIVE_ID, ObjectInfo, PreconditionFailed, UploadLost
from activities.runtime.failures import upload_lost
from activities.runtime.heartbeats import Progress, beating
from activities.runtime.linux.syscalls import sync_file_system
from activities.state.fence import FencedRecord
from activities.state.proof import copies, may_be_read, proven_object, read_manifest
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, manifest_key
from workflows.messages import AbortInput, ArchivedInput, CompleteInput, ProveInput, StepInput, StoredArchive, Upload

MAX_LISTINGS = 100
"""Maximum number of times a listing of uploads, which may be only a page, is requested again."""

PROOFS_AT_A_TIME = 2
"""A worker has much else to do while it reads whole archives back."""


class ArchiveObjectActivities:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store
        self._proofs = asyncio.Semaphore(PROOFS_AT_A_TIME)

    @activity.defn
    async def begin_archive(self, step: StepInput) -> Upload:
        """Abort every open upload of the key, see to a manifest that the proof can replace, begin an upload.

        Begun twice, the first upload is aborted by the second: its id is the fence against late parts.
        """
        key = archive_key(step.workspace_id)
        fenced = self._services.fenced(step.workspace_id)
        await self._abort_uploads(fenced, key)
        etag = await self._replaceable_manifest(fenced, key, step.workspace_id)
        archive_id = secrets.token_hex(16)
        await fenced.check()
        upload_id = await self._store.create_upload(
            key, {ARCHIVE_ID: archive_id, "workspace-id": step.workspace_id, "format-version": "1"}
        )
        return Upload(
            key=key,
            upload_id=upload_id,
            archive_id=archive_id,
            manifest_etag=etag,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    async def _abort_uploads(self, fenced: FencedRecord, key: str) -> None:
        """Every open upload of the key. More than one is open where the response to a creation was lost."""
        for _ in range(MAX_LISTINGS):  # a listing may be only a page
            uploads = await self._store.list_uploads(key)
            if not uploads:
                break
            for upload_id in uploads:
                await fenced.check()
                await self._store.abort_upload(key, upload_id)

    async def _replaceable_manifest(self, fenced: FencedRecord, key: str, workspace_id: str) -> str:
        """[H5] The ETag of what the proof will replace: an existing proof, else an empty manifest of this attempt.

        No copy of an empty one may be under way. It could arrive after a purge, and a late proof would then find what
        it replaces.
        """
        found = await read_manifest(self._store, key)
        if found is not None and not found[0].is_placeholder:
            return found[1].etag
        etag = found[1].etag if found is not None else None
        for _ in range(MAX_LISTINGS):
            await fenced.check()
            placeholder = Manifest(workspace_id=workspace_id, nonce=secrets.token_hex(16))
            written = await self._store.put_if(manifest_key(key), placeholder.to_json(), etag=etag)
            if not written.retried:
                return written.etag
            etag = written.etag
        raise StorageError(ErrorCode.STORE_UNAVAILABLE, f"the store answers no PUT of {manifest_key(key)} at once")

    @activity.defn
    async def complete_archive(self, step: CompleteInput) -> StoredArchive:
        """Make the object of the parts that the packed records make."""
        parts = parts_of(unpack_records(step.records))
        await self._services.fenced(step.workspace_id).check()
        upload = step.upload
        try:
            info = await self._store.complete_upload(upload.key, upload.upload_id, parts, archive_id=upload.archive_id)
        except UploadLost as lost:
            raise upload_lost(lost) from lost
        return _stored(info, upload.archive_id)

    @activity.defn
    async def sync_store(self, step: StepInput) -> None:
        """syncfs of the file system that holds the embedded store. ``StoreUnavailable`` if the kernel refuses."""
        if self._services.sync_dir is not None:
            await asyncio.to_thread(_sync_store, self._services.sync_dir)

    @activity.defn
    async def prove_again(self, step: ProveInput) -> None:
        """[C2] Read the archive back whole, then rewrite its manifest with ETag and version as now, If-Match on itself.

        Of several copies the first that the digests accept. ``ArchiveCorrupt``: they accept none. ``NotYours``: another
        archive, or another manifest, is there by now. Proven already: fine.
        """
        key = archive_key(step.workspace_id)
        fenced = self._services.fenced(step.workspace_id)
        await fenced.check()
        found = await read_manifest(self._store, key)
        if found is None or found[0].archive_id != step.archive_id:
            raise StorageError(ErrorCode.NOT_YOURS, f"the manifest of {key} no longer names {step.archive_id}")
        manifest, there = found
        if await proven_object(self._store, key, manifest) is not None:
            return
        progress = Progress()
        async with self._proofs, beating(progress):
            proven = await self._read_back(key, manifest, progress)
        await fenced.check()
        try:
            await self._store.put_if(manifest_key(key), manifest.pinned_to(proven).to_json(), etag=there.etag)
        except PreconditionFailed as error:
            raise StorageError(ErrorCode.NOT_YOURS, f"the manifest of {key} was replaced meanwhile") from error

    async def _read_back(self, key: str, manifest: Manifest, progress: Progress) -> ObjectInfo:
        """The copy that has every byte as the manifest describes it."""
        refused: StorageError | None = None
        async for info in copies(self._store, key, manifest):
            try:
                await verify_archive(self._store, info, manifest, progress=progress.moved)
            except PreconditionFailed:
                continue  # replaced while it was read: what is there now is another one
            except ArchiverDied as died:
                raise died.as_passing() from died
            except StorageError as error:
                if error.code != ErrorCode.ARCHIVE_CORRUPT:
                    raise
                refused = error
            else:
                return info
        raise refused or StorageError(ErrorCode.NOT_YOURS, f"{key} was replaced while it was read back")

    @activity.defn
    async def prune_archive(self, step: ArchivedInput) -> None:
        """Delete versions older than the one that the manifest names, and manifests older than it; listed again first.

        A newer version stays, whichever process wrote it. So does what may be another copy of that archive. Nothing
        happens with `retention: keep`, without versioning, or where the listing lacks what is proven.
        """
        key = archive_key(step.workspace_id)
        found = await read_manifest(self._store, key)
        if self._services.retention_keep or found is None or found[0].archive_id != step.archive_id:
            return
        manifest, there = found
        proven = manifest.object
        if proven is None or not await self._store.is_versioned():
            return
        objects = _older(await self._store.list_versions(key), proven.version_id)
        manifests = _older(await self._store.list_versions(manifest_key(key)), there.version_id)
        if objects is None or manifests is None:
            return
        fenced = self._services.fenced(step.workspace_id)
        for version in [*objects, *manifests]:
            if version.key == key and await self._is_copy(version, manifest):
                continue
            await fenced.check()
            await self._services.delete(version.key, version)

    async def _is_copy(self, version: ObjectInfo, manifest: Manifest) -> bool:
        """Whether a listed version may be the archive of ``manifest`` as well."""
        if version.is_delete_marker or manifest.object is None or version.size_bytes != manifest.object.size_bytes:
            return False
        info = await self._store.head(version.key, version_id=version.version_id)
        return info is not None and may_be_read(info, version.key, manifest)

    @activity.defn
    async def abort_archive(self, step: AbortInput) -> None:
        """Forget the upload, and those whose creation got no response. A version that failed its verification is
        deleted, alone, where older ones remain."""
        fenced = self._services.fenced(step.workspace_id)
        if step.upload_id is not None:
            await fenced.check()
            await self._store.abort_upload(step.key, step.upload_id)
        await self._abort_uploads(fenced, step.key)
        corrupt = step.corrupt
        if corrupt is not None and corrupt.version_id is not None and await self._store.is_versioned():
            await fenced.check()
            await self._store.delete(step.key, version_id=corrupt.version_id)


def _older(versions: list[ObjectInfo], version_id: str | None) -> list[ObjectInfo] | None:
    """What is older than that version; ``None`` if it is not among them."""
    for place, version in enumerate(versions):
        if version.version_id == version_id and not version.is_delete_marker:
            return versions[place + 1 :]
    return None


def _stored(info: ObjectInfo, archive_id: str) -> StoredArchive:
    return StoredArchive(
        key=info.key,
        archive_id=archive_id,
        size_bytes=info.size_bytes,
        etag=info.etag,
        version_id=info.version_id,
        crc64=info.crc64.hex() if info.crc64 else "",
    )


def _sync_store(path: str) -> None:
    try:
        sync_file_system(path)
    except OSError as error:
        raise StorageError(
            ErrorCode.STORE_UNAVAILABLE, f"the embedded store in {path} cannot be synced: {error.strerror}"
        ) from error
