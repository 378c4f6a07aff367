"""Where the work on one segment runs: what it is given there, and what may give it.

Work is plain blocking code. It takes stored bytes from its port, sends stored bytes out by it, and returns an answer;
whether a thread or a process of its own runs it makes no difference to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from activities.dataplane.bridge import ChunkBridge
from activities.dataplane.threads import Stop, run_blocking

T = TypeVar("T")
P = ParamSpec("P")


class Port(Protocol):
    """What work is given. Iterate over it for the stored bytes, each piece valid until the next is asked for."""

    stop: Stop

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """The stored bytes. Raises what their source raises, and ``Stopped``."""

    def emit(self, data: bytes) -> None:
        """Send stored bytes out."""


Work = Callable[Concatenate[Port, P], T]


class Runner(Protocol):
    """Runs work. A cancellation stops it, and is raised when it is really over."""

    async def run(
        self,
        work: Work[P, T],
        /,
        *arguments: Any,
        source: AsyncIterator[bytes] | None = None,
        on_chunk: Callable[[int], None] | None = None,
        emitted: list[bytes | bytearray] | None = None,
    ) -> T:
        """What ``work`` answers. ``source``: of the stored bytes, closed at the end. ``on_chunk`` gets the length of
        each piece that was taken from it. ``emitted`` takes what the work sends out."""


class InThreads:
    """A ``Runner`` that takes a thread of this process for each."""

    async def run(
        self,
        work: Work[P, T],
        /,
        *arguments: Any,
        source: AsyncIterator[bytes] | None = None,
        on_chunk: Callable[[int], None] | None = None,
        emitted: list[bytes | bytearray] | None = None,
    ) -> T:
        """See ``Runner.run``."""
        async with ChunkBridge(source or nothing(), on_chunk) as bridge:

            def begin(stop: Stop) -> T:
                with stop.on_stop(bridge.stop):
                    return work(_ThreadPort(bridge, stop, [] if emitted is None else emitted), *arguments)  # type: ignore[call-arg]

            return await run_blocking(begin)


IN_THREADS = InThreads()


class _ThreadPort:
    def __init__(self, bridge: ChunkBridge, stop: Stop, emitted: list[bytes | bytearray]) -> None:
        self._bridge = bridge
        self.stop = stop
        self.emit = emitted.append

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._bridge)


@asynccontextmanager
async def closing(source: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Close what may hold a connection."""
    try:
        yield
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""
