"""From the event loop into a thread: a blocking reader over an async stream of chunks.

What writes into a volume runs as plain blocking code in confined threads, while the network lives on the event
loop. One chunk is in flight at a time, so a slow disk slows the download and memory stays flat.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Iterator

from activities.dataplane.threads import Stopped


class ChunkBridge:
    """Iterate in a thread over what ``source`` yields on the loop that made this object.

    ``on_chunk`` is called on the loop with the length of each chunk. Leaving the context closes the source.
    """

    def __init__(self, source: AsyncIterator[bytes], on_chunk: Callable[[int], None] | None = None) -> None:
        self._source = source
        self._on_chunk = on_chunk
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._reading: asyncio.Task[bytes | None] | None = None

    async def __aenter__(self) -> ChunkBridge:
        return self

    async def __aexit__(self, *_: object) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    def __iter__(self) -> Iterator[bytes]:
        """In the thread. Raises what the source raises, and ``Stopped``."""
        while True:
            pending = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            try:
                chunk = pending.result()
            except concurrent.futures.CancelledError as error:
                raise Stopped from error
            if chunk is None:
                return
            yield chunk

    async def _next(self) -> bytes | None:
        if self._stopped:
            raise Stopped
        # Noted on the loop: the thread may come to hold its future only after the read has begun and `stop` was called.
        self._reading = asyncio.current_task()
        chunk = await anext(self._source, None)
        if chunk is not None and self._on_chunk is not None:
            self._on_chunk(len(chunk))
        return chunk

    def stop(self) -> None:
        """On the loop: the thread's next read raises ``Stopped``, and one that waits is woken."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()
