"""Reading objects: every byte that was asked for, or an error; a broken connection is resumed at the offset.

The client library neither retries a body nor notices one that ends early without an announced length.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from activities.objectstore.base import ObjectInfo, PreconditionFailed
from activities.objectstore.client import Connection
from activities.objectstore.errors import ABSENT, CONFLICT, NO_SUCH_ID, store_code, translating, unanswered
from codehub_storage.errors import ErrorCode, StorageError

FRUITLESS_ATTEMPTS = 3
"""How many attempts in a row may bring not one byte before the read fails."""

_CHUNK_BYTES = 256 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def bare(etag: str) -> str:
    """An ETag without its quotes."""
    return etag.strip('"')


def quoted(etag: str) -> str:
    """An ETag as a condition wants it."""
    return f'"{etag}"'


def info_of(key: str, answer: Mapping[str, Any]) -> ObjectInfo:
    """The object that a response to HEAD or GET describes."""
    crc64 = answer.get("ChecksumCRC64NVME")
    return ObjectInfo(
        key=key,
        size_bytes=int(answer["ContentLength"]),
        etag=bare(answer["ETag"]),
        version_id=answer.get("VersionId"),
        metadata=dict(answer.get("Metadata", {})),
        crc64=base64.b64decode(crc64) if crc64 else None,
        modified_at=answer["LastModified"].timestamp() if "LastModified" in answer else 0.0,
    )


def version(version_id: str | None) -> dict[str, Any]:
    """The parameter that names a version, if one is named."""
    return {} if version_id is None else {"VersionId": version_id}


async def is_absent(connection: Connection, key: str, version_id: str | None, error: StorageError) -> bool:
    """Whether ``error`` means that there is no such object, or no such version of it, in a bucket that exists."""
    code = store_code(error)
    if code == "NoSuchBucket" and error.code != ErrorCode.WRONG_STORE:
        # SeaweedFS answers so to a GET of a key whose newest version is a delete marker, and often while it starts.
        return await head(connection, key, version_id) is None
    if code not in ABSENT and not (version_id is not None and code in NO_SUCH_ID):
        return False
    await connection.check_bucket()
    return True


async def head(connection: Connection, key: str, version_id: str | None) -> ObjectInfo | None:
    """See ``ObjectStore.head``."""
    try:
        answer = await connection.call("head_object", key=key, ChecksumMode="ENABLED", **version(version_id))
    except StorageError as error:
        # A delete marker that is asked for by its version id is not found, but "not allowed".
        is_marker = version_id is not None and store_code(error) in ("405", "MethodNotAllowed")
        asked = store_code(error) in ABSENT | NO_SUCH_ID
        if is_marker or (asked and await is_absent(connection, key, version_id, error)):
            return None
        raise
    if "ETag" not in answer or "ContentLength" not in answer:
        raise unanswered("head_object", key, "an answer without length or ETag")
    return info_of(key, answer)


async def get_whole(connection: Connection, key: str, version_id: str | None) -> tuple[bytes, ObjectInfo] | None:
    """A small object in one piece, its announced length checked; ``None`` if it does not exist."""
    for attempt in range(FRUITLESS_ATTEMPTS):
        try:
            return await _get_once(connection, key, version_id)
        except StorageError as error:
            if await is_absent(connection, key, version_id, error):
                return None
            again = error.transient or error.code == ErrorCode.ARCHIVE_CORRUPT
            if not again or attempt == FRUITLESS_ATTEMPTS - 1:
                raise
    raise AssertionError("not reached")


async def _get_once(connection: Connection, key: str, version_id: str | None) -> tuple[bytes, ObjectInfo]:
    answer = await connection.call("get_object", key=key, **version(version_id))
    try:
        if "ContentLength" not in answer or "ETag" not in answer:
            raise unanswered("get_object", key, "an answer without length or ETag")
        with translating("get_object", connection.bucket, key):
            data: bytes = await answer["Body"].read()
    finally:
        answer["Body"].close()
    if len(data) != answer["ContentLength"]:
        raise unanswered("get_object", key, f"{len(data)} bytes instead of {answer['ContentLength']}")
    return data, info_of(key, answer)


async def read_range(
    connection: Connection, key: str, *, offset: int, length: int | None, etag: str, version_id: str | None
) -> AsyncIterator[bytes]:
    """See ``ObjectStore.read``."""
    reader = _Reader(connection, key, offset, None if length is None else offset + length, etag, version_id)
    fruitless = 0
    while not reader.is_done():
        before = reader.position
        try:
            async for chunk in reader.attempt():
                yield chunk
        except StorageError as error:
            fruitless = fruitless + 1 if reader.position == before else 1
            if not error.transient or fruitless >= FRUITLESS_ATTEMPTS:
                raise
            await asyncio.sleep(connection.settings.connect_timeout.total_seconds() * fruitless / 25)


class _Reader:
    """The state of one read: how far it came, and where it ends once that is known."""

    def __init__(
        self, connection: Connection, key: str, position: int, end: int | None, etag: str, version_id: str | None
    ) -> None:
        self._connection = connection
        self._key = key
        self.position = position
        self._end = end
        self._etag = etag
        self._version_id = version_id

    def is_done(self) -> bool:
        """True once every byte was handed out."""
        return self._end is not None and self.position >= self._end

    async def attempt(self) -> AsyncIterator[bytes]:
        """One request and its body, from the present position on."""
        answer = await self._request()
        body = answer["Body"]
        try:
            stop = self._check(answer)
            while self.position < stop:
                with translating("get_object", self._connection.bucket, self._key):
                    chunk: bytes = await body.read(_CHUNK_BYTES)
                if not chunk or self.position + len(chunk) > stop:
                    raise unanswered("get_object", self._key, f"the body does not end at byte {stop}")
                self.position += len(chunk)
                yield chunk
        finally:
            # An unread body would keep its connection from the pool for ever.
            body.close()

    async def _request(self) -> dict[str, Any]:
        last = "" if self._end is None else str(self._end - 1)
        # No range for a whole object: an empty one has no range that could be asked for.
        span: dict[str, Any] = {} if self._is_whole() else {"Range": f"bytes={self.position}-{last}"}
        try:
            return await self._connection.call(
                "get_object", key=self._key, IfMatch=quoted(self._etag), **version(self._version_id), **span
            )
        except StorageError as error:
            if store_code(error) in CONFLICT:
                await self._connection.check_bucket()  # SeaweedFS checks the condition first
            elif not await is_absent(self._connection, self._key, self._version_id, error):
                raise
            raise PreconditionFailed(f"{self._key!r} is no longer the object with ETag {self._etag}") from error

    def _is_whole(self) -> bool:
        return self.position == 0 and self._end is None

    def _check(self, answer: Mapping[str, Any]) -> int:
        """Where the body of this response ends. Raises for a store that ignores the condition or the range."""
        if bare(answer.get("ETag", "")) != self._etag:
            raise PreconditionFailed(f"{self._key!r} is no longer the object with ETag {self._etag}")
        if self._is_whole():
            if "ContentLength" not in answer:
                raise unanswered("get_object", self._key, "an answer without length")
            self._end = int(answer["ContentLength"])
            return self._end
        match = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
        if match is None or int(match[1]) != self.position:
            raise StorageError(ErrorCode.UNSUPPORTED, f"the store does not answer the range asked of {self._key!r}")
        stop, size = int(match[2]) + 1, int(match[3])
        self._end = size if self._end is None else self._end
        if size < self._end:
            raise StorageError(
                ErrorCode.ARCHIVE_CORRUPT, f"{self._key!r} has {size} bytes, and byte {self._end} was asked for"
            )
        return min(stop, self._end)
