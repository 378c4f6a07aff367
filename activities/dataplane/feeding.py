"""Stored bytes from the store to the archiver: as many segments at a time as it asks for, each from its first byte.

Segments that lie side by side are read with one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from activities.dataplane.archivemap import LARGE, Numbered
from activities.dataplane.archiver import Archiver
from activities.dataplane.manifest import StoredObject
from activities.objectstore.base import ObjectInfo, ObjectStore
from activities.runtime.cancellation import run_together

RUN_BYTES = 8 << 20
"""Of one request, where segments are shorter."""
PAYLOAD_BYTES = 256 << 10
HEADER_BYTES = 5 << 20
"""Stored bytes within which the tar header of a large file ends: at most 4 MiB, even if they do not compress."""
_MOST_WANTED = 256

Said = Callable[[dict[str, Any]], None]


class Feeder:
    """Feeds segments of one object into an archiver that runs, and listens to it."""

    def __init__(self, archiver: Archiver, store: ObjectStore, stored: StoredObject | ObjectInfo) -> None:
        self._archiver = archiver
        self._store = store
        self._stored = stored
        self._wanted = asyncio.Semaphore(0)
        self._read_bytes = 0

    async def feed(
        self,
        segments: Sequence[Numbered],
        *,
        lanes: int = 1,
        last: int = 0,
        headers_only: bool = False,
        said: Said = lambda line: None,
        progress: Callable[[int], None] = lambda stored_bytes: None,
    ) -> None:
        """All of them, then the end of the input; returns when the archiver has ended well.

        ``lanes``: requests at a time; with one, segments come in order. ``last``: the number of the archive's last one.
        ``headers_only``: of large files no more than ``HEADER_BYTES``. ``said`` gets what the archiver says,
        ``progress`` the bytes read, also whenever the archiver tells that it got on: without it a step of which all
        bytes are read would look as if it hung.
        """
        runs = iter([[each] for each in segments] if headers_only else list(_runs(segments)))
        left = lanes

        async def lane() -> None:
            nonlocal left
            for run in runs:
                is_cut = headers_only and run[0].segment.kind == LARGE
                await self._feed_run(run, last, HEADER_BYTES if is_cut else None, progress)
            left -= 1
            if not left:
                self._archiver.end_input()

        async def listen() -> None:
            async for frame in self._archiver.frames():
                for _ in range(min(frame.line.get("want", 0), _MOST_WANTED)):
                    self._wanted.release()
                if "progress" in frame.line:
                    progress(self._read_bytes)
                said(frame.line)

        await run_together([listen(), *(lane() for _ in range(lanes))])

    async def _feed_run(
        self, run: Sequence[Numbered], last: int, most: int | None, progress: Callable[[int], None]
    ) -> None:
        first = run[0].segment
        length = run[-1].segment.offset + run[-1].segment.stored_bytes - first.offset
        await self._wanted.acquire()  # before the request: a response that waits is cut off
        opened = False
        source_bytes = self._read(first.offset, length if most is None else min(length, most))
        async with aclosing(source_bytes) as pieces:  # type: ignore[type-var]
            source = _Pieces(pieces)
            for item in run:
                if opened:
                    await self._wanted.acquire()
                opened = True
                described = {
                    "number": item.number,
                    "segment": item.segment.model_dump(mode="json", exclude_none=True),
                    "is_last": item.number == last,
                }
                await self._archiver.send({"open": described})
                async for piece in source.take(item.segment.stored_bytes):
                    await self._archiver.send({"data": item.number}, piece)
                    self._read_bytes += len(piece)
                    progress(self._read_bytes)
                await self._archiver.send({"close": item.number})
            await anext(pieces, b"")  # only an answer read to its end leaves its connection to the next request

    def _read(self, offset: int, length: int) -> AsyncIterator[bytes]:
        stored = self._stored
        return self._store.read(
            stored.key, offset=offset, length=length, etag=stored.etag, version_id=stored.version_id
        )


class _Pieces:
    """A stream of bytes, taken by lengths."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._rest = memoryview(b"")

    async def take(self, length: int) -> AsyncIterator[memoryview]:
        """The next ``length`` bytes, or what is left, in pieces of at most ``PAYLOAD_BYTES``."""
        while length:
            if not self._rest:
                self._rest = memoryview(await anext(self._source, b""))
                if not self._rest:
                    return
            step = min(length, len(self._rest), PAYLOAD_BYTES)
            yield self._rest[:step]
            self._rest = self._rest[step:]
            length -= step


async def feed_whole(
    archiver: Archiver,
    store: ObjectStore,
    info: ObjectInfo,
    *,
    said: Said,
    progress: Callable[[int], None] = lambda stored_bytes: None,
) -> None:
    """The whole object as one stream, without segments; returns when the archiver has ended well."""

    done = 0

    async def send() -> None:
        nonlocal done
        source = store.read(info.key, etag=info.etag, version_id=info.version_id)
        async with aclosing(source) as pieces:  # type: ignore[type-var]
            async for piece in _cut(pieces):
                await archiver.send({"data": 0}, piece)
                done += len(piece)
                progress(done)
        await archiver.send({"close": 0})
        archiver.end_input()

    async def listen() -> None:
        async for frame in archiver.frames():
            if "progress" in frame.line:  # it may have work left when all is read
                progress(done)
            said(frame.line)

    await run_together([listen(), send()])


async def _cut(pieces: AsyncIterator[bytes]) -> AsyncIterator[memoryview]:
    async for piece in pieces:
        for at in range(0, len(piece), PAYLOAD_BYTES):
            yield memoryview(piece)[at : at + PAYLOAD_BYTES]


def _runs(segments: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Neighbours together, up to ``RUN_BYTES``."""
    run: list[Numbered] = []
    size = 0
    for item in segments:
        segment = item.segment
        is_next = bool(run) and run[-1].number + 1 == item.number
        if run and (not is_next or size + segment.stored_bytes > RUN_BYTES):
            yield run
            run, size = [], 0
        run.append(item)
        size += segment.stored_bytes
    if run:
        yield run
