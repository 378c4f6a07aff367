"""Moves many workspaces COLD or WARM, a few at a time: before maintenance, after it, or every night.

    python examples/bulk_move.py COLD homes.txt      # a home_store_key on each line, as provision returned them
    python examples/bulk_move.py WARM archives.txt   # an archive_key on each line, as archive returned them

It may be killed at any moment and run again. What has ended is in ``homes.txt.done``, a line each. What was under way
runs on without us, and the same call joins it. So nothing is moved twice, and a workspace whose user came back
meanwhile is not archived again.

A retryable error is tried again, with a pause that doubles. Any other, and the last of those, is reported in the
summary, while the rest continues. Exit status: 0 all moved; 3 some were not, and running it again may help; 4 a person
has to look.
TEMPORAL_ADDRESS and the like come from the environment (see ``codehub_storage.connect``).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NoReturn, TextIO

from codehub_storage import OperationHandle, OperationResult, StorageClient, StorageError

CONCURRENCY = 8
"""Operations at a time. By default a worker of the service has four movers; the other operations wait for one."""
TRIES = 5
FIRST_PAUSE_SECONDS = 2.0

Start = Callable[[str], Awaitable[OperationHandle]]
"""Starts the operation on a key, or joins the open run of it."""


class BulkMove:
    """A list of keys, and what became of each."""

    def __init__(self, start: Start, keys: Path, *, first_pause_seconds: float = FIRST_PAUSE_SECONDS) -> None:
        self._start = start
        self._first_pause_seconds = first_pause_seconds
        self._done = keys.with_name(f"{keys.name}.done")
        self.keys = list(dict.fromkeys(keys.read_text().split()))
        self.before = set(self.keys) & set(self._done.read_text().split() if self._done.exists() else ())
        self.moved = 0
        self.failed: dict[str, StorageError] = {}
        self.leftovers: dict[str, tuple[str, ...]] = {}

    async def run(self, concurrency: int = CONCURRENCY) -> None:
        """Move all that is left. Errors of the service do not end it."""
        left = iter([key for key in self.keys if key not in self.before])
        with self._done.open("a") as done:
            print(file=done)  # what a power cut left of a last line stays a line of its own
            async with asyncio.TaskGroup() as tasks:
                for _ in range(concurrency):
                    tasks.create_task(self._work(left, done))

    async def _work(self, left: Iterator[str], done: TextIO) -> None:
        """Key after key; ``left`` is shared, so each is taken by one of us."""
        for key in left:
            try:
                result = await self._moved(key)
            except StorageError as error:
                self.failed[key] = error
                self._tell(f"{key}: {error}")
                continue
            if result.cleanup_required:  # safe in its archive; called again, it finishes the deletion of the volume
                self.leftovers[key] = result.leftovers
            else:
                print(key, file=done, flush=True)
            self.moved += 1
            self._tell(key)

    async def _moved(self, key: str) -> OperationResult:
        """Called once, or a few times more. ``StorageError`` when that was in vain."""
        for pause in [self._first_pause_seconds * 2**number for number in range(TRIES - 1)]:
            try:
                return await (await self._start(key)).result()
            except StorageError as error:
                if not error.retryable:
                    raise
                self._tell(f"{key}: {error}; tried again")
                await asyncio.sleep(pause * random.uniform(0.5, 1))
        return await (await self._start(key)).result()

    def _tell(self, what: str) -> None:
        ended = len(self.before) + self.moved + len(self.failed)
        print(f"{ended:4}/{len(self.keys)}  {what}", flush=True)

    def summary(self) -> str:
        """What a person reads at the end."""
        lines = [f"{self.moved} moved, {len(self.before)} were moved before, {len(self.failed)} not"]
        lines += [f"  {key}: {error}\n    {error.hint}" for key, error in sorted(self.failed.items())]
        lines += [f"  {key}: still to be removed: {', '.join(left)}" for key, left in sorted(self.leftovers.items())]
        return "\n".join(lines)

    @property
    def status(self) -> int:
        """The exit status; see the module."""
        if any(not error.retryable for error in self.failed.values()):
            return 4
        return 3 if self.failed or self.leftovers else 0


async def move(state: str, keys: Path, place: str, concurrency: int) -> int:
    """Connect, move, report; the exit status."""
    storage = await StorageClient.connect(place=place)
    bulk = BulkMove(storage.start_archive if state == "COLD" else storage.start_restore, keys)
    await bulk.run(concurrency)
    print(bulk.summary(), flush=True)
    return bulk.status


def main() -> NoReturn:
    """See the module."""
    parser = argparse.ArgumentParser(description="Move many workspaces COLD or WARM; run it again to go on.")
    parser.add_argument("state", choices=["COLD", "WARM"])
    parser.add_argument("keys", type=Path, help="file with a key on each line")
    parser.add_argument("--place", default="default")
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY, metavar="N")
    arguments = parser.parse_args()
    try:
        sys.exit(asyncio.run(move(arguments.state, arguments.keys, arguments.place, arguments.concurrency)))
    except StorageError as error:
        print(f"{error} ({error.hint})", file=sys.stderr)
        sys.exit(3 if error.retryable else 4)
    except KeyboardInterrupt:
        sys.exit("stopped; what was started goes on, and running this again goes on with the rest")


if __name__ == "__main__":
    main()
