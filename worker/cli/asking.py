"""Ctrl-C while an operation runs: a person at a terminal is asked whether to leave it, to cancel it, or to wait on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, TypeVar

from worker.cli.output import Output

T = TypeVar("T")


_QUESTION = "\n{} runs. [d]etach: it goes on without this command; [c]ancel and undo it; anything else: wait on. "


class _Choice(StrEnum):
    DETACH = "d"
    CANCEL = "c"
    WAIT = ""


async def attended(ending: Awaitable[T], cancel: Callable[[], Awaitable[None]], what: str, output: Output) -> T:
    """Await the end of ``what``. Where a person can be asked, Ctrl-C asks; elsewhere it interrupts, as it always did.

    ``cancel`` is called if that is chosen. ``CancelledError`` for who wants to leave, also by a second Ctrl-C.
    """
    if not (output.is_terminal and sys.stdin.isatty()):
        return await ending
    end = asyncio.ensure_future(ending)
    try:
        with _presses() as presses:
            while not await _comes_first(end, presses):
                choice = await _answer(end, presses, output, _QUESTION.format(what))
                if choice is _Choice.DETACH:
                    raise asyncio.CancelledError
                if choice is _Choice.CANCEL:
                    await cancel()
            return end.result()
    finally:
        end.cancel()


async def _answer(end: asyncio.Future[T], presses: asyncio.Queue[None], output: Output, question: str) -> _Choice:
    """WAIT also where the operation ends before there is an answer."""
    output.ask(question)
    try:
        with _lines() as lines:
            line, press = asyncio.ensure_future(lines.get()), asyncio.ensure_future(presses.get())
            waited: set[asyncio.Future[Any]] = {end, line, press}
            try:
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if press.done():
                    return _Choice.DETACH
                typed = line.result().strip().lower() if line.done() else ""
                return next((each for each in _Choice if each.value and typed.startswith(each.value)), _Choice.WAIT)
            finally:
                line.cancel()
                press.cancel()
    finally:
        output.asked()


async def _comes_first(end: asyncio.Future[T], presses: asyncio.Queue[None]) -> bool:
    """True when it has ended, False at a press."""
    press = asyncio.ensure_future(presses.get())
    waited: set[asyncio.Future[Any]] = {end, press}
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        return end.done()
    finally:
        press.cancel()


@contextmanager
def _presses() -> Iterator[asyncio.Queue[None]]:
    """Each Ctrl-C, which interrupts nothing meanwhile."""
    loop, presses = asyncio.get_running_loop(), asyncio.Queue[None]()
    task = asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGINT, presses.put_nowait, None)
    try:
        yield presses
    finally:
        loop.add_signal_handler(signal.SIGINT, task.cancel)


@contextmanager
def _lines() -> Iterator[asyncio.Queue[str]]:
    """What is typed; an empty line at the end of the input, after which nothing more comes."""
    loop, lines, stdin = asyncio.get_running_loop(), asyncio.Queue[str](), sys.stdin.fileno()

    def read() -> None:
        typed = os.read(stdin, 1 << 12).decode(errors="replace")
        if not typed:
            loop.remove_reader(stdin)
        lines.put_nowait(typed)

    loop.add_reader(stdin, read)
    try:
        yield lines
    finally:
        loop.remove_reader(stdin)
