"""Work in a thread is never left behind by a cancellation."""

from __future__ import annotations

import asyncio
import threading

import pytest

from activities.runtime.cancellation import make_or_undo, run_to_end


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


@pytest.mark.parametrize("answers", [True, False], ids=["made", "refused"])
async def test_what_was_asked_for_is_undone(answers: bool) -> None:
    """A cancel between a request and its answer: the thing is there, and whoever asked knows nothing of it."""
    sent, answer = asyncio.Event(), asyncio.Event()
    undone: list[str] = []

    async def make() -> str:
        sent.set()
        await answer.wait()
        if not answers:
            raise OSError("refused")
        return "pod"

    async def undo(made: str) -> None:
        await asyncio.sleep(0)
        undone.append(made)

    task = asyncio.create_task(make_or_undo(make(), undo))
    await sent.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == (["pod"] if answers else [])


async def test_what_nobody_cancelled_stays() -> None:
    async def make() -> str:
        return "pod"

    async def undo(made: str) -> None:
        raise AssertionError(made)

    assert await make_or_undo(make(), undo) == "pod"
