"""SIGKILL in the middle of an archive: to the mover that copies, then to the worker.

The middle is not guessed. It is what the operation itself reports: it copies, and some bytes are done but not all.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from codehub_storage.contracts import Phase, Progress
from codehub_storage.errors import StorageError
from worker.cli.format import size

_UNTIL = frozenset({Phase.CLAIMING, Phase.INSPECTING, Phase.ATTACHING, Phase.PLANNING, Phase.COPYING, Phase.UNKNOWN})
"""The phases until the middle is over. An unknown phase is that of a moment without a worker."""
_SHARE = 0.1
"""This share of all bytes is copied before each kill."""
_LOOK_SECONDS = 0.1


class MissedTheMiddle(Exception):
    """The archive was past its copying before a process could be killed in it."""


@dataclass(frozen=True)
class Kills:
    """The processes that are killed, and what is reported of it.

    ``look``: the progress of the archive. ``mover``, ``worker``: their process ids, ``None`` while there is none.
    """

    look: Callable[[], Awaitable[Progress | None]]
    mover: Callable[[], int | None]
    worker: Callable[[], int | None]
    say: Callable[[str], None]

    async def both(self) -> None:
        """Kill the mover, wait until another has gone on, kill the worker, wait for the next worker and its mover.

        Raises ``MissedTheMiddle`` if the archive does not copy any more when it is a process's turn.
        """
        at, mover = await self._middle(beyond=0)
        self._kill("the mover", mover, at)
        mover = await self._next(self.mover, mover)
        self.say(f"another mover is started, pid {mover}; it goes on once the killed one has been silent for too long")
        at, mover = await self._middle(beyond=at.bytes_done)
        worker = await self._next(self.worker, None)
        self._kill("the worker", worker, at)
        worker = await self._next(self.worker, worker)
        self.say(f"another worker is started, pid {worker}; the killed one took its mover, pid {mover}, with it")
        mover = await self._next(self.mover, mover)
        self.say(f"another mover is started, pid {mover}, which copies the rest")

    async def _middle(self, *, beyond: int) -> tuple[Progress, int]:
        """How it is when a share more than ``beyond`` is copied, and not all; with the mover that copies."""
        while True:
            with suppress(StorageError):
                at, mover = await self.look(), self.mover()
                if at is not None and (at.closed or at.phase not in _UNTIL):
                    found = "has ended" if at.closed else f"is {at.phase.value} already"
                    raise MissedTheMiddle(f"nothing was killed in the middle of the copying: the archive {found}")
                if at is not None and mover is not None and _is_middle(at, beyond):
                    return at, mover
            await asyncio.sleep(_LOOK_SECONDS)

    def _kill(self, what: str, pid: int, at: Progress) -> None:
        os.kill(pid, signal.SIGKILL)
        self.say(f"SIGKILL to {what}, pid {pid}: {size(at.bytes_done)} of {size(at.bytes_total)} are copied")

    async def _next(self, find: Callable[[], int | None], former: int | None) -> int:
        while True:
            pid = find()
            if pid is not None and pid != former:
                return pid
            await asyncio.sleep(_LOOK_SECONDS)


def _is_middle(at: Progress, beyond: int) -> bool:
    enough = beyond + at.bytes_total * _SHARE
    return at.phase is Phase.COPYING and enough < at.bytes_done < at.bytes_total
