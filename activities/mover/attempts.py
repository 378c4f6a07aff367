"""One attempt at a time in a mover: a new one first ends the old one, with its children, and waits for that.

A step whose time ran out is tried again while its code may still run. On restore that would be two writers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator

from activities.dataplane.archiver import GIVE_UP_STATUS

END_SECONDS = 20.0

log = logging.getLogger(__name__)


class Attempts:
    """The attempt that runs in this mover, if one does."""

    def __init__(self) -> None:
        self._current: asyncio.Task[object] | None = None
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """The block runs alone. Where the old attempt does not end, the mover ends itself, and the attempt with it."""
        async with self._turn:
            if self._current is not None and not self._current.done():
                await self._end(self._current)
            self._current = task = asyncio.current_task()
        try:
            yield
        finally:
            if self._current is task:
                self._current = None

    async def _end(self, old: asyncio.Task[object]) -> None:
        old.cancel()
        await asyncio.wait([old], timeout=END_SECONDS)
        if not old.done():
            log.error("an old attempt does not end; the mover gives up")
            os._exit(GIVE_UP_STATUS)
