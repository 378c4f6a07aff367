"""The lease: an activity that starts a mover, or adopts it, and watches it as long as it lives.

A mover that can outlive its worker (a container, a Pod) is stopped only when its run asks for that. Whatever else ends
an attempt, the next one adopts it, on whichever worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.backends.base import Mover, MoverSpec
from activities.backends.starting import why_it_ended
from activities.control.services import Services
from activities.runtime.heartbeats import beat_with
from codehub_storage.converter import to_application_error
from codehub_storage.errors import ErrorCode, StorageError
from workflows.messages import MOVER_PROTOCOL, HoldMoverInput

LEASE_ATTEMPTS = 60
"""Maximum number of attempts in a row that get no mover; then the lease fails. What hinders them passes or does not,
so this limit is one of time: about half an hour."""
LOOK_SECONDS = 0.2
STARTED = "started"
"""In the heartbeat of a lease that had its mover, with the number of that attempt: the next may only adopt that one."""
HANDED_OVER = "HandedOver"
"""Type of the failure with which a worker that shuts down ends an attempt; it never ends the lease."""
AT_ONCE = timedelta(milliseconds=1)
"""The SDK takes a delay of 0 for none."""


class LeaseActivities:
    """See the module. Runs in a Worker object of its own, whose slots are the limit of movers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @activity.defn
    async def hold_mover(self, step: HoldMoverInput) -> None:
        """Have the mover, watch it, fail at once when it dies, stop it on cancel.

        An attempt after one that had a mover only adopts it: a second writer must not come to life behind the
        workflow's back. After ``LEASE_ATTEMPTS`` in a row without one the failure is final.
        """
        info = activity.info()
        last = _last_that_held(info.heartbeat_details)
        tries = info.attempt - last
        if tries > LEASE_ATTEMPTS:  # also where a worker died each time, and could not report it
            raise final(StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"no mover was held in {LEASE_ATTEMPTS} attempts"))
        try:
            await self._hold(step, info, adopt_only=last > 0)
        except asyncio.CancelledError as error:
            details = activity.cancellation_details()
            if details is not None and details.worker_shutdown:
                raise handed_over() from error  # a failure, so that the server tries again: a cancel would end the step
            raise
        except Exception as error:
            if tries == LEASE_ATTEMPTS:
                raise final(error) from error
            raise

    async def _hold(self, step: HoldMoverInput, info: activity.Info, *, adopt_only: bool) -> None:
        spec = MoverSpec(
            workspace_id=step.workspace_id,
            volume_uid=step.volume_uid,
            run_id=info.workflow_run_id or "",
            queue=step.queue,
            writable=step.writable,
            protocol=MOVER_PROTOCOL,
        )
        fence = self._services.fenced(step.workspace_id).check
        mover = await self._services.backend.attach(spec, fence=fence, adopt_only=adopt_only)
        beat_with(STARTED, str(info.attempt))  # before the wait: whatever ends this attempt, the next one only adopts
        try:
            while (death := await mover.wait(LOOK_SECONDS)) is None:
                pass
        except asyncio.CancelledError:
            await self._cancelled(mover)
            raise
        raise why_it_ended(death)

    async def _cancelled(self, mover: Mover) -> None:
        """Stop the mover if its run asks for that. Otherwise leave it to the next attempt.

        One that cannot outlive this worker is left only where an operator paused or reset the lease. Where the server
        no longer knows this attempt (run terminated or closed, attempt timed out) no other process would stop it.
        """
        details = activity.cancellation_details()
        if details is not None and (details.paused or details.reset):
            return
        # Also where the worker shuts down: the server may have been asked to cancel at the same moment.
        is_asked = details is not None and details.cancel_requested
        if self._services.backend.movers_outlive_worker and not is_asked:
            return
        await mover.stop()
        if details is not None and details.worker_shutdown:
            raise StorageError(ErrorCode.MOVER_FAILED, "the worker that held the mover shuts down")


def handed_over() -> ApplicationError:
    """Ends an attempt, and begins the next at once on a worker that stays."""
    return ApplicationError(
        "the worker that held the mover shuts down; the next one takes the mover over",
        type=HANDED_OVER,
        next_retry_delay=AT_ONCE,
        category=ApplicationErrorCategory.BENIGN,
    )


def final(error: Exception) -> ApplicationError:
    """The failure made from ``error``, not to be tried again."""
    failure = to_application_error(error) if isinstance(error, StorageError) else ApplicationError(str(error))
    return ApplicationError(
        failure.message, *failure.details, type=failure.type or type(error).__name__, non_retryable=True
    )


def _last_that_held(details: Sequence[Any]) -> int:
    """The number of the last attempt that had a mover; 0 if none had."""
    return int(details[1]) if len(details) == 2 and details[0] == STARTED else 0
