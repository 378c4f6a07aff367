"""Heartbeats: from progress where bytes move, steady where a step only talks to servers.

A steady beat would hide a wedged transfer, so data activities beat only when something moved, and so does a control
step while it reads an archive. Control steps are bounded by the time-outs of the calls they make; their beat is what
brings them a cancel.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

BEAT_SECONDS = 0.5


class Progress:
    """What a data activity has done so far. Any thread may set it; the event loop sends it.

    ``records`` begins as what the attempt before left, so that no beat forgets it.
    """

    def __init__(self, records: bytes = b"") -> None:
        self.bytes_done = 0
        self.records = records
        self._moves = 0

    def moved(self, bytes_done: int) -> None:
        """``bytes_done`` in all, of this activity."""
        self.bytes_done = bytes_done
        self._moves += 1

    def touch(self) -> None:
        """Something moved that is not counted in bytes."""
        self._moves += 1

    @contextlib.asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Touch it steadily within the block, which is one call that ends by itself: to a store, or to the kernel."""

        async def touching() -> None:
            while True:
                self.touch()
                await asyncio.sleep(BEAT_SECONDS)

        task = asyncio.create_task(touching())
        try:
            yield
        finally:
            task.cancel()

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


_current: ContextVar[Progress | None] = ContextVar("current_progress", default=None)


def current_progress() -> Progress | None:
    """That of the activity which runs here, within ``beating``."""
    return _current.get()


@contextlib.asynccontextmanager
async def beating(progress: Progress) -> AsyncIterator[None]:
    """Within the block a heartbeat follows every movement, at most one each half second, and there is no steady one."""

    async def beat() -> None:
        seen = -1
        while True:
            if progress.moves != seen:
                seen = progress.moves
                activity.heartbeat(progress.details())
            await asyncio.sleep(BEAT_SECONDS)

    _current.set(progress)
    steady = _steady.get()
    if steady is not None:
        steady.is_held = True
    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        if steady is not None:
            steady.is_held = False
        if progress.moves:
            activity.heartbeat(progress.details())  # flushed if the attempt fails: the next one continues from here


@dataclass
class _SteadyBeat:
    """What the steady beats of an activity carry; ``is_held``: none is sent now."""

    details: list[str]
    is_held: bool = False


_steady: ContextVar[_SteadyBeat | None] = ContextVar("steady", default=None)


def beat_with(*said: str) -> None:
    """From now on the steady beats of this activity carry ``said``, the first of them at once."""
    steady = _steady.get()
    if steady is not None:
        steady.details = list(said)
    activity.heartbeat(*said)


class SteadyHeartbeats(Interceptor):
    """Beats for every activity of a worker while it runs."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """See ``Interceptor``."""
        return _Steady(next)


class _Steady(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        steady = _SteadyBeat([str(each) for each in activity.info().heartbeat_details])
        _steady.set(steady)

        async def beat() -> None:
            while True:
                if not steady.is_held:
                    activity.heartbeat(*steady.details)
                await asyncio.sleep(BEAT_SECONDS)

        task = asyncio.create_task(beat())
        try:
            return await self.next.execute_activity(input)
        finally:
            task.cancel()
