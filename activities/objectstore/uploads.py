"""Multipart uploads: how archives are written, and how a lost response to the last step is settled.

Every part carries its CRC-64/NVME, and the whole object's, combined from them, is declared at the start and sent at the
end: most servers check it only where it was declared. Stores without it get Content-MD5 and a check of the size.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from awscrt.checksums import combine_crc64nvme, crc64nvme

from activities.objectstore.base import ARCHIVE_ID, Buffers, ObjectInfo, ObjectStore, UploadedPart, UploadLost
from activities.objectstore.body import PartBody
from activities.objectstore.client import Connection
from activities.objectstore.errors import BAD_PARTS, NO_UPLOAD, store_code, unanswered
from activities.objectstore.reading import bare
from codehub_storage.errors import ErrorCode, StorageError

ABORT_ROUNDS = 100
_DECLARED = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}


async def create_upload(connection: Connection, key: str, metadata: Mapping[str, str]) -> str:
    """See ``ObjectStore.create_upload``. A lost response leaves an empty upload; the next abort of the key ends it."""
    declared: dict[str, Any] = _DECLARED if connection.capabilities.full_object_crc else {}
    answer = await connection.call("create_multipart_upload", key=key, Metadata=dict(metadata), **declared)
    if not answer.get("UploadId"):
        raise unanswered("create_multipart_upload", key, "an answer without upload id")
    return str(answer["UploadId"])


async def upload_part(connection: Connection, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
    """See ``ObjectStore.upload_part``."""
    size = sum(len(each) for each in data)
    crc64 = checksum(data)
    try:
        answer = await connection.call(
            "upload_part",
            key=key,
            timeout=connection.settings.upload_timeout(size),
            UploadId=upload_id,
            PartNumber=number,
            Body=PartBody(data),
            ContentLength=size,
            **await _part_checksum(connection, data, crc64),
        )
    except StorageError as error:
        if store_code(error) in NO_UPLOAD:
            raise UploadLost(f"{key!r}: the store does not know the upload") from error
        raise
    if not answer.get("ETag"):
        raise unanswered("upload_part", key, f"an answer without ETag for part {number}")
    if answer.get("ChecksumCRC64NVME", _base64(crc64)) != _base64(crc64):
        raise unanswered("upload_part", key, f"the store has other bytes of part {number}")
    return UploadedPart(number=number, size_bytes=size, etag=bare(answer["ETag"]), crc64=crc64)


async def _part_checksum(connection: Connection, data: Buffers, crc64: bytes) -> dict[str, Any]:
    if connection.capabilities.full_object_crc:
        return {"ChecksumCRC64NVME": _base64(crc64)}
    return {"ContentMD5": await asyncio.to_thread(content_md5, data)}


async def list_parts(connection: Connection, key: str, upload_id: str) -> list[UploadedPart] | None:
    """See ``ObjectStore.list_parts``."""
    parts: list[UploadedPart] = []
    markers = {"NextPartNumberMarker": "PartNumberMarker"}
    try:
        async for page in connection.pages("list_parts", markers, key=key, UploadId=upload_id):
            parts.extend(_listed(part) for part in page.get("Parts", ()))
    except StorageError as error:
        if store_code(error) in NO_UPLOAD:
            return None
        raise
    return parts


def _listed(part: Mapping[str, Any]) -> UploadedPart:
    return UploadedPart(
        number=int(part["PartNumber"]),
        size_bytes=int(part["Size"]),
        etag=bare(part["ETag"]),
        crc64=base64.b64decode(part.get("ChecksumCRC64NVME", "")),
    )


async def complete_upload(
    connection: Connection, key: str, upload_id: str, parts: Sequence[UploadedPart]
) -> str | None:
    """Complete the upload; returns the version that the response names. After a ``StorageError`` the caller checks what
    is there.

    A response without ETag is an error, although the library calls an empty 200 a success.
    """
    ordered = sorted(parts, key=lambda part: part.number)
    declared = connection.capabilities.full_object_crc
    answer = await connection.call(
        "complete_multipart_upload",
        key=key,
        timeout=connection.settings.complete_timeout,
        UploadId=upload_id,
        MultipartUpload={"Parts": [_completed(part, declared) for part in ordered]},
        **({"ChecksumCRC64NVME": _base64(combined(ordered)), "ChecksumType": "FULL_OBJECT"} if declared else {}),
    )
    if not answer.get("ETag"):
        raise unanswered("complete_multipart_upload", key, "an answer without ETag")
    version_id = answer.get("VersionId")
    return None if version_id is None else str(version_id)


def _completed(part: UploadedPart, declared: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"PartNumber": part.number, "ETag": quoted_etag(part)}
    return {**entry, "ChecksumCRC64NVME": _base64(part.crc64)} if declared else entry


def quoted_etag(part: UploadedPart) -> str:
    """The ETag of a part as the list for completion wants it."""
    return f'"{part.etag}"'


def is_made_of(info: ObjectInfo | None, parts: Sequence[UploadedPart], archive_id: str) -> bool:
    """True if ``info`` is the object that completing ``parts`` makes: our archive id, and their size."""
    size = sum(part.size_bytes for part in parts)
    return info is not None and info.metadata.get(ARCHIVE_ID) == archive_id and info.size_bytes == size


def means_lost(error: StorageError) -> bool:
    """True if completing met an upload that the store does not know, or whose parts it refuses."""
    return store_code(error) in NO_UPLOAD | BAD_PARTS


async def abort_upload(connection: Connection, key: str, upload_id: str) -> None:
    """See ``ObjectStore.abort_upload``."""
    try:
        await connection.call("abort_multipart_upload", key=key, UploadId=upload_id)
    except StorageError as error:
        if store_code(error) not in NO_UPLOAD:
            raise


async def list_uploads(connection: Connection, key: str) -> list[str]:
    """A page of the open uploads of exactly ``key``; empty only if there are none.

    Servers page this listing oddly (no marker, an empty one, markers that skip), so it is not followed beyond the
    first uploads found: abort them and list again, as ``abort_uploads`` does.
    """
    markers = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}
    async for page in connection.pages("list_multipart_uploads", markers, Prefix=key):
        found = [str(each["UploadId"]) for each in page.get("Uploads", ()) if each["Key"] == key]
        if found:
            return found
    return []


async def abort_uploads(store: ObjectStore, key: str) -> int:
    """Aborts every open upload of exactly ``key``, page by page, until a listing is empty; how many those were.

    ``StoreUnavailable`` if the listing does not become empty.
    """
    aborted: set[str] = set()
    for _ in range(ABORT_ROUNDS):
        uploads = await store.list_uploads(key)
        if not uploads:
            return len(aborted)
        for upload_id in uploads:
            await store.abort_upload(key, upload_id)
        aborted.update(uploads)
    raise StorageError(ErrorCode.STORE_UNAVAILABLE, f"the store keeps listing aborted uploads of {key!r}")


def checksum(data: Buffers) -> bytes:
    """The CRC-64/NVME of buffers in a row, 8 bytes big endian."""
    value = 0
    for each in data:
        value = crc64nvme(each, value)
    return int(value).to_bytes(8, "big")


def combined(parts: Sequence[UploadedPart]) -> bytes:
    """The CRC-64/NVME of the object that ``parts`` make, in the order given, without reading a byte again."""
    value = 0
    for part in parts:
        value = combine_crc64nvme(value, int.from_bytes(part.crc64, "big"), part.size_bytes)
    return int(value).to_bytes(8, "big")


def content_md5(data: Buffers) -> str:
    """The header that every store checks."""
    digest = hashlib.md5(usedforsecurity=False)
    for each in data:
        digest.update(each)
    return _base64(digest.digest())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
