"""The server that keeps nothing, and the counter of requests before it, as our own client meets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from activities.objectstore.base import ARCHIVE_ID
from activities.objectstore.client import S3Settings
from activities.objectstore.s3 import S3Store, open_store
from bench.counting import RequestCounter
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
    runner = web.AppRunner(sink.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


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
            async with sink_store(sink, counter.url) as store:
                await upload(store)
            assert counter.methods == {"POST": 2, "PUT": 2, "HEAD": 1}


async def test_a_body_in_signed_chunks_counts_as_what_it_means() -> None:
    """Chunked, with trailers, it is a little longer."""
    async with listening(Sink()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"PUT /b/k%20y HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX-Amz-Decoded-Content-Length: 2\r\n\r\n"
            b"3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\n"
            b"HEAD /b/k%20y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
        assert b"Content-Length: 2\r\n" in await reader.read()
        writer.close()


async def test_sink_answers_who_waits_to_be_asked() -> None:
    """Clients that send `Expect` hold their body back until then."""
    async with listening(Sink()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT /sink/k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        await writer.wait_closed()
