"""The lease: an activity that starts a mover and lives exactly as long as it."""

from __future__ import annotations

import asyncio

from codehub_storage.errors import ErrorCode, StorageError
from temporalio import activity
from workflows.messages import HoldMoverInput

from activities.backends.base import Mover, MoverSpec
from activities.services import Services

LOOK_SECONDS = 0.2


class MoverActivities:
    """See the module. Runs in a Worker object of its own, whose slots are the limit of movers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @activity.defn
    async def hold_mover(self, step: HoldMoverInput) -> None:
        """Start the mover, heartbeat while it lives, fail at once when it dies, stop it on cancel.

        A later attempt only adopts: a second writer must not come to life behind the workflow's back. When this
        worker shuts down its local movers end with it, and the workflow hears at once.
        """
        info = activity.info()
        spec = MoverSpec(
            workspace_id=step.workspace_id,
            volume_uid=step.volume_uid,
            run_id=info.workflow_run_id or "",
            queue=step.queue,
            writable=step.writable,
        )
        fence = self._services.fenced(step.workspace_id).check
        activity.heartbeat("starting")
        mover = await self._services.backend.attach(spec, fence=fence, adopt_only=info.attempt > 1)
        try:
            while (death := await mover.wait(LOOK_SECONDS)) is None:
                activity.heartbeat("alive")
        except asyncio.CancelledError:
            await self._cancelled(mover)
            raise
        raise StorageError(ErrorCode.MOVER_FAILED, f"the mover ended: {death}")

    async def _cancelled(self, mover: Mover) -> None:
        """Stop the mover, unless an operator paused or reset the lease: then its next attempt adopts it.

        Also where the server no longer knows this attempt (run terminated or closed, attempt timed out): nobody else
        would stop the mover, and a mover too few only costs a new one.
        """
        details = activity.cancellation_details()
        if details is not None and (details.paused or details.reset):
            return
        await mover.stop()
        if details is not None and details.worker_shutdown:
            raise StorageError(ErrorCode.MOVER_FAILED, "the worker that held the mover shuts down")
