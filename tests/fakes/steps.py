"""Stand-ins for all activities, by name: workflows run as they are, and no byte is moved.

    async with Steps(client, answer).serving(place): ...

``answer`` says what a step answers, or raises. A lease stands in for its mover too: it serves the mover's queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from codehub_storage.keys import movers_queue, storage_queue
from worker.registration import workflow_options
from workflows.messages import HoldMoverInput

LEASE = "hold_mover"
_BEAT_SECONDS = 0.1

Answer = Callable[[activity.Info], Awaitable[Any]]


class Steps:
    """See the module. ``clock_skips``: for the time-skipping server, whose clock stands still while an activity runs
    or waits for a worker. So a lease waits between two attempts instead of within one, and its mover's queue is served
    also where the lease dies: what the steps there answer by then (``later``, say) is the test's to choose."""

    def __init__(self, client: Client, answer: Answer, *, clock_skips: bool = False) -> None:
        self._client = client
        self._answer = answer
        self._clock_skips = clock_skips
        self._movers = AsyncExitStack()
        self._served: set[str] = set()

        @activity.defn(dynamic=True)
        async def step(arguments: Sequence[RawValue]) -> Any:
            if activity.info().activity_type != LEASE:
                return await self._answer(activity.info())
            queue = activity.payload_converter().from_payload(arguments[0].payload, HoldMoverInput).queue
            await (self._hold_between_attempts(queue) if self._clock_skips else self._hold(queue))

        self._step = step

    @asynccontextmanager
    async def serving(self, *places: str) -> AsyncIterator[None]:
        """Workers for the workflows and steps of these places."""
        async with AsyncExitStack() as workers:
            for place in places:
                await workers.enter_async_context(self._worker(storage_queue(place), **workflow_options()))
                await workers.enter_async_context(self._worker(movers_queue(place)))
            async with self._movers:
                yield

    def _worker(self, queue: str, **options: Any) -> Worker:
        return Worker(
            self._client,
            task_queue=queue,
            activities=[self._step],
            default_heartbeat_throttle_interval=timedelta(seconds=_BEAT_SECONDS),
            max_heartbeat_throttle_interval=timedelta(seconds=_BEAT_SECONDS),
            **options,
        )

    async def _hold(self, queue: str) -> None:
        await self._answer(activity.info())
        async with self._worker(queue):
            while True:
                activity.heartbeat()
                await asyncio.sleep(_BEAT_SECONDS)

    async def _hold_between_attempts(self, queue: str) -> None:
        if queue not in self._served:
            self._served.add(queue)
            await self._movers.enter_async_context(self._worker(queue))
        await self._answer(activity.info())
        raise later()


def later() -> ApplicationError:
    """Ends an attempt of a step that has nothing to say yet; the next one comes after a day, or never."""
    return ApplicationError("nothing yet", next_retry_delay=timedelta(days=1))
