"""How long a backend waits for another process, and the error when that time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from codehub_storage.errors import ErrorCode, StorageError

T = TypeVar("T")

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5


@dataclass(frozen=True)
class WaitPolicy:
    """``lock_seconds``: for a lock, or for a killed mover to be gone. ``grace_seconds``: from SIGTERM to SIGKILL."""

    lock_seconds: float = 30.0
    grace_seconds: float = 10.0

    async def until(self, attempt: Callable[[], Awaitable[T | None]], what: Callable[[], str]) -> T:
        """The first result of ``attempt`` that is not ``None``, asked for ever less often.

        ``BackendUnavailable`` with ``what`` once the time is over.
        """
        clock = asyncio.get_running_loop().time
        deadline, pause = clock() + self.lock_seconds, _FIRST_PAUSE
        while True:
            answer = await attempt()
            if answer is not None:
                return answer
            if clock() >= deadline:
                raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"{what()}, after {self.lock_seconds:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
