"""The identity of a bucket: one object that names the store, the places that use it, and what the store can do.

A missing object is believed only in the right bucket: without this mark, or with another place's, nothing is created,
deleted or certified. It is written once by `init`, which also finds out whether the store can carry the fence at all.

A bucket that was copied object by object holds this mark as well. A copy does not keep the times at which the store
wrote its objects. The mark holds that time of the marker object beside it, and in a copy the marker object is younger.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from activities.objectstore.base import (
    ARCHIVE_ID,
    UNVERSIONED,
    Capabilities,
    ObjectInfo,
    ObjectStore,
    PreconditionFailed,
    UploadLost,
)
from activities.objectstore.uploads import abort_uploads
from activities.state.formats import check_format
from codehub_storage.errors import ErrorCode, StorageError

T = TypeVar("T")

OWN_PREFIX = ".codehub/"
IDENTITY_KEY = f"{OWN_PREFIX}store.json"
MARKER_KEY = f"{OWN_PREFIX}marker"
PROBE_PREFIX = f"{OWN_PREFIX}probe/"
FORMAT_VERSION = 1
SETTLE_SECONDS = 60.0
"""Self-hosted stores acknowledge before the disk has the bytes; the kernel writes back within 30 s or so."""

DELETE_WAIT_SECONDS = 90.0
"""Longer than a DELETE can be under way: two attempts of connecting and reading, see ``S3Settings.call_timeout``."""

_LONGEST_SECONDS = 86_400.0
_RACERS = 3
"""More prove little, and SeaweedFS makes each that loses wait a second or more."""

ADOPT_HINT = (
    "If this is a copy that shall be used from now on, see to it that nobody writes to the old bucket any more, then "
    "run `codehub-storage init --adopt`."
)

_ROUNDS = 2
_WRITES = 5
_OTHER_ETAG = "0" * 32


class StoreIdentity(BaseModel):
    """What ``.codehub/store.json`` holds. ``places``: the identity of each place by its name.

    ``delete_wait_seconds``: how long an unanswered DELETE is waited out where it cannot be made conditional.
    ``settle_seconds``: between completing an archive and proving it.
    ``epoch``: 1, and one more each time the store was taken over from a copy. Records of an earlier epoch are read with
    care.
    ``marker_modified_at``, ``marker_version``: of the marker object, as HEAD reported them (seconds since 1970).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = FORMAT_VERSION
    store_id: str
    places: Mapping[str, str] = Field(default_factory=dict)
    capabilities: Capabilities = Capabilities()
    delete_wait_seconds: float = 0.0
    settle_seconds: float = SETTLE_SECONDS
    epoch: int = 1
    marker_modified_at: float | None = None
    marker_version: str | None = None

    @field_validator("format_version", "epoch")
    @classmethod
    def _check_number(cls, value: int) -> int:
        if not 1 <= value < 2**63:
            raise ValueError("out of bounds")
        return value

    @field_validator("delete_wait_seconds", "settle_seconds")
    @classmethod
    def _check_seconds(cls, value: float) -> float:
        """No sensible wait is longer than a day; a NaN is not within bounds either."""
        if not 0 <= value <= _LONGEST_SECONDS:
            raise ValueError("out of bounds")
        return value

    @field_validator("marker_modified_at")
    @classmethod
    def _check_moment(cls, value: float | None) -> float | None:
        if value is not None and not 0 <= value < 2**63:
            raise ValueError("out of bounds")
        return value

    def to_json(self) -> bytes:
        """As it is stored."""
        return self.model_dump_json(indent=1).encode() + b"\n"


async def load_identity(store: ObjectStore) -> StoreIdentity:
    """The identity of the bucket. ``WrongStore`` where it has none, or was copied from one that had;
    ``Unsupported`` for one of a later format."""
    found = await _find(store)
    if found is None:
        raise StorageError(
            ErrorCode.WRONG_STORE,
            f"bucket {store.bucket!r} has no identity",
            hint="Check the bucket's name, or run `codehub-storage init` once for a new bucket.",
        )
    await _check_marked(store, found[0])
    return found[0]


def _is_marked(identity: StoreIdentity, marker: ObjectInfo | None) -> bool:
    """True where the marker is the one that was written with the identity."""
    return marker is not None and (identity.marker_modified_at, identity.marker_version) == _mark_of(marker)


def _mark_of(marker: ObjectInfo) -> tuple[float, str | None]:
    return marker.modified_at, None if marker.version_id == UNVERSIONED else marker.version_id


async def _check_marked(store: ObjectStore, identity: StoreIdentity) -> None:
    if not _is_marked(identity, await store.head(MARKER_KEY)):
        raise StorageError(
            ErrorCode.WRONG_STORE,
            f"bucket {store.bucket!r} holds the identity of another, which it was copied from: {MARKER_KEY} is not the "
            "object that was marked",
            hint=ADOPT_HINT,
        )


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


async def knows_place(store: ObjectStore, place: str, place_identity: str | None) -> bool:
    """True if the bucket's identity, be the bucket a copy or not, has the place by exactly this identity."""
    found = await _find(store)
    return found is not None and place_identity is not None and found[0].places.get(place) == place_identity


async def init_store(
    store: ObjectStore, *, place: str, place_identity: str, adopt: bool, settle_seconds: float | None = None
) -> StoreIdentity:
    """Mark the bucket and add the place; again is fine. ``settle_seconds=None`` keeps the value there, or takes 60.

    ``Unsupported`` for a store whose conditional PUT is not atomic. ``WrongStore`` for a place that the bucket knows by
    another identity, and unless ``adopt`` for a bucket that has objects but no identity, or is a copy. A copy that is
    adopted begins a new epoch.
    """
    if not adopt:
        await _check_new_or_marked(store)
    capabilities = await probe(store)
    for _ in range(_WRITES):
        found = await _find(store)
        before, etag = found or (StoreIdentity(store_id=secrets.token_hex(16)), None)
        if place in before.places:
            check_place(before, place, place_identity)
        marker = await store.head(MARKER_KEY)
        if marker is None or not _is_marked(before, marker):
            # A crash after it leaves a mark that does not fit: no process uses the bucket until `init` is through.
            marker = await _write_marker(store, marker)
            before = before.model_copy(update={"epoch": before.epoch + (found is not None)})
        modified_at, version = _mark_of(marker)
        after = before.model_copy(
            update={
                "places": {**before.places, place: place_identity},
                "capabilities": capabilities,
                "delete_wait_seconds": 0.0 if capabilities.conditional_delete else DELETE_WAIT_SECONDS,
                "settle_seconds": before.settle_seconds if settle_seconds is None else settle_seconds,
                "marker_modified_at": modified_at,
                "marker_version": version,
            }
        )
        if found is not None and after == found[0]:
            return after
        try:
            await store.put_if(IDENTITY_KEY, after.to_json(), etag=etag)
        except PreconditionFailed:
            continue
        return after
    raise StorageError(ErrorCode.STORE_UNAVAILABLE, f"{IDENTITY_KEY} keeps changing while it is written")


async def _write_marker(store: ObjectStore, there: ObjectInfo | None) -> ObjectInfo:
    """A new marker, as HEAD reports it. ``StoreUnavailable`` if it changes meanwhile."""
    with contextlib.suppress(PreconditionFailed):  # another `init` wrote one, which is as good
        await store.put_if(MARKER_KEY, secrets.token_hex(16).encode(), etag=there.etag if there else None)
    marker = await store.head(MARKER_KEY)
    if marker is None:
        raise StorageError(ErrorCode.STORE_UNAVAILABLE, f"{MARKER_KEY} is not there although it was written")
    return marker


async def check_capabilities(store: ObjectStore, identity: StoreIdentity) -> None:
    """``WrongStore`` if deletions rely on what the server does not do: it is not the one that `init` checked.

    The object of this check stays, so that two checks at once do not disturb one another.
    """
    if not identity.capabilities.conditional_delete:
        return
    key = f"{OWN_PREFIX}delete-probe"
    with contextlib.suppress(PreconditionFailed):
        await store.put_if(key, b"codehub-storage", etag=None)
    if not await _has_conditional_delete(store, key):
        raise StorageError(
            ErrorCode.WRONG_STORE,
            f"the store of bucket {store.bucket!r} deletes in spite of If-Match, and `init` noted that it does not",
            hint=ADOPT_HINT,
        )


async def probe(store: ObjectStore) -> Capabilities:
    """What the store can do; its own objects are removed again. ``Unsupported`` without atomic conditional PUT."""
    key = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
    keys = [f"{key}-{number}" for number in range(_ROUNDS)]
    try:
        await _all_of(_check_conditional_put(store, each) for each in keys)
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
    return identity_of(found[0]), found[1].etag


def identity_of(data: bytes) -> StoreIdentity:
    """What ``store.json`` holds. ``WrongStore`` if it cannot be read, ``Unsupported`` for a later format."""
    check_format(data, IDENTITY_KEY, newest=FORMAT_VERSION)
    try:
        return StoreIdentity.model_validate_json(data)
    except ValidationError as error:
        raise StorageError(ErrorCode.WRONG_STORE, f"{IDENTITY_KEY} cannot be read") from error


async def _check_new_or_marked(store: ObjectStore) -> None:
    """``WrongStore`` for a copy, and for a bucket without an identity that is not seen to be empty.

    A listing is believed only if it shows what was just written.
    """
    found = await _find(store)
    if found is not None:
        return await _check_marked(store, found[0])
    _refuse_strangers(store, await store.list_keys(""))
    key = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
    try:
        await store.put_if(key, b"codehub-storage", etag=None)
        listed = await store.list_keys("")
    finally:
        await _remove(store, key)
    _refuse_strangers(store, listed)
    if key not in listed:
        raise StorageError(
            ErrorCode.WRONG_STORE,
            f"the listing of bucket {store.bucket!r} does not show what stands in it, so it is not seen to be empty",
            hint="Look what answers at that address; a bucket is marked as new only where that can be seen.",
        )


def _refuse_strangers(store: ObjectStore, keys: Sequence[str]) -> None:
    strangers = [key for key in keys if not key.startswith(OWN_PREFIX)]
    if strangers:
        raise StorageError(
            ErrorCode.WRONG_STORE,
            f"bucket {store.bucket!r} has no identity, but {len(strangers)} objects, {strangers[0]!r} among them",
            hint="Check the bucket's name. If it is the right one, run init with --adopt.",
        )


async def _check_conditional_put(store: ObjectStore, key: str) -> None:
    """Of racing writers one wins, on creation and on change, and its bytes are those in the store."""
    etag = await _race(store, key, None)
    await _race(store, key, etag)
    for stale in (None, etag, _OTHER_ETAG):
        if await _wins(store, key, b"stale", stale) is not None:
            raise _not_atomic(store)


async def _race(store: ObjectStore, key: str, etag: str | None) -> str:
    entries = [f"{etag} {number}".encode() for number in range(_RACERS)]
    etags = await _all_of(_wins(store, key, entry, etag) for entry in entries)
    winners = [(entry, won) for entry, won in zip(entries, etags, strict=True) if won is not None]
    found = await store.get(key)
    if len(winners) != 1 or found is None or (found[0], found[1].etag) != winners[0]:
        raise _not_atomic(store)
    return found[1].etag


async def _all_of(waits: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each returns. An error waits until all have ended: what is written after the removal would stay."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]


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
