"""Heartbeats: from progress where bytes move, steady where a step only talks to servers.

A steady beat would hide a wedged transfer, so data activities beat only when something moved. Control steps are
bounded by the time-outs of the calls they make; their beat is what brings them a cancel.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

BEAT_SECONDS = 0.5


class Progress:
    """What a data activity has done so far. Any thread may set it; the event loop sends it."""

    def __init__(self) -> None:
        self.bytes_done = 0
        self.records = b""
        self._moves = 0

    def moved(self, bytes_done: int) -> None:
        """``bytes_done`` in all, of this activity."""
        self.bytes_done = bytes_done
        self._moves += 1

    def stir(self) -> None:
        """Something moved that is not counted in bytes."""
        self._moves += 1

    def accepted(self, records: bytes) -> None:
        """All packed segment records that the store has accepted: what a next attempt need not send again."""
        self.records = records
        self._moves += 1

    @property
    def moves(self) -> int:
        """Grows with every movement."""
        return self._moves

    def details(self) -> dict[str, Any]:
        """What the heartbeat carries: plain JSON."""
        return {"bytes": self.bytes_done, "records": self.records.hex()}


def last_records() -> bytes:
    """The packed records that the attempt before this one left; empty for the first, or if they cannot be read."""
    details = activity.info().heartbeat_details
    try:
        return bytes.fromhex(details[0]["records"])
    except (IndexError, KeyError, TypeError, ValueError):
        return b""


@contextlib.asynccontextmanager
async def beating(progress: Progress) -> AsyncIterator[None]:
    """Within the block a heartbeat follows every movement, at most one each half second."""

    async def beat() -> None:
        seen = -1
        while True:
            if progress.moves != seen:
                seen = progress.moves
                activity.heartbeat(progress.details())
            await asyncio.sleep(BEAT_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        if progress.moves:
            activity.heartbeat(progress.details())  # flushed if the attempt fails: the next one goes on from here


class SteadyHeartbeats(Interceptor):
    """Beats for every control activity while it runs."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """See ``Interceptor``."""
        return _Steady(next)


class _Steady(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        async def beat() -> None:
            while True:
                activity.heartbeat()
                await asyncio.sleep(BEAT_SECONDS)

        task = asyncio.create_task(beat())
        try:
            return await self.next.execute_activity(input)
        finally:
            task.cancel()
