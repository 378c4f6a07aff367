"""Multipart uploads past damage, cuts, stalls and a killed server."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from activities.objectstore.base import ARCHIVE_ID, Capabilities, UploadedPart, UploadLost
from activities.objectstore.body import PartBody
from activities.objectstore.s3 import open_store
from activities.objectstore.uploads import abort_uploads, checksum, combined
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.s3_faults import CutRequest, FlipUpload, Hold, Reply, on
from tests.harness.s3server import S3Server
from tests.harness.seaweed import Hostile, hostile_store, new_bucket, settings_of

MIB = 1024 * 1024
DATA = secrets.token_bytes(5 * MIB)
PART_1 = on(method="PUT", part=1)
COMPLETE = on(method="POST", query="uploadId")


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


async def test_our_checksums_are_what_is_sent(hostile: Hostile, key: str) -> None:
    """The CRC-64/NVME that we computed goes with each part, and the whole one with completion; both were declared."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a"})
    part = await hostile.store.upload_part(key, upload_id, 1, [DATA])
    info = await hostile.store.complete_upload(key, upload_id, [part], archive_id="a")
    create, upload, complete = (each.headers for each in hostile.proxy.log if each.method in ("PUT", "POST"))
    assert create["X-Amz-Checksum-Algorithm"] == "CRC64NVME"
    assert create["X-Amz-Checksum-Type"] == complete["X-Amz-Checksum-Type"] == "FULL_OBJECT"
    assert upload["X-Amz-Checksum-Crc64Nvme"] == complete["X-Amz-Checksum-Crc64Nvme"]
    assert info.crc64 == part.crc64 == checksum([DATA])


async def test_damaged_part_is_refused(hostile: Hostile, key: str) -> None:
    """A bit that changes on the way is noticed by the store: nothing is accepted, and sending it again works."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a"})
    hostile.proxy.add(FlipUpload(at=1_000_000), PART_1)
    with pytest.raises(StorageError) as raised:
        await hostile.store.upload_part(key, upload_id, 1, [DATA])
    assert raised.value.code == ErrorCode.STORE_UNAVAILABLE
    assert await hostile.store.list_parts(key, upload_id) == []
    part = await hostile.store.upload_part(key, upload_id, 1, [DATA])
    await hostile.store.complete_upload(key, upload_id, [part], archive_id="a")


async def test_damaged_part_without_crc(s3_server: S3Server, bucket: str, key: str) -> None:
    """A store without CRC-64/NVME still checks each part, by its MD5."""
    async with hostile_store(s3_server, bucket, capabilities=Capabilities(full_object_crc=False)) as hostile:
        upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a"})
        hostile.proxy.add(FlipUpload(times=None, at=1), PART_1)
        with pytest.raises(StorageError) as raised:
            await hostile.store.upload_part(key, upload_id, 1, [b"archive"])
        assert raised.value.code == ErrorCode.STORE_UNAVAILABLE
        assert await hostile.store.list_parts(key, upload_id) == []


async def test_store_without_crc(s3_server: S3Server, bucket: str, key: str) -> None:
    """Without the capability nothing of a checksum is declared or sent, and the archive is complete all the same."""
    async with hostile_store(s3_server, bucket, capabilities=Capabilities(full_object_crc=False)) as hostile:
        upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a"})
        parts = [
            await hostile.store.upload_part(key, upload_id, number, [body])
            for number, body in enumerate([DATA, b"x"], 1)
        ]
        info = await hostile.store.complete_upload(key, upload_id, parts, archive_id="a")
        assert info.size_bytes == len(DATA) + 1
        await hostile.store.put_if(f"{key}.meta", b"manifest", etag=None)
        sent = {name.lower() for each in hostile.proxy.log if each.method in ("PUT", "POST") for name in each.headers}
        assert not [name for name in sent if "checksum" in name]
        assert "content-md5" in sent


async def test_wrong_checksum_of_the_whole(hostile: Hostile, key: str) -> None:
    """Parts whose checksums do not make the stored object are refused at completion; nothing appears."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a"})
    part = await hostile.store.upload_part(key, upload_id, 1, [b"archive"])
    wrong = UploadedPart(1, part.size_bytes, part.etag, checksum([b"another"]))
    with pytest.raises(UploadLost):
        await hostile.store.complete_upload(key, upload_id, [wrong], archive_id="a")
    assert await hostile.truth.head(key) is None


async def test_cut_upload_is_sent_again(hostile: Hostile, key: str) -> None:
    """A part that breaks off is sent anew from its first byte, by the library."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a"})
    cut = hostile.proxy.add(CutRequest(at=2_000_000), PART_1)
    part = await hostile.store.upload_part(key, upload_id, 1, [DATA[:MIB], DATA[MIB:]])
    assert cut.met == 1
    assert hostile.proxy.received_by_part(key) == {1: 2_000_000 + len(DATA)}
    info = await hostile.store.complete_upload(key, upload_id, [part], archive_id="a")
    assert info.crc64 == checksum([DATA])


@pytest.mark.parametrize("at", [0, 1, 1_234_567, len(DATA) - 1])
async def test_upload_that_always_breaks_off(hostile: Hostile, key: str, at: int) -> None:
    """A part that never arrives whole is an error, and the store holds nothing of it."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a"})
    hostile.proxy.add(CutRequest(times=None, at=at), PART_1)
    with pytest.raises(StorageError) as raised:
        await hostile.store.upload_part(key, upload_id, 1, [DATA])
    assert raised.value.code == ErrorCode.STORE_UNAVAILABLE
    assert await hostile.truth.list_parts(key, upload_id) == []


@pytest.mark.parametrize("at", [0, 1_000_000])
async def test_stalled_upload_is_given_up(s3_server: S3Server, bucket: str, key: str, at: int) -> None:
    """An upload that nobody takes is bounded by its size: the read timeout does not run while it is sent."""
    soon = timedelta(seconds=0.3)
    async with hostile_store(
        s3_server, bucket, connect_timeout=soon, read_timeout=soon, slowest_upload=100 * MIB
    ) as hostile:
        upload_id = await hostile.truth.create_upload(key, {ARCHIVE_ID: "a"})
        hostile.proxy.add(CutRequest(times=None, at=at, stall=True), PART_1)
        with pytest.raises(StorageError) as raised:
            await hostile.store.upload_part(key, upload_id, 1, [DATA, DATA, DATA, DATA])
        assert raised.value.code == ErrorCode.STORE_UNAVAILABLE
        hostile.proxy.clear()
        assert await hostile.store.head(key) is None


async def test_late_part_of_an_aborted_upload(hostile: Hostile, key: str) -> None:
    """A part of an older attempt that arrives after its upload was aborted goes nowhere."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a"})
    held = hostile.proxy.add(Hold(), PART_1)
    late = asyncio.create_task(hostile.store.upload_part(key, upload_id, 1, [b"late"]))
    await held.reached.wait()
    await hostile.truth.abort_upload(key, upload_id)
    held.release.set()
    with pytest.raises(UploadLost):
        await late
    assert await hostile.truth.list_uploads(key) == []
    assert await hostile.truth.head(key) is None


async def test_late_completion_of_an_aborted_upload(hostile: Hostile, key: str) -> None:
    """A completion that arrives after its upload was aborted does not replace what stands there."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "old"})
    part = await hostile.store.upload_part(key, upload_id, 1, [b"old"])
    held = hostile.proxy.add(Hold(), COMPLETE)
    late = asyncio.create_task(hostile.store.complete_upload(key, upload_id, [part], archive_id="old"))
    await held.reached.wait()
    await hostile.truth.abort_upload(key, upload_id)
    await hostile.truth.put_if(key, b"newer", etag=None)
    held.release.set()
    with pytest.raises(UploadLost):
        await late
    assert (await hostile.truth.get(key) or [b""])[0] == b"newer"


async def test_part_twice_in_the_listing(hostile: Hostile, key: str) -> None:
    """A part that arrived twice may be listed twice; what it is completed with is what the store answered."""
    upload_id = await hostile.store.create_upload(key, {ARCHIVE_ID: "a"})
    for body in (b"first", b"second"):
        part = await hostile.store.upload_part(key, upload_id, 1, [body])
    listed = await hostile.store.list_parts(key, upload_id)
    assert listed is not None
    assert (1, 6, part.etag) in [(each.number, each.size_bytes, each.etag) for each in listed]


def listing(key: str, upload_ids: list[str], *, truncated: bool) -> bytes:
    """A page of open uploads without markers, as SeaweedFS answers it."""
    uploads = "".join(f"<Upload><Key>{key}</Key><UploadId>{each}</UploadId></Upload>" for each in upload_ids)
    end = f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"
    return f"<ListMultipartUploadsResult>{uploads}{end}</ListMultipartUploadsResult>".encode()


async def test_uploads_are_aborted_page_by_page(hostile: Hostile, key: str) -> None:
    """A page that says there is more, and not where, is aborted, and the listing begun anew."""
    mine = [await hostile.store.create_upload(key, {ARCHIVE_ID: "a"}) for _ in range(3)]
    page = Reply(status=200, body=listing(key, mine[:1], truncated=True))
    hostile.proxy.add(page, on(method="GET", query="uploads"))
    assert await abort_uploads(hostile.store, key) == 3
    assert page.met == 1
    assert await hostile.truth.list_uploads(key) == []


async def test_abort_that_leads_nowhere_ends(hostile: Hostile, key: str) -> None:
    """A store that keeps listing what was aborted is an error, not an endless loop."""
    page = Reply(times=None, status=200, body=listing(key, ["1"], truncated=False))
    hostile.proxy.add(page, on(method="GET", query="uploads"))
    hostile.proxy.add(Reply(times=None, status=204, code=None), on(method="DELETE"))
    with pytest.raises(StorageError) as raised:
        await abort_uploads(hostile.store, key)
    assert raised.value.code == ErrorCode.STORE_UNAVAILABLE


@pytest.fixture
def own_server(s3_server: S3Server, tmp_path: Path) -> Iterator[S3Server]:
    """Another of the same kind, not started yet."""
    server = type(s3_server)(tmp_path / "data", buckets=["archives"])
    yield server
    server.stop()


async def test_server_killed_in_the_middle(own_server: S3Server, key: str) -> None:
    """Accepted parts outlive a kill of the server; the upload is continued and completed."""
    await asyncio.to_thread(own_server.start)
    async with open_store(settings_of(own_server, "archives")) as store:
        upload_id = await store.create_upload(key, {ARCHIVE_ID: "a"})
        first = await store.upload_part(key, upload_id, 1, [DATA])
        sending = asyncio.create_task(store.upload_part(key, upload_id, 2, [DATA]))
        await asyncio.to_thread(own_server.kill)
        [outcome] = await asyncio.gather(sending, return_exceptions=True)
        await asyncio.to_thread(own_server.start)
        # It may have been quicker than the kill.
        if not isinstance(outcome, UploadedPart):
            assert isinstance(outcome, StorageError)
            assert outcome.code == ErrorCode.STORE_UNAVAILABLE
            outcome = await store.upload_part(key, upload_id, 2, [DATA])
        second = outcome
        listed = await store.list_parts(key, upload_id)
        assert listed is not None
        assert {first.etag, second.etag} <= {each.etag for each in listed}
        info = await store.complete_upload(key, upload_id, [first, second], archive_id="a")
        assert info.crc64 == combined([first, second])
        await asyncio.to_thread(own_server.restart)
        assert await store.head(key) == info


def test_part_body_reads_like_a_file() -> None:
    """Buffers in a row read like one file, in pieces of any size and after any seek."""
    buffers = [b"abc", b"", b"defgh", b"i"]
    body, plain = PartBody(buffers), io.BytesIO(b"".join(buffers))
    assert body.seek(0, io.SEEK_END) == plain.seek(0, io.SEEK_END) == 9
    for start in range(10):
        for size in range(1, 11):
            body.seek(start)
            plain.seek(start)
            pieces = []
            while piece := body.read(size):
                pieces.append(piece)
            assert b"".join(pieces) == plain.read()
            assert body.tell() == plain.tell()
