"""The bucket's identity: written once, by one that has looked; and what the store can do, found out by trying."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from activities.objectstore.base import Capabilities, ObjectInfo
from activities.objectstore.client import S3Settings
from activities.objectstore.identity import (
    DELETE_WAIT_SECONDS,
    IDENTITY_KEY,
    MARKER_KEY,
    SETTLE_SECONDS,
    StoreIdentity,
    check_capabilities,
    check_place,
    init_store,
    load_identity,
)
from activities.objectstore.s3 import S3Store, open_store
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.s3_faults import DropAnswer, Reply, on
from tests.harness.mirrors import mirror_plainly
from tests.harness.refusals import code_of
from tests.harness.seaweed import Hostile, hostile_store, new_bucket, settings_of
from tests.harness.servers import S3Server, capabilities_of

BOTH = pytest.mark.parametrize("bucket", [False, True], ids=["unversioned", "versioned"], indirect=True)
"""On either kind of bucket; the other tests are content with one."""


@pytest.fixture
def bucket(s3_server: S3Server, request: pytest.FixtureRequest) -> str:
    """An empty bucket."""
    return new_bucket(s3_server, versioned=getattr(request, "param", False))


@pytest.fixture
async def store(s3_server: S3Server, bucket: str) -> AsyncIterator[S3Store]:
    """A store on the empty bucket."""
    async with open_store(settings_of(s3_server, bucket)) as store:
        yield store


@pytest.fixture
async def hostile(s3_server: S3Server) -> AsyncIterator[Hostile]:
    """A store behind a proxy, on an empty bucket."""
    async with hostile_store(s3_server, new_bucket(s3_server)) as hostile:
        yield hostile


async def init(store: S3Store, place: str = "default", identity: str = "root-1", **others: Any) -> StoreIdentity:
    """``init_store`` with the usual arguments."""
    return await init_store(store, place=place, place_identity=identity, **{"adopt": False, **others})


@BOTH
async def test_init_marks_an_empty_bucket(store: S3Store, s3_server: S3Server, bucket: str) -> None:
    """A new identity knows the place and what the store can do, and nothing of the probing is left."""
    made = await init(store)
    assert await load_identity(store) == made
    assert made.places == {"default": "root-1"}
    assert made.capabilities == capabilities_of(s3_server)
    assert made.delete_wait_seconds == (0.0 if made.capabilities.conditional_delete else DELETE_WAIT_SECONDS)
    assert made.settle_seconds == SETTLE_SECONDS
    client = s3_server.client()
    everything = client.list_object_versions(Bucket=bucket)
    uploads = client.list_multipart_uploads(Bucket=bucket)
    client.close()
    assert [each["Key"] for each in everything.get("Versions", ())] == [MARKER_KEY, IDENTITY_KEY]
    assert not everything.get("DeleteMarkers")
    assert not uploads.get("Uploads")


async def test_init_twice(store: S3Store) -> None:
    """Calling again changes nothing, and writes nothing."""
    first = await init(store)
    before = await store.head(IDENTITY_KEY)
    assert await init(store) == first
    assert await store.head(IDENTITY_KEY) == before


async def test_a_second_place(store: S3Store) -> None:
    """Another place joins the same store; settings that are not named stay."""
    first = await init(store, settle_seconds=5)
    second = await init(store, "other", "root-2")
    assert second.store_id == first.store_id
    assert second.places == {"default": "root-1", "other": "root-2"}
    assert second.settle_seconds == 5
    assert (await init(store, "other", "root-2", settle_seconds=0)).settle_seconds == 0


async def test_another_place_of_the_same_name(store: S3Store) -> None:
    """A place cannot be replaced by another of its name."""
    made = await init(store)
    assert await code_of(init(store, identity="root-2")) == ErrorCode.WRONG_STORE
    assert await load_identity(store) == made


async def test_bucket_in_use(store: S3Store) -> None:
    """A bucket with objects and no identity is refused and left alone, unless it is adopted."""
    await store.put_if("somebody/elses", b"x", etag=None)
    assert await code_of(init(store)) == ErrorCode.WRONG_STORE
    assert await store.list_keys("") == ["somebody/elses"]
    await init(store, adopt=True)
    assert (await store.get("somebody/elses") or [b""])[0] == b"x"


async def test_bucket_without_identity(store: S3Store) -> None:
    """An unmarked bucket is the wrong store."""
    assert await code_of(load_identity(store)) == ErrorCode.WRONG_STORE


async def test_racing_inits(store: S3Store) -> None:
    """Two places that are added at once are both there, under one store id."""
    first, second = await asyncio.gather(init(store, "a", "root-a"), init(store, "b", "root-b"))
    loaded = await load_identity(store)
    assert loaded.places == {"a": "root-a", "b": "root-b"}
    assert {first.store_id, second.store_id} == {loaded.store_id}


async def test_interrupted_init(hostile: Hostile) -> None:
    """An init that failed half-way does not make the bucket look used: calling again is right."""
    hostile.proxy.add(Reply(times=None), on(method="PUT", key=IDENTITY_KEY))
    hostile.proxy.add(Reply(times=None), on(method="DELETE"))
    assert await code_of(init(hostile.store)) == ErrorCode.STORE_UNAVAILABLE
    assert await hostile.truth.list_keys("")
    hostile.proxy.clear()
    assert await init(hostile.store) == await load_identity(hostile.truth)


async def test_lost_answer(hostile: Hostile) -> None:
    """An identity whose answer was lost is the one that stands there."""
    hostile.proxy.add(DropAnswer(times=None), on(method="PUT", key=IDENTITY_KEY))
    assert await init(hostile.store) == await load_identity(hostile.truth)


@pytest.mark.parametrize("answer", [b"{", b"[]"], ids=["cut", "other"])
async def test_unreadable_identity(store: S3Store, answer: bytes) -> None:
    """What cannot be read is no identity, and is not overwritten."""
    await store.put_if(IDENTITY_KEY, answer, etag=None)
    assert await code_of(load_identity(store)) == ErrorCode.WRONG_STORE
    assert await code_of(init(store, adopt=True)) == ErrorCode.WRONG_STORE
    assert (await store.get(IDENTITY_KEY) or [b""])[0] == answer


async def test_identity_of_a_later_format(store: S3Store) -> None:
    """An identity of a later format is refused, and not overwritten."""
    later = json.dumps({"format_version": 2, "store_id": "x"}).encode()
    await store.put_if(IDENTITY_KEY, later, etag=None)
    assert await code_of(load_identity(store)) == ErrorCode.UNSUPPORTED
    assert await code_of(init(store)) == ErrorCode.UNSUPPORTED
    assert (await store.get(IDENTITY_KEY) or [b""])[0] == later


class DeletesAnyway(S3Store):
    """A store that ignores the condition of a DELETE, as MinIO does."""

    async def delete(self, key: str, *, version_id: str | None = None, etag: str | None = None) -> None:
        """Whatever stands there goes."""
        await super().delete(key, version_id=version_id)


@BOTH
async def test_without_conditional_delete(store: S3Store) -> None:
    """A store that deletes in spite of If-Match is known for it: its deletions are waited out."""
    made = await init(DeletesAnyway(store.connection))
    assert made.capabilities == Capabilities(conditional_delete=False, full_object_crc=True)
    assert made.delete_wait_seconds == DELETE_WAIT_SECONDS
    assert S3Settings(bucket="b").call_timeout.total_seconds() < DELETE_WAIT_SECONDS
    assert await store.list_keys("") == [MARKER_KEY, IDENTITY_KEY]


@pytest.mark.parametrize(
    "refusal",
    [Reply(times=None, status=400, code="InvalidArgument"), Reply(times=None, status=501, code="NotImplemented")],
    ids=["invalid", "not implemented"],
)
async def test_without_full_object_crc(hostile: Hostile, refusal: Reply) -> None:
    """A store that refuses our checksum can be used without it."""
    hostile.proxy.add(refusal, on(method="POST", query="uploads"))
    made = await init(hostile.store)
    assert made.capabilities.full_object_crc is False
    assert await load_identity(hostile.truth) == made


class LastWriterWins(S3Store):
    """A store that ignores the conditions of a PUT, as some do, and is slow with one key of several."""

    async def put_if(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo:
        """Whatever stands there is replaced."""
        if key.endswith("-1"):
            await asyncio.sleep(0.5)
        found = await self.head(key)
        return await super().put_if(key, data, etag=found.etag if found else None)


async def test_without_conditional_put(s3_server: S3Server) -> None:
    """A store that cannot carry the fence is refused, and not marked."""
    async with open_store(settings_of(s3_server, new_bucket(s3_server))) as good:
        bad = LastWriterWins(good.connection)
        assert await code_of(init(bad)) == ErrorCode.UNSUPPORTED
        await asyncio.sleep(1)  # nothing is written behind the removal
        assert await good.list_keys("") == []


def test_check_place() -> None:
    """Only the place that the store knows, by the identity that it knows, is right."""
    identity = StoreIdentity(store_id="s", places={"default": "root-1"})
    check_place(identity, "default", "root-1")
    for place, place_identity in (("default", "root-2"), ("other", "root-1")):
        with pytest.raises(StorageError) as raised:
            check_place(identity, place, place_identity)
        assert raised.value.code == ErrorCode.WRONG_STORE


@BOTH
@pytest.mark.field("D9")
async def test_a_copy_is_told_by_its_marker(store: S3Store, s3_server: S3Server) -> None:
    """Copied object by object it is refused, and left as it is; adopted it has a new epoch, and what it can do."""
    made = await init(store)
    other = new_bucket(s3_server, versioned=await store.is_versioned())
    await asyncio.sleep(1.1)  # HEAD tells whole seconds
    await asyncio.to_thread(mirror_plainly, s3_server, store.bucket, s3_server, other)
    async with open_store(settings_of(s3_server, other)) as copy:
        before = await copy.get(IDENTITY_KEY)
        assert await code_of(load_identity(copy)) == ErrorCode.WRONG_STORE
        assert await code_of(init(copy)) == ErrorCode.WRONG_STORE
        assert await copy.get(IDENTITY_KEY) == before
        adopted = await init(copy, adopt=True)
        assert (adopted.store_id, adopted.places, adopted.epoch) == (made.store_id, made.places, made.epoch + 1)
        assert await load_identity(copy) == adopted
        assert await init(copy) == adopted
        assert await init(copy, adopt=True) == adopted
    assert await load_identity(store) == made


@pytest.mark.field("D9")
async def test_a_marker_that_is_gone_fences_the_bucket_off(store: S3Store) -> None:
    """As the page on disaster recovery says, of an old bucket, and of a copy that kept its times."""
    made = await init(store)
    await store.delete(MARKER_KEY)
    assert await code_of(load_identity(store)) == ErrorCode.WRONG_STORE
    assert (await init(store, adopt=True)).epoch == made.epoch + 1


@pytest.mark.field("D9")
async def test_capabilities_of_another_server_are_not_believed(store: S3Store) -> None:
    """A worker does not start where the identity promises what deletions lean on, and the server does not keep it."""
    made = await init(store)
    await check_capabilities(store, made)
    await check_capabilities(store, made)
    promised = made.model_copy(update={"capabilities": Capabilities(conditional_delete=True)})
    assert await code_of(check_capabilities(DeletesAnyway(store.connection), promised)) == ErrorCode.WRONG_STORE
    honest = made.model_copy(update={"capabilities": Capabilities(conditional_delete=False)})
    await check_capabilities(DeletesAnyway(store.connection), honest)


@pytest.mark.field("D7")
async def test_a_listing_that_lies_marks_no_bucket_as_new(hostile: Hostile) -> None:
    """An empty listing is believed only if it shows what was just written; what stands there stays."""
    await hostile.truth.put_if("ws1/home.tar.gz", b"theirs", etag=None)
    hostile.proxy.add(
        Reply(times=None, status=200, body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
        on(method="GET", query="list-type"),
    )
    assert await code_of(init(hostile.store)) == ErrorCode.WRONG_STORE
    assert await hostile.truth.get(IDENTITY_KEY) is None
    assert await hostile.truth.list_keys("") == ["ws1/home.tar.gz"]
