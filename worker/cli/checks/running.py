"""Checks side by side: each has a bound of its own, and none holds up another or the end of the program."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from codehub_storage.errors import StorageError
from worker.cli.answers import CheckAnswer, DoctorAnswer, Verdict

T = TypeVar("T")

SECONDS = 10.0
"""How long a check may take that needs no longer."""


class Finding(NamedTuple):
    """What a check found. ``hint``: what a person does about it. ``retryable``: it may be well later by itself."""

    verdict: Verdict
    text: str
    hint: str | None = None
    retryable: bool = False


def ok(text: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, text)


def warning(text: str, hint: str) -> Finding:
    """It works, and a person should know."""
    return Finding(Verdict.WARNING, text, hint)


def fails(text: str, hint: str, *, retryable: bool = False) -> Finding:
    """Operations would fail, or lose what they promise."""
    return Finding(Verdict.FAILS, text, hint, retryable)


def failed(error: StorageError) -> Finding:
    """The finding that an error is."""
    return fails(str(error), error.hint, retryable=error.retryable)


@dataclass(frozen=True)
class Check:
    """``look`` returns what it finds, or raises ``StorageError``. ``needs``: checks that must not have failed."""

    name: str
    look: Callable[[], Awaitable[Finding]]
    needs: tuple[str, ...] = ()
    seconds: float = SECONDS


async def run_all(checks: Sequence[Check]) -> DoctorAnswer:
    """All of them at once, but for those that wait for what they need; in their order."""
    tasks: dict[str, asyncio.Task[CheckAnswer]] = {}
    for check in checks:
        tasks[check.name] = asyncio.create_task(_run(check, [tasks[name] for name in check.needs]))
    answers = [await task for task in tasks.values()]
    states = [each.state for each in answers]
    return DoctorAnswer(checks=answers, fails=states.count(Verdict.FAILS), warnings=states.count(Verdict.WARNING))


async def _run(check: Check, needed: Sequence[asyncio.Task[CheckAnswer]]) -> CheckAnswer:
    for task in needed:
        earlier = await task
        if earlier.state in (Verdict.FAILS, Verdict.SKIPPED):
            return _answer(check, Finding(Verdict.SKIPPED, f"not looked at, since it needs {earlier.check}"), 0.0)
    began = time.monotonic()
    work = asyncio.ensure_future(check.look())
    await asyncio.wait([work], timeout=check.seconds)
    return _answer(check, _finding(check, work), round(time.monotonic() - began, 3))


def _answer(check: Check, found: Finding, seconds: float) -> CheckAnswer:
    return CheckAnswer(
        check=check.name,
        state=found.verdict,
        text=found.text,
        hint=found.hint,
        retryable=found.retryable,
        seconds=seconds,
    )


def _finding(check: Check, work: asyncio.Future[Finding]) -> Finding:
    if not work.done():
        work.add_done_callback(_forget)
        work.cancel()
        return fails(
            f"no answer within {check.seconds:.0f} s", "See whether it is up and reachable from here.", retryable=True
        )
    try:
        return work.result()
    except StorageError as error:
        return failed(error)
    except OSError as error:
        return fails(str(error), "See to what the message names.")
    except Exception as error:
        return fails(f"{type(error).__name__}: {error}", "A fault of this program; the other checks hold.")


def _forget(work: asyncio.Future[Finding]) -> None:
    """Drop the result: no caller waits for it any more."""
    if not work.cancelled():
        work.exception()


async def in_thread(work: Callable[[], T]) -> T:
    """Blocking work in a thread that nothing waits for: a disk that hangs must not hang the program's end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future
