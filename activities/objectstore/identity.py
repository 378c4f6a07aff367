"""The identity of a bucket: one object that says which store this is, which places use it, and what it can do.

Absent is believed only in the right place: without this mark, or with another place's, nothing is created, deleted or
certified. It is written once by `init`, which also finds out whether the store can carry the fence at all.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from activities.objectstore.base import ARCHIVE_ID, Capabilities, ObjectStore, PreconditionFailed, UploadLost
from activities.objectstore.uploads import abort_uploads
from codehub_storage.errors import ErrorCode, StorageError

OWN_PREFIX = ".codehub/"
IDENTITY_KEY = f"{OWN_PREFIX}store.json"
FORMAT_VERSION = 1
SETTLE_SECONDS = 60.0
"""Self-hosted stores acknowledge before the disk has the bytes; the kernel writes back within 30 s or so."""

DELETE_WAIT_SECONDS = 90.0
"""Longer than a DELETE can be under way: two attempts of connecting and reading, see ``S3Settings.call_timeout``."""

_LONGEST_SECONDS = 86_400.0
_RACERS = 3
"""More prove little, and SeaweedFS makes each that loses wait a second or more."""

_ROUNDS = 2
_WRITES = 5
_OTHER_ETAG = "0" * 32


class StoreIdentity(BaseModel):
    """What ``.codehub/store.json`` holds. ``places``: the identity of each place by its name.

    ``delete_wait_seconds``: how long an unanswered DELETE is waited out where it cannot be made conditional.
    ``settle_seconds``: between completing an archive and proving it.
    ``epoch``: raised when a copy of a bucket is taken into use; what records say of before is looked at with care.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = FORMAT_VERSION
    store_id: str
    places: Mapping[str, str] = Field(default_factory=dict)
    capabilities: Capabilities = Capabilities()
    delete_wait_seconds: float = 0.0
    settle_seconds: float = SETTLE_SECONDS
    epoch: int = 1

    @field_validator("format_version", "epoch")
    @classmethod
    def _check_number(cls, value: int) -> int:
        if not 1 <= value < 2**63:
            raise ValueError("out of bounds")
        return value

    @field_validator("delete_wait_seconds", "settle_seconds")
    @classmethod
    def _check_seconds(cls, value: float) -> float:
        """No wait that anybody means is longer than a day; a NaN is not within bounds either."""
        if not 0 <= value <= _LONGEST_SECONDS:
            raise ValueError("out of bounds")
        return value

    def to_json(self) -> bytes:
        """As it is stored."""
        return self.model_dump_json(indent=1).encode() + b"\n"


async def load_identity(store: ObjectStore) -> StoreIdentity:
    """The identity of the bucket. ``WrongStore`` where it has none, ``Unsupported`` for one of a later format."""
    found = await _find(store)
    if found is None:
        raise StorageError(
            ErrorCode.WRONG_STORE,
            f"bucket {store.bucket!r} has no identity",
            hint="Check the bucket's name, or run `codehub-storage init` once for a new bucket.",
        )
    return found[0]


def check_place(identity: StoreIdentity, place: str, place_identity: str) -> None:
    """``WrongStore`` unless the store knows ``place`` by exactly this identity."""
    known = identity.places.get(place)
    if known is None:
        raise StorageError(
            ErrorCode.WRONG_STORE,
            f"the bucket does not know the place {place!r}",
            hint="Check the place's name, or run `codehub-storage init` once for a new place.",
        )
    if known != place_identity:
        raise StorageError(
            ErrorCode.WRONG_STORE, f"what stands at place {place!r} is not the place of that name that the bucket knows"
        )


async def init_store(
    store: ObjectStore, *, place: str, place_identity: str, adopt: bool, settle_seconds: float | None = None
) -> StoreIdentity:
    """Mark the bucket and add the place; done already: fine. ``settle_seconds=None`` keeps what it says, or takes 60.

    ``Unsupported`` for a store whose conditional PUT is not atomic. ``WrongStore`` for a bucket that has objects but no
    identity, unless ``adopt``, and for a place that the bucket knows by another identity.
    """
    if not adopt and await _find(store) is None:
        await _check_empty(store)
    capabilities = await probe(store)
    for _ in range(_WRITES):
        found = await _find(store)
        before, etag = found or (StoreIdentity(store_id=secrets.token_hex(16)), None)
        if place in before.places:
            check_place(before, place, place_identity)
        after = before.model_copy(
            update={
                "places": {**before.places, place: place_identity},
                "capabilities": capabilities,
                "delete_wait_seconds": 0.0 if capabilities.conditional_delete else DELETE_WAIT_SECONDS,
                "settle_seconds": before.settle_seconds if settle_seconds is None else settle_seconds,
            }
        )
        if etag is not None and after == before:
            return before
        try:
            await store.put_if(IDENTITY_KEY, after.to_json(), etag=etag)
        except PreconditionFailed:
            continue
        return after
    raise StorageError(ErrorCode.STORE_UNAVAILABLE, f"{IDENTITY_KEY} keeps changing while it is written")


async def probe(store: ObjectStore) -> Capabilities:
    """What the store can do; its own objects are removed again. ``Unsupported`` without atomic conditional PUT."""
    key = f"{OWN_PREFIX}probe/{secrets.token_hex(8)}"
    keys = [f"{key}-{number}" for number in range(_ROUNDS)]
    try:
        await asyncio.gather(*(_check_conditional_put(store, each) for each in keys))
        return Capabilities(
            conditional_delete=await _has_conditional_delete(store, keys[0]),
            full_object_crc=await _has_full_object_crc(store, key),
        )
    finally:
        for each in (key, *keys):
            await _remove(store, each)


async def _find(store: ObjectStore) -> tuple[StoreIdentity, str] | None:
    found = await store.get(IDENTITY_KEY)
    if found is None:
        return None
    data, info = found
    try:
        identity = StoreIdentity.model_validate_json(data)
    except ValidationError as error:
        raise StorageError(ErrorCode.WRONG_STORE, f"{IDENTITY_KEY} cannot be read") from error
    if identity.format_version > FORMAT_VERSION:
        raise StorageError(
            ErrorCode.UNSUPPORTED,
            f"{IDENTITY_KEY} has format {identity.format_version}",
            hint="Upgrade the service.",
        )
    return identity, info.etag


async def _check_empty(store: ObjectStore) -> None:
    strangers = [key for key in await store.list_keys("") if not key.startswith(OWN_PREFIX)]
    if strangers:
        raise StorageError(
            ErrorCode.WRONG_STORE,
            f"bucket {store.bucket!r} has no identity, but {len(strangers)} objects, {strangers[0]!r} among them",
            hint="Check the bucket's name. If it is the right one, run init with --adopt.",
        )


async def _check_conditional_put(store: ObjectStore, key: str) -> None:
    """Of racing writers one wins, on creation and on change, and its bytes are those that stand there."""
    etag = await _race(store, key, None)
    await _race(store, key, etag)
    for stale in (None, etag, _OTHER_ETAG):
        if await _wins(store, key, b"stale", stale) is not None:
            raise _not_atomic(store)


async def _race(store: ObjectStore, key: str, etag: str | None) -> str:
    entries = [f"{etag} {number}".encode() for number in range(_RACERS)]
    etags = await asyncio.gather(*(_wins(store, key, entry, etag) for entry in entries))
    winners = [(entry, won) for entry, won in zip(entries, etags, strict=True) if won is not None]
    found = await store.get(key)
    if len(winners) != 1 or found is None or (found[0], found[1].etag) != winners[0]:
        raise _not_atomic(store)
    return found[1].etag


async def _wins(store: ObjectStore, key: str, data: bytes, etag: str | None) -> str | None:
    try:
        return (await store.put_if(key, data, etag=etag)).etag
    except PreconditionFailed:
        return None


def _not_atomic(store: ObjectStore) -> StorageError:
    return StorageError(
        ErrorCode.UNSUPPORTED,
        f"the store of bucket {store.bucket!r} does not keep If-Match and If-None-Match of a PUT",
        hint="Use a store with atomic conditional writes: AWS S3, MinIO, SeaweedFS.",
    )


async def _has_conditional_delete(store: ObjectStore, key: str) -> bool:
    try:
        await store.delete(key, etag=_OTHER_ETAG)
    except PreconditionFailed:
        return await store.head(key) is not None
    except StorageError as error:
        if error.code != ErrorCode.UNSUPPORTED:
            raise
    return False


async def _has_full_object_crc(store: ObjectStore, key: str) -> bool:
    """True if an upload that declares its CRC-64/NVME works, and the object bears it afterwards."""
    data = [b"codehub", b"-storage"]
    try:
        upload_id = await store.create_upload(key, {ARCHIVE_ID: "probe"})
        part = await store.upload_part(key, upload_id, 1, data)
        info = await store.complete_upload(key, upload_id, [part], archive_id="probe")
    except UploadLost:
        return False
    except StorageError as error:
        if error.code != ErrorCode.UNSUPPORTED:
            raise
        return False
    return info.crc64 == part.crc64


async def _remove(store: ObjectStore, key: str) -> None:
    await abort_uploads(store, key)
    for each in await store.list_versions(key):
        await store.delete(key, version_id=each.version_id)
