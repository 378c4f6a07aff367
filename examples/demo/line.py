"""The line between worker, movers and store: it counts what is sent to the store, and can be made slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 1 << 16


class Line:
    """``async with Line(target)`` listens on a free port of loopback and passes each connection on to ``target()``.

    ``target`` is called for each connection, so the server behind it may be started later.
    """

    def __init__(self, target: Callable[[], str]) -> None:
        self._target = target
        self._connections: set[asyncio.Task[None]] = set()
        self._free_at = 0.0
        self.bytes_per_second: int | None = None
        """How fast all connections together may send to the target; ``None``: as fast as they can."""
        self.sent_bytes = 0
        """What was sent to the target so far, by connections that were cut too."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_CHUNK)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                target = urlsplit(self._target())
                back, forth = await asyncio.open_connection(target.hostname, target.port, limit=_CHUNK)
                await asyncio.gather(_pump(reader, forth, self._pass), _pump(back, writer, _nothing))
        finally:
            writer.close()
            self._connections.discard(connection)

    async def _pass(self, size: int) -> None:
        """Count, and wait until that many bytes may go."""
        self.sent_bytes += size
        if self.bytes_per_second is not None:
            now = asyncio.get_running_loop().time()
            self._free_at = max(now, self._free_at) + size / self.bytes_per_second
            await asyncio.sleep(self._free_at - now)


async def _nothing(size: int) -> None:
    """Responses are neither counted nor slowed."""


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, passing: Callable[[int], Awaitable[None]]
) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                await passing(len(data))
                target.write(data)
                await target.drain()
    finally:
        target.close()
