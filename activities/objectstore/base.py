"""What an object store can do for us: the one Protocol between the service and any S3-compatible server.

Every method may be called twice. Vendor exceptions are translated here and nowhere else: an implementation raises
``StorageError`` (``StoreUnavailable``, ``AccessDenied``, ``WrongStore`` for a missing bucket, ``ArchiveLocked``,
``NoSpace``) and the two signals below. *Not found* is a result (``None``, an empty list), *unreachable* is an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

ARCHIVE_ID = "archive-id"
"""The metadata of an archive object that holds its id: by it a lost response to `complete` is settled."""


UNVERSIONED = "null"
"""What servers call the version of an object that was written while the bucket kept none."""


class PreconditionFailed(Exception):
    """The object is not in the state that the caller expected; nothing was written."""


class UploadLost(Exception):
    """The store does not know this upload, or refuses its parts (a crash of the store): begin a new one."""


Buffers = Sequence[bytes | bytearray]
"""One body in pieces, in order."""


@dataclass(frozen=True)
class ObjectInfo:
    """One stored version of one object. ``etag`` is bare, without quotes.

    ``retried``, of what was just written: another try of the same request was sent, and may arrive late.
    """

    key: str
    size_bytes: int
    etag: str
    version_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    crc64: bytes | None = None
    modified_at: float = 0.0
    is_current: bool = True
    is_delete_marker: bool = False
    retried: bool = False


@dataclass(frozen=True)
class UploadedPart:
    """A part that the store accepted. ``crc64`` is its CRC-64/NVME, 8 bytes big endian, as we computed it."""

    number: int
    size_bytes: int
    etag: str
    crc64: bytes


@dataclass(frozen=True)
class Capabilities:
    """What this server does beyond the least that we demand, as `init` probed it."""

    conditional_delete: bool = False
    full_object_crc: bool = True


class ObjectStore(Protocol):
    """A bucket. Conditional PUT (If-Match, If-None-Match) must be atomic: `init` refuses a store without it."""

    bucket: str

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo | None:
        """The current (or the given) version; ``None`` if it does not exist."""
        ...

    async def get(self, key: str, *, version_id: str | None = None) -> tuple[bytes, ObjectInfo] | None:
        """A small object, whole and with its length checked; ``None`` if it does not exist."""
        ...

    async def put_if(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo:
        """Write a small object if it still has ``etag`` (``None``: if it does not exist).

        A lost response is settled by reading the object: bytes equal to ``data`` mean that it was ours. Raises
        ``PreconditionFailed``.
        """
        ...

    def read(
        self, key: str, *, offset: int = 0, length: int | None = None, etag: str, version_id: str | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of a range, resumed at the offset after a broken connection, never short: every byte or an error.

        Raises ``PreconditionFailed`` if the object is no longer the one with ``etag``.
        """
        ...

    async def delete(self, key: str, *, version_id: str | None = None, etag: str | None = None) -> None:
        """Delete one version (of a versioned bucket), or the object if it still has ``etag``. Missing is fine.

        The condition on ``etag`` holds only where ``Capabilities.conditional_delete``.
        """
        ...

    async def list_versions(self, key: str) -> list[ObjectInfo]:
        """All versions and delete markers of exactly ``key``, newest first; on an unversioned bucket one or none."""
        ...

    async def list_keys(self, prefix: str) -> list[str]:
        """The current keys below ``prefix``."""
        ...

    async def is_versioned(self) -> bool:
        """True if the bucket keeps old versions (versioning enabled; suspended counts as not)."""
        ...

    async def create_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begin a multipart upload with a declared CRC-64/NVME over the whole object; returns its id."""
        ...

    async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
        """Send one part, its checksum declared. ``data`` is sent in order. Raises ``UploadLost``."""
        ...

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart] | None:
        """What the store holds of an upload (``crc64`` empty where it reports none); ``None`` if unknown.

        A part that was sent twice may be listed twice.
        """
        ...

    async def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], *, archive_id: str
    ) -> ObjectInfo:
        """Make the object of the parts. Raises ``UploadLost``.

        200 without an ETag is no success. A lost response is settled by HEAD: the upload was completed if the current
        object has ``archive_id`` in its metadata and the size of the parts.
        """
        ...

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Forget an upload and its parts. Missing is fine."""
        ...

    async def list_uploads(self, key: str) -> list[str]:
        """Open uploads of exactly ``key`` (by exact key: some stores return nothing for a mere prefix).

        Perhaps only a page of them, empty only if there are none: abort these and list again.
        """
        ...
