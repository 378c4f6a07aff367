"""Work in a thread is never left behind by a cancellation."""

from __future__ import annotations

import asyncio
import threading

import pytest

from activities.runtime.cancellation import run_to_end


async def test_a_cancellation_waits_for_the_thread() -> None:
    """Cancelled twice, it still returns only after the work; and the work hears of it at once."""
    begun, told, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        told.wait()
        ended.set()

    task = asyncio.create_task(run_to_end(work, on_cancel=told.set))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_result_and_error_come_through() -> None:
    """Without a cancellation it is a plain call."""
    assert await run_to_end(lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        await run_to_end(lambda: 1 // 0)
