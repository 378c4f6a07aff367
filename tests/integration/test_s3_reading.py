"""Reading past a broken network: every byte, or an error; never a short success, never another object's bytes."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from activities.objectstore.base import PreconditionFailed
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.s3_faults import CutResponse, DropAnswer, Fault, FlipStored, Reply, Silence, Truncate, on
from tests.harness.s3server import S3Server
from tests.harness.seaweed import Hostile, hostile_store, new_bucket

GET = on(method="GET")
SIZE = 3_000_000
DATA = secrets.token_bytes(SIZE)


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
async def stored(hostile: Hostile) -> tuple[str, str]:
    """Key and ETag of an object with ``DATA``."""
    key = f"{secrets.token_hex(6)}/home.tar.gz"
    return key, (await hostile.truth.put_if(key, DATA, etag=None)).etag


async def read(hostile: Hostile, stored: tuple[str, str], offset: int = 0, length: int | None = None) -> bytes:
    """The bytes of a read, joined."""
    key, etag = stored
    return b"".join([chunk async for chunk in hostile.store.read(key, offset=offset, length=length, etag=etag)])


PASSING: dict[str, Fault] = {
    "cut before the first byte": CutResponse(at=0),
    "cut in the middle": CutResponse(at=1_234_567),
    "cut before the last byte": CutResponse(at=SIZE - 501),
    "cut without an announced length": CutResponse(at=1_000_000, hide_length=True),
    "answer lost": DropAnswer(),
    "503": Reply(),
    "silence": Silence(),
}


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("span", [(0, None), (500, None), (500, SIZE - 500)], ids=["whole", "from", "range"])
async def test_passing_faults_are_read_over(
    hostile: Hostile, stored: tuple[str, str], name: str, span: tuple[int, int | None]
) -> None:
    """A read that is interrupted ends with all its bytes, in order."""
    fault = PASSING[name]
    fault.met = 0
    hostile.proxy.add(fault, GET)
    assert await read(hostile, stored, *span) == DATA[span[0] :]
    assert fault.met == 1


async def test_resumed_at_the_offset(hostile: Hostile, stored: tuple[str, str]) -> None:
    """What was received is not fetched again, and the continuation names the ETag."""
    hostile.proxy.add(CutResponse(at=2_000_000, times=1), GET)
    await read(hostile, stored)
    first, second = hostile.proxy.seen(GET)
    assert "Range" not in first.headers
    assert int(second.headers["Range"].removeprefix("bytes=").partition("-")[0]) <= 2_000_000
    assert first.sent + second.sent <= SIZE + 256 * 1024
    assert second.headers["If-Match"] == f'"{stored[1]}"'


async def test_many_cuts_with_progress(hostile: Hostile, stored: tuple[str, str]) -> None:
    """A bad line is no reason to give up while bytes arrive."""
    fault = hostile.proxy.add(CutResponse(at=300_000, times=8), GET)
    assert await read(hostile, stored) == DATA
    assert fault.met == 8


@pytest.mark.parametrize(
    "fault",
    [CutResponse(times=None, at=0), Reply(times=None), Truncate(times=None, keep=0)],
    ids=["cut", "503", "empty"],
)
async def test_without_progress_it_fails(hostile: Hostile, stored: tuple[str, str], fault: Fault) -> None:
    """A read that brings nothing more ends in an error, soon enough."""
    hostile.proxy.add(fault, GET)
    with pytest.raises(StorageError) as raised:
        await read(hostile, stored, 10, 1000)
    assert raised.value.code == ErrorCode.STORE_UNAVAILABLE


async def test_shorter_length_announced(hostile: Hostile, stored: tuple[str, str]) -> None:
    """An answer that announces and holds less than its range says is fetched again from where it ended."""
    hostile.proxy.add(Truncate(keep=1000), GET)
    assert await read(hostile, stored, 10, 5000) == DATA[10:5010]


async def test_range_ignored(hostile: Hostile, stored: tuple[str, str]) -> None:
    """A store that answers the whole object to a range is refused, not read from the wrong place."""
    etag = f'"{stored[1]}"'
    hostile.proxy.add(Reply(status=200, body=b"x" * 100, headers={"ETag": etag}), GET)
    with pytest.raises(StorageError) as raised:
        await read(hostile, stored, 10, 100)
    assert raised.value.code == ErrorCode.UNSUPPORTED


async def test_condition_ignored(hostile: Hostile, stored: tuple[str, str]) -> None:
    """A store that ignores If-Match is found out by the ETag of its answer."""
    hostile.proxy.add(Reply(status=200, body=b"x" * 100, headers={"ETag": '"other"'}), GET)
    with pytest.raises(PreconditionFailed):
        await read(hostile, stored)


async def test_replaced_in_the_middle(hostile: Hostile, stored: tuple[str, str]) -> None:
    """An object that is replaced while it is read is not continued with the new one's bytes."""
    key, etag = stored
    hostile.proxy.add(CutResponse(at=1_000_000), GET)
    reading = hostile.store.read(key, etag=etag)
    received = [await anext(reading)]
    await hostile.truth.put_if(key, DATA[::-1], etag=etag)
    with pytest.raises(PreconditionFailed):
        received += [chunk async for chunk in reading]
    assert b"".join(received) == DATA[: len(received[0])]
    assert len(hostile.proxy.seen(GET)) == 2


async def test_abandoned_reads_free_their_connections(s3_server: S3Server, bucket: str) -> None:
    """Reads that nobody finishes do not use up the pool: a later request gets a connection."""
    async with hostile_store(s3_server, bucket, max_pool=2) as hostile:
        key = f"{secrets.token_hex(6)}/x"
        etag = (await hostile.truth.put_if(key, DATA, etag=None)).etag
        for _ in range(5):
            reading = hostile.store.read(key, etag=etag)
            assert await anext(reading)
            await reading.aclose()  # type: ignore[attr-defined]  # the Protocol promises an iterator; it is a generator
        assert await hostile.store.head(key) is not None


async def test_waiting_for_a_connection_is_bounded(s3_server: S3Server, bucket: str) -> None:
    """With every connection taken, a request fails in time and says so; it does not wait for ever."""
    soon = timedelta(seconds=0.5)
    async with hostile_store(s3_server, bucket, max_pool=1, connect_timeout=soon, read_timeout=soon) as hostile:
        key = f"{secrets.token_hex(6)}/x"
        etag = (await hostile.truth.put_if(key, DATA, etag=None)).etag
        reading = hostile.store.read(key, etag=etag)
        await anext(reading)
        with pytest.raises(StorageError) as raised:
            await hostile.store.head(key)
        assert raised.value.code == ErrorCode.STORE_UNAVAILABLE
        await reading.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "fault",
    [CutResponse(at=100), CutResponse(at=100, hide_length=True), Truncate(keep=100), DropAnswer(), Reply(), Silence()],
    ids=["cut", "no length", "shorter", "lost", "503", "silence"],
)
async def test_small_objects_are_whole(hostile: Hostile, fault: Fault) -> None:
    """A record or manifest is answered whole or not at all, whatever happens to the first answer."""
    key = f"{secrets.token_hex(6)}/home.state"
    await hostile.truth.put_if(key, DATA[:5000], etag=None)
    hostile.proxy.add(fault, GET)
    assert (await hostile.store.get(key) or [b""])[0] == DATA[:5000]
    assert fault.met == 1


async def test_small_object_never_short(hostile: Hostile) -> None:
    """Where every answer ends early there is no answer."""
    key = f"{secrets.token_hex(6)}/home.state"
    await hostile.truth.put_if(key, DATA[:5000], etag=None)
    hostile.proxy.add(CutResponse(times=None, at=100, hide_length=True), GET)
    with pytest.raises(StorageError) as raised:
        await hostile.store.get(key)
    assert raised.value.code == ErrorCode.STORE_UNAVAILABLE


async def test_proxy_damages_every_range_alike(hostile: Hostile, stored: tuple[str, str]) -> None:
    """The proxy's rot is seen by readers of ranges and of the whole: what the tests of verification lean on."""
    hostile.proxy.add(FlipStored(at=1_500_000), GET)
    changed = bytearray(DATA)
    changed[1_500_000] ^= 1
    assert await read(hostile, stored, 1_400_000, 200_000) == bytes(changed[1_400_000:1_600_000])
    assert await read(hostile, stored, 0, 1_500_000) == DATA[:1_500_000]


async def test_rot_of_a_small_object(hostile: Hostile) -> None:
    """Where the store answers the checksum that was sent with a small object, other bytes are corrupt."""
    key = f"{secrets.token_hex(6)}/home.state"
    await hostile.truth.put_if(key, DATA[:5000], etag=None)
    hostile.proxy.add(FlipStored(at=77), GET)
    with pytest.raises(StorageError) as raised:
        await hostile.store.get(key)
    assert raised.value.code == ErrorCode.ARCHIVE_CORRUPT


async def test_version_is_read_after_its_successor(s3_server: S3Server) -> None:
    """On a versioned bucket a read by version goes on although the key has moved on."""
    async with hostile_store(s3_server, new_bucket(s3_server, versioned=True)) as hostile:
        info = await hostile.truth.put_if("k", DATA, etag=None)
        hostile.proxy.add(CutResponse(at=1_000_000), GET)
        pieces: list[bytes] = []
        async for chunk in hostile.store.read("k", etag=info.etag, version_id=info.version_id):
            if not pieces:
                await hostile.truth.put_if("k", b"next", etag=info.etag)
            pieces.append(chunk)
        assert b"".join(pieces) == DATA


@pytest.mark.field("D9")
@pytest.mark.parametrize("code", ["InvalidArgument", "NoSuchVersion", None], ids=str)
async def test_a_version_id_that_the_store_calls_invalid_is_absent(
    hostile: Hostile, stored: tuple[str, str], code: str | None
) -> None:
    """400 to a version id of another bucket, as AWS answers: there is no such version. Without one it is an error."""
    key, etag = stored
    hostile.proxy.add(Reply(times=None, status=400, code=code), on(key=key))
    assert await hostile.store.head(key, version_id="of-another-bucket") is None
    assert await hostile.store.get(key, version_id="of-another-bucket") is None
    with pytest.raises(PreconditionFailed):
        await whole(hostile, key, etag, version_id="of-another-bucket")
    with pytest.raises(StorageError):
        await hostile.store.head(key)


async def whole(hostile: Hostile, key: str, etag: str, **which: str) -> bytes:
    """The bytes of an object."""
    return b"".join([chunk async for chunk in hostile.store.read(key, etag=etag, **which)])  # type: ignore[arg-type]
