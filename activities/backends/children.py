"""One attempt at a time in a mover: a new attempt begins when nothing of the old one is left.

An activity that timed out may still hang in its mover, with tars that write to the volume. The next attempt of it
comes to the same process. It first cancels the old one and kills and reaps its children; where that cannot be done in
time the mover ends itself, and its lock says when all is over. Every backend's mover uses this.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from activities.backends.unbroken import unbroken

EXIT_STUCK = 70
"""Exit status of a mover that could not end an old attempt."""


class Children:
    """The child processes of the attempt, and the descriptors that each of them must hold (the volume's lock)."""

    def __init__(self, inherit: tuple[int, ...] = ()) -> None:
        self._inherit = inherit
        self._running: set[Process] = set()

    async def start(self, *command: str | bytes, **options: Any) -> Process:
        """``asyncio.create_subprocess_exec``, noted down, with the lock inherited."""
        keep = (*self._inherit, *options.pop("pass_fds", ()))
        process = await asyncio.create_subprocess_exec(*command, pass_fds=keep, **options)
        self._running = {child for child in self._running if child.returncode is None} | {process}
        return process

    async def end(self) -> None:
        """Kill and reap all that were started. Returns when they are gone, which is up to the kernel."""
        while self._running:
            for child in self._running:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
            await asyncio.gather(*(child.wait() for child in self._running))
            self._running = {child for child in self._running if child.returncode is None}


class Attempts:
    """Admits one attempt at a time to this process.

    ``bound_seconds``: how long the old attempt may take to end before the process ends itself. An attempt has ended
    when its block is left; so it must wait there for its own threads.
    """

    def __init__(self, children: Children, *, bound_seconds: float = 30.0) -> None:
        self.children = children
        self._bound_seconds = bound_seconds
        self._task: asyncio.Task[Any] | None = None
        self._turn = asyncio.Lock()
        self._newest = 0

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[None]:
        """A block in which this task is the attempt. An attempt that a newer one overtook is cancelled."""
        self._newest += 1
        number = self._newest
        await self._take_turn()
        try:
            if number != self._newest:
                raise asyncio.CancelledError("a newer attempt is here")
            self._task = asyncio.current_task()
            yield
        finally:
            try:
                await unbroken(self.children.end())
            finally:
                self._task = None
                self._turn.release()

    async def _take_turn(self) -> None:
        """Wait for the old attempt, which is cancelled and its children killed; leave the process if it stays."""
        deadline = asyncio.get_running_loop().time() + self._bound_seconds
        if self._task is not None:
            self._task.cancel("a newer attempt is here")
            ending = asyncio.ensure_future(self.children.end())
        else:
            ending = None
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            print(f"an old attempt did not end in {self._bound_seconds:g} s; leaving", file=sys.stderr, flush=True)
            os._exit(EXIT_STUCK)
        finally:
            if ending is not None:
                await ending
