"""A write whose answer is lost, empty or a lie: what happened is reported, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable

import pytest

from activities.objectstore.base import ARCHIVE_ID, PreconditionFailed, UploadedPart, UploadLost
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.s3_faults import DropAnswer, Fault, Hold, Reply, Silence, on
from tests.harness.seaweed import Hostile, hostile_store, new_bucket
from tests.harness.servers import S3Server, capabilities_of

PUT = on(method="PUT")
COMPLETE = on(method="POST", query="uploadId")
CREATE = on(method="POST", query="uploads")
DELETE = on(method="DELETE")


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    """A bucket for this file."""
    return new_bucket(s3_server)


@pytest.fixture
async def hostile(s3_server: S3Server, bucket: str) -> AsyncIterator[Hostile]:
    """A store behind a proxy."""
    async with hostile_store(s3_server, bucket) as hostile:
        yield hostile


@pytest.fixture
def key() -> str:
    """A key of this test alone."""
    return f"{secrets.token_hex(6)}/home.tar.gz"


async def begin(hostile: Hostile, key: str, archive_id: str = "a1") -> tuple[str, list[UploadedPart]]:
    """An upload with one part."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: archive_id})
    return upload_id, [await hostile.store.upload_part(key, upload_id, 1, [b"archive"])]


LOST: dict[str, Callable[[], Fault]] = {
    "lost once, so the replay meets our own write": DropAnswer,
    "lost every time": lambda: DropAnswer(times=None),
    "empty 200": lambda: Reply(times=None, status=200, code=None, forward=True),
    "503": lambda: Reply(times=None, status=503, forward=True),
    "silence": lambda: Silence(times=None, forward=True),
}
"""How the answer of a server that acted goes missing."""


@pytest.mark.parametrize("name", LOST)
async def test_put_that_happened(hostile: Hostile, key: str, name: str) -> None:
    """A record that was written is reported as written, created or changed, whatever the answer was."""
    hostile.proxy.add(LOST[name](), PUT)
    first = await hostile.store.put_if(key, b"one", etag=None)
    hostile.proxy.clear()
    hostile.proxy.add(LOST[name](), PUT)
    second = await hostile.store.put_if(key, b"two", etag=first.etag)
    found = await hostile.truth.get(key)
    assert found is not None
    assert (found[0], found[1].etag) == (b"two", second.etag)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("lie", [Reply(times=None), Reply(times=None, status=200, code=None)], ids=["503", "empty 200"])
async def test_put_that_did_not_happen(hostile: Hostile, key: str, lie: Reply, exists: bool) -> None:
    """A record that was not written is never reported as written; what stood there stands."""
    etag = (await hostile.truth.put_if(key, b"before", etag=None)).etag if exists else None
    hostile.proxy.add(lie, PUT)
    with pytest.raises(StorageError) as raised:
        await hostile.store.put_if(key, b"new", etag=etag)
    assert raised.value.code == ErrorCode.STORE_UNAVAILABLE
    found = await hostile.truth.get(key)
    assert (found[0] if found else None) == (b"before" if exists else None)


async def test_lost_put_and_another_writer(hostile: Hostile, key: str) -> None:
    """Where the answer is lost and another's bytes stand there, the other one won."""
    etag = (await hostile.truth.put_if(key, b"before", etag=None)).etag
    held = hostile.proxy.add(Hold(), PUT)
    ours = asyncio.create_task(hostile.store.put_if(key, b"ours", etag=etag))
    await held.reached.wait()
    await hostile.truth.put_if(key, b"theirs", etag=etag)
    held.release.set()
    with pytest.raises(PreconditionFailed):
        await ours
    assert (await hostile.truth.get(key) or [b""])[0] == b"theirs"


async def test_put_that_arrives_late(hostile: Hostile, key: str) -> None:
    """A write that its sender gave up on is refused by the store when it arrives after a successor."""
    etag = (await hostile.truth.put_if(key, b"before", etag=None)).etag
    held = hostile.proxy.add(Hold(), PUT)
    late = asyncio.create_task(hostile.store.put_if(key, b"late", etag=etag))
    await held.reached.wait()
    late.cancel()
    await asyncio.wait([late])
    await hostile.truth.put_if(key, b"after", etag=etag)
    held.release.set()
    [exchange] = hostile.proxy.seen(PUT)
    await exchange.answered.wait()
    assert exchange.status == 412
    assert (await hostile.truth.get(key) or [b""])[0] == b"after"


@pytest.mark.parametrize("name", LOST)
async def test_complete_that_happened(hostile: Hostile, key: str, name: str) -> None:
    """An archive that stands there with our id and size is complete, whatever the answer was."""
    upload_id, parts = await begin(hostile, key)
    hostile.proxy.add(LOST[name](), COMPLETE)
    info = await hostile.store.complete_upload(key, upload_id, parts, archive_id="a1")
    assert info == await hostile.truth.head(key)
    assert info.metadata[ARCHIVE_ID] == "a1"


@pytest.mark.parametrize("code", ["NoSuchUpload", "InvalidPart"])
async def test_complete_that_happened_and_is_denied(hostile: Hostile, key: str, code: str) -> None:
    """ "No such upload", or "no such part", is also what a second completion hears."""
    upload_id, parts = await begin(hostile, key)
    hostile.proxy.add(Reply(status=404, code=code, forward=True), COMPLETE)
    info = await hostile.store.complete_upload(key, upload_id, parts, archive_id="a1")
    assert info == await hostile.truth.head(key)


@pytest.mark.parametrize(
    "lie",
    [
        Reply(times=None, status=200, code=None),
        Reply(times=None, status=200, code="InternalError"),
        Reply(times=None, status=200, code="SomethingNew"),
        Reply(times=None, status=503),
        Silence(times=None),
    ],
    ids=["empty 200", "200 with error", "200 with unknown error", "503", "silence"],
)
async def test_complete_that_did_not_happen(hostile: Hostile, key: str, lie: Fault) -> None:
    """200 is not success: without an object the completion failed, and can be tried again."""
    upload_id, parts = await begin(hostile, key)
    hostile.proxy.add(lie, COMPLETE)
    with pytest.raises(StorageError) as raised:
        await hostile.store.complete_upload(key, upload_id, parts, archive_id="a1")
    assert raised.value.code == ErrorCode.STORE_UNAVAILABLE
    assert await hostile.truth.head(key) is None
    hostile.proxy.clear()
    assert (await hostile.store.complete_upload(key, upload_id, parts, archive_id="a1")).size_bytes == 7


async def test_complete_lost_and_the_predecessor_stands(hostile: Hostile, key: str) -> None:
    """The older archive of the same size is not taken for the new one."""
    upload_id, parts = await begin(hostile, key, "old")
    await hostile.store.complete_upload(key, upload_id, parts, archive_id="old")
    upload_id, parts = await begin(hostile, key, "new")
    hostile.proxy.add(Reply(times=None, status=200, code=None), COMPLETE)
    with pytest.raises(StorageError):
        await hostile.store.complete_upload(key, upload_id, parts, archive_id="new")


async def test_success_without_an_object(hostile: Hostile, key: str) -> None:
    """An answer that is right in every way, with nothing stored, is found out by looking."""
    upload_id, parts = await begin(hostile, key)
    success = b"<CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>"
    hostile.proxy.add(Reply(status=200, body=success), COMPLETE)
    with pytest.raises(UploadLost):
        await hostile.store.complete_upload(key, upload_id, parts, archive_id="a1")


async def test_parts_refused_after_a_crash(hostile: Hostile, key: str) -> None:
    """A store that lost an upload in a crash says so; that is no error of the archive, and ends the upload."""
    upload_id, parts = await begin(hostile, key)
    hostile.proxy.add(Reply(status=400, code="InvalidPart"), COMPLETE)
    with pytest.raises(UploadLost):
        await hostile.store.complete_upload(key, upload_id, parts, archive_id="a1")


@pytest.mark.parametrize("name", LOST)
async def test_delete_that_happened(hostile: Hostile, key: str, name: str) -> None:
    """A deletion whose answer is lost can be repeated with its condition, and is then done."""
    info = await hostile.truth.put_if(key, b"one", etag=None)
    hostile.proxy.add(LOST[name](), DELETE)
    with contextlib.suppress(StorageError):  # some losses can be settled at once, others not
        await hostile.store.delete(key, etag=info.etag)
    hostile.proxy.clear()
    await hostile.store.delete(key, etag=info.etag)
    assert await hostile.truth.head(key) is None


async def test_delete_that_arrives_late(s3_server: S3Server, hostile: Hostile, key: str) -> None:
    """A deletion that its sender gave up on spares what was written since; where it does not, it must be waited out."""
    before = await hostile.truth.put_if(key, b"before", etag=None)
    held = hostile.proxy.add(Hold(), DELETE)
    late = asyncio.create_task(hostile.store.delete(key, etag=before.etag))
    await held.reached.wait()
    await hostile.truth.put_if(key, b"after", etag=before.etag)
    held.release.set()
    if not capabilities_of(s3_server).conditional_delete:
        await late
        assert await hostile.truth.head(key) is None
        return
    with pytest.raises(PreconditionFailed):
        await late
    assert (await hostile.truth.get(key) or [b""])[0] == b"after"


async def test_part_whose_answer_is_lost(hostile: Hostile, key: str) -> None:
    """A part is sent again by the library, and both arrivals count as one part of the object."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a1"})
    hostile.proxy.add(DropAnswer(), on(method="PUT", part=1))
    part = await hostile.store.upload_part(key, upload_id, 1, [b"archive"])
    assert hostile.proxy.received_by_part(key)[1] == 14
    info = await hostile.store.complete_upload(key, upload_id, [part], archive_id="a1")
    assert info.size_bytes == 7


async def test_part_without_etag(hostile: Hostile, key: str) -> None:
    """An accepted part has an ETag; without one it is sent again later, not counted."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a1"})
    hostile.proxy.add(Reply(times=None, status=200, code=None), on(method="PUT", part=1))
    with pytest.raises(StorageError) as raised:
        await hostile.store.upload_part(key, upload_id, 1, [b"archive"])
    assert raised.value.code == ErrorCode.STORE_UNAVAILABLE


async def test_lost_creation_leaves_nothing_that_abort_misses(hostile: Hostile, key: str) -> None:
    """An upload that was begun without our hearing of it is found by its key and aborted."""
    hostile.proxy.add(DropAnswer(times=None), CREATE)
    with pytest.raises(StorageError):
        await hostile.store.create_upload(key, {ARCHIVE_ID: "a1"})
    hostile.proxy.clear()
    left = await hostile.store.list_uploads(key)
    assert left
    for upload_id in left:
        await hostile.store.abort_upload(key, upload_id)
    assert await hostile.truth.list_uploads(key) == []
