"""Work that a cancellation does not leave behind.

``asyncio.to_thread`` and ``shield`` return at once when they are cancelled, and what they started continues. A lock
released then would no longer guard what is still being done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def shield_until_done(work: Awaitable[T], *, on_cancel: Callable[[], None] = lambda: None) -> T:
    """The result of ``work``. A cancellation is raised when the work has ended, not before.

    ``on_cancel`` is called at once, so that the work may stop early.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancel()
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


async def make_or_undo(making: Awaitable[T], undo: Callable[[T], Awaitable[None]]) -> T:
    """What ``making`` returns. If a cancellation comes meanwhile, what was made is undone before it is raised.

    A request that was sent is answered later than it is carried out: whoever is cancelled in between does not know
    what there is to remove.
    """
    task = asyncio.ensure_future(making)
    try:
        return await shield_until_done(task)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is None:
            await shield_until_done(undo(task.result()))
        raise


async def run_to_end(work: Callable[[], T], *, on_cancel: Callable[[], None] = lambda: None) -> T:
    """The same for blocking work in a thread."""
    return await shield_until_done(asyncio.to_thread(work), on_cancel=on_cancel)


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
