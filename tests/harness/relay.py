"""Passes connections on to a server elsewhere: for containers, which do not reach our loopback, and to exchange it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Self


class Relay:
    """Listens at ``host``, on a free port, for as long as the block lasts; runs in a thread of its own."""

    def __init__(self, host: str, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._host = host
        self._target = target_host, target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self.port = 0

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self._host}:{self.port}"

    @property
    def url(self) -> str:
        """Of a server of HTTP behind it."""
        return f"http://{self.address}"

    @property
    def target(self) -> tuple[str, int]:
        """Host and port that the next connection is passed on to."""
        return self._target

    async def passing(self, data: bytes) -> None:
        """Called with what goes to the target, before it goes."""

    @contextlib.contextmanager
    def led_to(self, target_host: str, target_port: int) -> Iterator[None]:
        """While it lasts, who calls this address comes to another server. Connections are cut, before and after."""
        before = self._target
        self._turn((target_host, target_port))
        try:
            yield
        finally:
            self._turn(before)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._serve, self._host, 0)
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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            back, forth = await asyncio.open_connection(*self.target)
            await asyncio.gather(_pump(reader, forth, self.passing), _pump(back, writer, _nothing))
        writer.close()

    def _turn(self, target: tuple[str, int]) -> None:
        self._target = target
        asyncio.run_coroutine_threadsafe(self._cut_all(), self._loop).result()

    async def _end(self) -> None:
        self._server.close()
        await self._cut_all()

    async def _cut_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed says so in the loop's next round


async def _nothing(_: bytes) -> None:
    """Responses pass unseen."""


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, passing: Callable[[bytes], Awaitable[None]]
) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 18):
                await passing(data)
                target.write(data)
                await target.drain()
    finally:
        target.close()
