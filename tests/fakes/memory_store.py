"""An object store in memory that keeps the Protocol's promises, for tests of what stands above it.

It checks what a strict server checks: part sizes, part numbers, ETags, checksums at complete. Nothing is hostile here;
wrap it for that.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from awscrt import checksums

from activities.objectstore.base import ARCHIVE_ID, Buffers, ObjectInfo, PreconditionFailed, UploadedPart, UploadLost
from codehub_storage.errors import ErrorCode, StorageError

_READ_BYTES = 100_003
"""A strange size on purpose: whoever reads must not rely on where pieces end."""


@dataclass
class _Upload:
    key: str
    metadata: dict[str, str]
    parts: dict[tuple[int, str], tuple[UploadedPart, bytes]] = field(default_factory=dict)


class MemoryStore:
    """``min_part_bytes``: what complete demands of every part but the last. ``sent``: bytes of accepted parts."""

    def __init__(self, bucket: str = "codehub-archives", *, min_part_bytes: int = 5 << 20, versioned: bool = False):
        self.bucket = bucket
        self.min_part_bytes = min_part_bytes
        self.versioned = versioned
        self.sent_bytes = 0
        self._versions: dict[str, list[tuple[ObjectInfo, bytes]]] = {}
        self._uploads: dict[str, _Upload] = {}
        self._ids = itertools.count(1)

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo | None:
        found = self._find(key, version_id)
        return found and found[0]

    async def get(self, key: str, *, version_id: str | None = None) -> tuple[bytes, ObjectInfo] | None:
        found = self._find(key, version_id)
        return found and (found[1], found[0])

    async def put_if(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo:
        found = self._find(key, None)
        if (found and found[0].etag) != etag:
            if found and found[1] == data:  # ours, whose answer was lost
                return found[0]
            raise PreconditionFailed(key)
        return self._store(key, data, hashlib.md5(data).hexdigest(), {})

    async def read(
        self, key: str, *, offset: int = 0, length: int | None = None, etag: str, version_id: str | None = None
    ) -> AsyncIterator[bytes]:
        found = self._find(key, version_id)
        if found is None or found[0].etag != etag:
            raise PreconditionFailed(key)
        end = len(found[1]) if length is None else offset + length
        if end > len(found[1]):
            raise StorageError(ErrorCode.ARCHIVE_CORRUPT, f"{key} is shorter than {end} bytes")
        for at in range(offset, end, _READ_BYTES):
            yield found[1][at : min(at + _READ_BYTES, end)]

    async def delete(self, key: str, *, version_id: str | None = None, etag: str | None = None) -> None:
        versions = self._versions.get(key, [])
        if etag is not None and version_id is None and versions and versions[0][0].etag != etag:
            raise PreconditionFailed(key)
        if version_id is None and self.versioned and versions:
            marker = ObjectInfo(key, 0, "", version_id=f"v{next(self._ids)}", is_delete_marker=True)
            versions.insert(0, (marker, b""))
            return
        kept = [found for found in versions if version_id is not None and found[0].version_id != version_id]
        self._versions[key] = kept

    async def list_versions(self, key: str) -> list[ObjectInfo]:
        return [replace(info, is_current=not at) for at, (info, _) in enumerate(self._versions.get(key, []))]

    async def list_keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self._versions if key.startswith(prefix) and self._find(key, None))

    async def is_versioned(self) -> bool:
        return self.versioned

    async def create_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        upload_id = f"upload-{next(self._ids)}"
        self._uploads[upload_id] = _Upload(key, dict(metadata))
        return upload_id

    async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
        upload = self._upload(key, upload_id)
        if not 1 <= number <= 10_000:
            raise ValueError(f"part number {number}")
        body = b"".join(data)
        part = UploadedPart(number, len(body), hashlib.md5(body).hexdigest(), _crc64(body))
        upload.parts[number, part.etag] = (part, body)
        self.sent_bytes += len(body)
        return part

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart] | None:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            return None
        return [replace(part, crc64=b"") for part, _ in upload.parts.values()]

    async def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], *, archive_id: str
    ) -> ObjectInfo:
        found = self._find(key, None)
        if upload_id not in self._uploads and found and found[0].metadata.get(ARCHIVE_ID) == archive_id:
            return found[0]  # ours, whose answer was lost
        upload = self._upload(key, upload_id)
        if [part.number for part in parts] != list(range(1, len(parts) + 1)) or not parts:
            raise ValueError("part numbers must be consecutive from 1")
        bodies = []
        for part in parts:
            stored = upload.parts.get((part.number, part.etag))
            if stored is None:
                raise UploadLost(f"part {part.number}")
            if stored[0] != part:
                raise ValueError(f"part {part.number} is stated otherwise than it was accepted")
            bodies.append(stored[1])
        for body in bodies[:-1]:
            if len(body) < self.min_part_bytes:
                raise ValueError("EntityTooSmall")
        del self._uploads[upload_id]
        tags = b"".join(bytes.fromhex(part.etag) for part in parts)
        return self._store(key, b"".join(bodies), f"{hashlib.md5(tags).hexdigest()}-{len(parts)}", upload.metadata)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        self._uploads.pop(upload_id, None)

    async def list_uploads(self, key: str) -> list[str]:
        return [upload_id for upload_id, upload in self._uploads.items() if upload.key == key]

    def corrupt(self, key: str, offset: int, *, flip: int = 1) -> None:
        """Flip bits of one stored byte; nothing else of the object changes."""
        info, data = self._versions[key][0]
        self._versions[key][0] = (info, data[:offset] + bytes([data[offset] ^ flip]) + data[offset + 1 :])

    def replace_bytes(self, key: str, data: bytes) -> ObjectInfo:
        """Store other bytes under the same metadata, as whoever has write access could."""
        return self._store(key, data, hashlib.md5(data).hexdigest(), dict(self._versions[key][0][0].metadata))

    def place(self, key: str, data: bytes, *, etag: str, metadata: Mapping[str, str]) -> ObjectInfo:
        """An object that was there before, with the ETag that it has."""
        return self._store(key, data, etag, metadata)

    def _find(self, key: str, version_id: str | None) -> tuple[ObjectInfo, bytes] | None:
        for info, data in self._versions.get(key, []):
            if version_id in (None, info.version_id):
                return None if info.is_delete_marker else (info, data)
        return None

    def _store(self, key: str, data: bytes, etag: str, metadata: Mapping[str, str]) -> ObjectInfo:
        version = f"v{next(self._ids)}" if self.versioned else None
        info = ObjectInfo(key, len(data), etag, version, dict(metadata), _crc64(data), time.time())
        older = self._versions.get(key, []) if self.versioned else []
        self._versions[key] = [(info, data), *older]
        return info

    def _upload(self, key: str, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadLost(upload_id)
        return upload


def _crc64(data: bytes) -> bytes:
    return int(checksums.crc64nvme(data)).to_bytes(8, "big")
