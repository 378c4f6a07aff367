"""A mover for one volume, held by a lease activity for as long as the block lasts.

All movers of one run and volume serve one task queue, one after the other: the lease starts the next only when the
former is known to be gone, and then a step that was cut off is tried again there with its heartbeat. Where bytes are
written (restore) a dead mover is not replaced; the caller starts over on a new volume.

A lease is handed from worker to worker without the workflow: its activity is tried again, and adopts the mover.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from codehub_storage.converter import storage_error
from codehub_storage.errors import ErrorCode
from codehub_storage.keys import mover_queue, movers_queue
from workflows import policies, steps
from workflows.messages import HoldMoverInput, VolumeInput
from workflows.operation import OperationWorkflow, shield_until_done

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741


class MoverLease:
    """``async with MoverLease(...) as mover: await mover.run(step, argument, summary)``."""

    def __init__(
        self, operation: OperationWorkflow, volume_uid: str, token: str, number: int, *, writable: bool
    ) -> None:
        self._operation = operation
        self._place = operation.place
        self._writable = writable
        self._queue = mover_queue(token, number)
        self._input = operation.input(HoldMoverInput, volume_uid=volume_uid, queue=self._queue, writable=writable)
        self._number = number
        self._keeper: asyncio.Task[None] | None = None
        self._ending = False
        self._steps_done = 0

    async def __aenter__(self) -> MoverLease:
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await shield_until_done(self._release())

    async def run(self, step: Callable[[I], Awaitable[T]], argument: I, summary: str, name: str) -> T:
        """One data activity in the mover; ``name`` is its id, legible in UI and CLI.

        With the lease's number: a step that was cut off stays open at the server until its heartbeat is missed, and
        its successor in the next lease must not bear the same id.
        """
        assert self._keeper is not None
        work = workflow.start_activity(
            step,
            argument,
            task_queue=self._queue,
            activity_id=f"{name}-m{self._number}",
            summary=summary,
            **policies.data(),
        )
        await workflow.wait([work, self._keeper], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await self._keeper
        result: T = await work
        self._steps_done += 1
        self._operation.check_cancelled()
        return result

    async def _keep(self) -> None:
        """Hold a mover; replace one that died, where nothing is written, a few times in a row."""
        number = deaths = 0
        while True:
            number, done = number + 1, self._steps_done
            try:
                await workflow.execute_activity(
                    steps.hold_mover,
                    self._input,
                    task_queue=movers_queue(self._place),
                    activity_id=f"{self._queue.replace('/', '-')}-{number}",
                    summary=f"mover {number} of this volume",
                    **policies.lease(),
                )
            except FailureError as error:
                if self._ending or is_cancelled_exception(error):
                    raise  # also a death while it was being stopped: no other mover is wanted
                found = self._operation.note_error(error)
                deaths = 1 if self._steps_done > done else deaths + 1
                if found.code != ErrorCode.MOVER_FAILED or self._writable or deaths > policies.MOVER_DEATHS:
                    raise
                await workflow.sleep(policies.mover_backoff(deaths), summary="pause before the next mover")

    async def _release(self) -> None:
        """End the lease, then its mover, if that lives on. Where the backend responds, it is known to be gone then.

        A lease that is cancelled between two attempts has stopped nothing. A volume that was written to is detached
        by the step that hands it out or gives it up.
        """
        await self._end_lease()
        if not self._writable:
            await self._operation.best_effort(
                steps.detach_mover,
                self._operation.input(VolumeInput, volume_uid=self._input.volume_uid),
                "make sure that the mover is gone",
                timeouts=policies.detach(),
            )

    async def _end_lease(self) -> None:
        assert self._keeper is not None
        self._ending = True
        self._keeper.cancel()
        try:
            await self._keeper
        except asyncio.CancelledError:
            pass
        except FailureError as error:
            if not is_cancelled_exception(error):
                workflow.logger.info("mover ended: %s", storage_error(error))
