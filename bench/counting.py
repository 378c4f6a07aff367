"""How many requests a command makes: a relay before the server that reads their heads, in a run that is not timed."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from bench.framing import Begun, Framer

_CHUNK_BYTES = 1 << 18


class RequestCounter:
    """Listens on a free port of loopback, within a ``with`` block, in a thread of its own. ``methods``: requests seen,
    by method. Signatures stay valid: bytes are passed on as they are."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="counter", daemon=True)
        self.methods: Counter[str] = Counter()
        self.port = 0

    @property
    def endpoint_url(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._target_port)
            await asyncio.gather(self._pump(reader, forth, Framer()), self._pump(back, writer, None))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, framer: Framer | None) -> None:
        try:
            while data := await source.read(_CHUNK_BYTES):
                for event in framer.feed(memoryview(data)) if framer else ():
                    if isinstance(event, Begun):
                        self.methods[event.request.method] += 1
                target.write(data)
                await target.drain()
        finally:
            target.close()
