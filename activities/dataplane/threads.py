"""Blocking work in threads that ends when its task is cancelled, instead of going on unseen.

A retry may start as soon as the cancelled task is over, so ``run_blocking`` answers only when its thread is done, and
the children it started are reaped.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from activities.runtime.cancellation import shield_until_done

T = TypeVar("T")


class Stopped(Exception):
    """The work was told to stop; only ``run_blocking`` sees it."""


class Stop:
    """Tells a thread to end: it asks ``check`` now and then, and names what to end from outside in ``on_stop``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._actions: list[Callable[[], None]] = []

    def check(self) -> None:
        """Raises ``Stopped`` once the work is to end."""
        if self._stopped:
            raise Stopped

    @contextlib.contextmanager
    def on_stop(self, action: Callable[[], None]) -> Iterator[None]:
        """Within the block ``action`` is called, from another thread, when the work is to end (at once if it is)."""
        with self._lock:
            self._actions.append(action)
            if self._stopped:
                action()
        try:
            yield
        finally:
            with self._lock:
                self._actions.remove(action)

    def stop(self) -> None:
        """Ask the work to end."""
        with self._lock:
            self._stopped = True
            for action in self._actions:
                action()


async def run_blocking(work: Callable[[Stop], T]) -> T:
    """``work`` in a thread. A cancellation stops it and waits until it is really over."""
    stop = Stop()
    return await shield_until_done(asyncio.get_running_loop().run_in_executor(None, work, stop), on_cancel=stop.stop)


async def run_together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first error ends the others and is raised as it is, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from first.__cause__


class Budget:
    """Bytes that may be in memory at once. Whoever needs more than there is at all gets the whole, alone."""

    def __init__(self, total_bytes: int) -> None:
        self._total = self._free = total_bytes
        self._changed = asyncio.Condition()

    async def take(self, size: int) -> int:
        """Wait until ``size`` bytes are free; answers what was taken, which is to be given back."""
        size = min(size, self._total)
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        return size

    async def give(self, size: int) -> None:
        """Give bytes back."""
        async with self._changed:
            self._free += size
            self._changed.notify_all()
