"""The object store over any S3-compatible server. Reading, uploads and errors have modules of their own.

After every write whose response was lost, or was no real success, the store is asked what it has. A write that happened
is never reported as failed, and one that did not is never reported as done.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from activities.objectstore import reading, uploads
from activities.objectstore.base import (
    UNVERSIONED,
    Buffers,
    Capabilities,
    ObjectInfo,
    PreconditionFailed,
    UploadedPart,
    UploadLost,
)
from activities.objectstore.client import Connection, S3Settings, connect
from activities.objectstore.errors import ABSENT, CONFLICT, store_code, unanswered
from codehub_storage.errors import ErrorCode, StorageError


class S3Store:
    """An ``ObjectStore``. ``Capabilities.full_object_crc`` decides whether uploads declare their checksum."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.bucket = connection.bucket

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo | None:
        """See the Protocol."""
        return await reading.head(self.connection, key, version_id)

    async def get(self, key: str, *, version_id: str | None = None) -> tuple[bytes, ObjectInfo] | None:
        """See the Protocol."""
        return await reading.get_whole(self.connection, key, version_id)

    async def put_if(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo:
        """See the Protocol."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": reading.quoted(etag)}
        if not self.connection.capabilities.full_object_crc:
            condition["ContentMD5"] = uploads.content_md5([data])
        try:
            answer = await self.connection.call(
                "put_object",
                key=key,
                timeout=self.connection.settings.upload_timeout(len(data)),
                Body=io.BytesIO(data),
                **condition,
            )
        except StorageError as error:
            if error.transient or store_code(error) in CONFLICT | ABSENT:
                return await self._settle_put(key, data, etag, error)
            raise
        if not answer.get("ETag"):
            return await self._settle_put(key, data, etag, unanswered("put_object", key, "an answer without ETag"))
        return ObjectInfo(
            key=key,
            size_bytes=len(data),
            etag=reading.bare(answer["ETag"]),
            version_id=answer.get("VersionId"),
            retried=answer["ResponseMetadata"].get("RetryAttempts", 0) > 0,
        )

    async def _settle_put(self, key: str, data: bytes, etag: str | None, error: StorageError) -> ObjectInfo:
        """Reads what is there. A refusal, too, may be the response to a replay of a write of ours that succeeded."""
        found = await self.get(key)
        if found is not None and found[0] == data:
            return replace(found[1], retried=True)
        unchanged = (found[1].etag if found else None) == etag
        if error.transient and unchanged:
            raise error
        raise PreconditionFailed(f"{key!r} is not in the state that was expected") from error

    def read(
        self, key: str, *, offset: int = 0, length: int | None = None, etag: str, version_id: str | None = None
    ) -> AsyncIterator[bytes]:
        """See the Protocol."""
        return reading.read_range(self.connection, key, offset=offset, length=length, etag=etag, version_id=version_id)

    async def delete(self, key: str, *, version_id: str | None = None, etag: str | None = None) -> None:
        """See the Protocol. The condition is sent only where no version is named: a version never changes."""
        conditional = etag is not None and version_id is None
        condition = {"IfMatch": reading.quoted(etag or "")} if conditional else reading.version(version_id)
        try:
            await self.connection.call("delete_object", key=key, **condition)
        except StorageError as error:
            if store_code(error) in ABSENT:
                return await self.connection.check_bucket()
            if store_code(error) in CONFLICT:
                # Also the response for a missing object, and to a replay of a deletion that happened.
                if await self.head(key) is None:
                    return
                raise PreconditionFailed(f"{key!r} is not the object that was to be deleted") from error
            if await self._is_locked(key, version_id, error):
                raise StorageError(ErrorCode.ARCHIVE_LOCKED, f"a version of {key!r} is locked") from error
            raise

    async def _is_locked(self, key: str, version_id: str | None, error: StorageError) -> bool:
        """True if retention or a legal hold explains a refusal, which reads like one for want of rights."""
        if version_id is None or store_code(error) not in ("AccessDenied", "InvalidRequest", "ObjectLocked"):
            return False
        held = await self._lock_answer("get_object_legal_hold", key, version_id)
        if held.get("LegalHold", {}).get("Status") == "ON":
            return True
        kept = await self._lock_answer("get_object_retention", key, version_id)
        until = kept.get("Retention", {}).get("RetainUntilDate")
        return until is not None and until > datetime.now(UTC)

    async def _lock_answer(self, operation: str, key: str, version_id: str) -> Mapping[str, Any]:
        try:
            return await self.connection.call(operation, key=key, VersionId=version_id)
        except StorageError as error:
            if error.transient:
                raise
            return {}

    async def list_versions(self, key: str) -> list[ObjectInfo]:
        """See the Protocol."""
        markers = {"NextKeyMarker": "KeyMarker", "NextVersionIdMarker": "VersionIdMarker"}
        found: list[ObjectInfo] = []
        async for page in self.connection.pages("list_object_versions", markers, Prefix=key):
            found += [_listed(each, False) for each in page.get("Versions", ()) if each["Key"] == key]
            found += [_listed(each, True) for each in page.get("DeleteMarkers", ()) if each["Key"] == key]
        if len(found) == 1 and found[0].version_id == UNVERSIONED and not await self._has_versions():
            # HEAD, not the listing, has the ETag that If-Match means: SeaweedFS lists another one for parts.
            current = await self.head(key)
            return [] if current is None else [current]
        return sorted(found, key=lambda each: (not each.is_current, -each.modified_at))

    async def list_keys(self, prefix: str) -> list[str]:
        """See the Protocol."""
        markers = {"NextContinuationToken": "ContinuationToken"}
        pages = self.connection.pages("list_objects_v2", markers, Prefix=prefix)
        return [str(each["Key"]) async for page in pages for each in page.get("Contents", ())]

    async def is_versioned(self) -> bool:
        """See the Protocol."""
        return await self._versioning() == "Enabled"

    async def _has_versions(self) -> bool:
        """True for a bucket that keeps versions or once did."""
        return await self._versioning() != ""

    async def _versioning(self) -> str:
        return str((await self.connection.call("get_bucket_versioning")).get("Status", ""))

    async def create_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """See the Protocol. ``Unsupported`` where the store refuses the declared checksum."""
        return await uploads.create_upload(self.connection, key, metadata)

    async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
        """See the Protocol."""
        return await uploads.upload_part(self.connection, key, upload_id, number, data)

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart] | None:
        """See the Protocol."""
        return await uploads.list_parts(self.connection, key, upload_id)

    async def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], *, archive_id: str
    ) -> ObjectInfo:
        """See the Protocol. Whatever the response was, the object is looked up afterwards."""
        try:
            version_id = await uploads.complete_upload(self.connection, key, upload_id, parts)
        except StorageError as error:
            lost = uploads.means_lost(error)
            if not lost and not error.transient:
                raise
            found = await self.head(key)
            if found is not None and uploads.is_made_of(found, parts, archive_id):
                return found
            if lost:
                raise UploadLost(f"{key!r}: the store has neither the upload nor its object") from error
            raise
        found = await self.head(key, version_id=version_id)
        if found is None or not uploads.is_made_of(found, parts, archive_id):
            raise UploadLost(f"{key!r}: the store called the upload complete, and its object is not there")
        return found

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """See the Protocol."""
        await uploads.abort_upload(self.connection, key, upload_id)

    async def list_uploads(self, key: str) -> list[str]:
        """See the Protocol; perhaps only a page of them, see ``uploads.list_uploads``."""
        return await uploads.list_uploads(self.connection, key)


@asynccontextmanager
async def open_store(settings: S3Settings, capabilities: Capabilities | None = None) -> AsyncIterator[S3Store]:
    """A store to work with. ``capabilities`` are those of ``identity.load_identity``; without them, as `init` needs it,
    the store is taken to have all that the defaults promise."""
    async with connect(settings, capabilities or Capabilities()) as connection:
        yield S3Store(connection)


def _listed(entry: Mapping[str, Any], is_delete_marker: bool) -> ObjectInfo:
    return ObjectInfo(
        key=str(entry["Key"]),
        size_bytes=int(entry.get("Size", 0)),
        etag=reading.bare(entry.get("ETag", "")),
        version_id=entry.get("VersionId"),
        modified_at=entry["LastModified"].timestamp(),
        is_current=bool(entry.get("IsLatest", False)),
        is_delete_marker=is_delete_marker,
    )
