"""From the event loop into a thread, and out of it at any moment."""

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from activities.dataplane.bridge import ChunkBridge
from activities.dataplane.threads import Stopped


class Stalling:
    """One chunk, then silence."""

    def __init__(self) -> None:
        self.stalled = asyncio.Event()
        self.closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """What the bridge reads."""
        try:
            yield b"one"
            self.stalled.set()
            await asyncio.Event().wait()
        finally:
            self.closed = True


async def test_chunks_arrive_in_order_and_are_counted() -> None:
    async def source() -> AsyncIterator[bytes]:
        for chunk in (b"a", b"bb", b"ccc"):
            yield chunk

    lengths: list[int] = []
    async with ChunkBridge(source(), lengths.append) as chunks:
        assert await asyncio.to_thread(list, chunks) == [b"a", b"bb", b"ccc"]
    assert lengths == [1, 2, 3]


async def test_a_stop_wakes_the_thread_that_waits() -> None:
    source = Stalling()
    async with ChunkBridge(source.chunks()) as chunks:
        thread = asyncio.create_task(asyncio.to_thread(list, chunks))
        await source.stalled.wait()
        chunks.stop()
        with pytest.raises(Stopped):
            await asyncio.wait_for(thread, 20)
    assert source.closed


async def test_a_stop_wakes_a_thread_that_is_about_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop may begin a read, and be told to stop, before the thread that asked for it runs on."""
    stopped = threading.Event()
    submit = asyncio.run_coroutine_threadsafe

    def late(
        work: Coroutine[Any, Any, bytes | None], loop: asyncio.AbstractEventLoop
    ) -> concurrent.futures.Future[bytes | None]:
        future = submit(work, loop)
        asked.append(future)
        if len(asked) == 2:  # the read that stalls
            stopped.wait(20)
        return future

    asked: list[object] = []
    source = Stalling()
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", late)
    async with ChunkBridge(source.chunks()) as chunks:
        thread = asyncio.create_task(asyncio.to_thread(list, chunks))
        await source.stalled.wait()
        chunks.stop()
        stopped.set()
        with pytest.raises(Stopped):
            await asyncio.wait_for(thread, 20)
    assert source.closed


async def test_leaving_closes_a_source_that_was_not_read_to_its_end() -> None:
    source = Stalling()
    async with ChunkBridge(source.chunks()) as chunks:
        assert await asyncio.to_thread(next, iter(chunks)) == b"one"
        assert not source.closed
    assert source.closed
