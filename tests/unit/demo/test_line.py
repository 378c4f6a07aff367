"""The line of the demo passes on what it gets, and counts what goes to the store."""

from __future__ import annotations

import asyncio

from examples.demo.line import Line

SENT, ANSWER = b"s" * 1_000_000, b"a" * 300_000


async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that reads all, answers, and closes."""
    received = await reader.readexactly(len(SENT))
    assert received == SENT
    writer.write(ANSWER)
    await writer.drain()
    writer.close()


async def exchange(line: Line) -> bytes:
    """What comes back through the line."""
    host, _, port = line.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(SENT)
        await writer.drain()
        return await reader.read(-1)
    finally:
        writer.close()


async def test_bytes_pass_and_are_counted() -> None:
    """Those to the store, of all connections, fast or slow; answers are not counted."""
    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with Line(lambda: f"http://127.0.0.1:{port}") as line:
            assert await exchange(line) == ANSWER
            assert line.sent_bytes == len(SENT)
            line.bytes_per_second = 100 * len(SENT)
            assert list(await asyncio.gather(exchange(line), exchange(line))) == [ANSWER, ANSWER]
            assert line.sent_bytes == 3 * len(SENT)


async def test_a_slow_line_stands_between() -> None:
    """While it has not let the bytes pass, the server has not got them."""
    got = 0
    came = asyncio.Event()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        while data := await reader.read(1 << 16):
            got += len(data)
            came.set()
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with Line(lambda: f"http://127.0.0.1:{port}") as line:
            line.bytes_per_second = 1
            sending = asyncio.create_task(exchange(line))
            while line.sent_bytes == 0:  # noqa: ASYNC110 - of another task, which tells nobody
                await asyncio.sleep(0.01)
            assert 0 < line.sent_bytes < len(SENT)
            assert got == 0
            assert not came.is_set()
            sending.cancel()
            await asyncio.wait([sending])
        await asyncio.sleep(0.1)  # the server hears of the end, in this loop


async def test_a_store_that_is_not_there_ends_the_connection() -> None:
    """As without a line; others are served."""
    with Line(lambda: "http://127.0.0.1:1") as line:
        assert await exchange_or_nothing(line) == b""


async def exchange_or_nothing(line: Line) -> bytes:
    """The answer, or nothing for a connection that was closed or reset."""
    try:
        return await exchange(line)
    except OSError:
        return b""
