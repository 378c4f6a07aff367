"""The server that keeps nothing, and the counter of requests before it, as our own client meets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activities.objectstore.base import ARCHIVE_ID
from activities.objectstore.client import S3Settings
from activities.objectstore.s3 import S3Store, open_store
from bench.counting import RequestCounter
from bench.framing import Begun, Ended, Framer
from bench.sink import Sink

PARTS = (b"a" * (6 << 20), b"b" * 1000)


@asynccontextmanager
async def sink_store(sink: Sink, endpoint_url: str) -> AsyncIterator[S3Store]:
    """Our client on it."""
    settings = S3Settings("sink", endpoint_url, access_key="a", secret_key="s", addressing_style="path")
    async with open_store(settings) as store:
        yield store


@asynccontextmanager
async def listening(sink: Sink) -> AsyncIterator[int]:
    """Its port."""
    async with await sink.listen() as server:
        yield server.sockets[0].getsockname()[1]


async def upload(store: S3Store) -> None:
    """A multipart upload, and a look at what it made."""
    upload_id = await store.create_upload("k", {ARCHIVE_ID: "id"})
    parts = [await store.upload_part("k", upload_id, number, [data]) for number, data in enumerate(PARTS, 1)]
    info = await store.complete_upload("k", upload_id, parts, archive_id="id")
    assert info.size_bytes == sum(map(len, PARTS))
    assert info.crc64 is not None


async def test_upload_into_sink() -> None:
    """It is accepted, and HEAD tells size, metadata and checksum."""
    sink = Sink()
    async with listening(sink) as port, sink_store(sink, f"http://127.0.0.1:{port}") as store:
        await upload(store)
        assert sink.requests == 5


async def test_what_was_sent_is_gone() -> None:
    """What was put has a size, what nobody put is not there."""
    sink = Sink()
    async with listening(sink) as port, sink_store(sink, f"http://127.0.0.1:{port}") as store:
        await store.put_if("small", b"12345", etag=None)
        found = await store.head("small")
        assert found is not None
        assert found.size_bytes == 5
        assert await store.head("other") is None


async def test_counter_sees_every_request() -> None:
    """And passes it on unchanged, bodies of any length included."""
    sink = Sink()
    async with listening(sink) as port:
        with RequestCounter(port) as counter:
            async with sink_store(sink, counter.endpoint_url) as store:
                await upload(store)
            assert counter.methods == {"POST": 2, "PUT": 2, "HEAD": 1}


def test_framer_takes_bytes_as_they_come() -> None:
    """Cut anywhere, the same requests: a length, chunks with trailers, signed chunks, and no body."""
    stream = (
        b"PUT /b/k%20y?partNumber=1&uploadId=u HTTP/1.1\r\nContent-Length: 5\r\nX-Amz-Meta-A: B\r\n\r\nab\r\nc"
        b"PUT /b/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n"
        b"10\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\n"
        b"PUT /b/k HTTP/1.1\r\nContent-Length: 9\r\nX-Amz-Decoded-Content-Length: 2\r\n\r\n123456789"
        b"HEAD /b/k HTTP/1.1\r\n\r\n"
    )
    for size in (1, 2, 3, 7, 50, len(stream)):
        framer = Framer()
        events = [
            event for at in range(0, len(stream), size) for event in framer.feed(memoryview(stream)[at : at + size])
        ]
        assert [event.body_bytes for event in events if isinstance(event, Ended)] == [5, 19, 2, 0]
        begun = [event.request for event in events if isinstance(event, Begun)]
        assert [each.method for each in begun] == ["PUT", "PUT", "PUT", "HEAD"]
        assert (begun[0].path, begun[0].query["partNumber"], begun[0].headers["x-amz-meta-a"]) == ("/b/k y", "1", "B")


async def test_sink_answers_who_waits_to_be_asked() -> None:
    """Clients that send `Expect` hold their body back until then."""
    async with listening(Sink()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT /sink/k HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        await writer.wait_closed()
