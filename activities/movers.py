"""The lease: an activity that starts a mover and lives exactly as long as it."""

from __future__ import annotations

import asyncio

from temporalio import activity

from activities.backends.base import Mover, MoverSpec
from activities.backends.starting import why_it_ended
from activities.heartbeats import beat_with
from activities.services import Services
from codehub_storage.errors import ErrorCode, StorageError
from workflows.messages import HoldMoverInput

LOOK_SECONDS = 0.2
STARTED = "started"
"""In the heartbeat of a lease whose mover was started: the next attempt may only adopt that one."""


class MoverActivities:
    """See the module. Runs in a Worker object of its own, whose slots are the limit of movers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @activity.defn
    async def hold_mover(self, step: HoldMoverInput) -> None:
        """Start the mover, live while it lives, fail at once when it dies, stop it on cancel.

        An attempt after one that had a mover only adopts it: a second writer must not come to life behind the
        workflow's back. When this worker shuts down its movers end with it, and the workflow hears at once.
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
        had_one = STARTED in info.heartbeat_details
        mover = await self._services.backend.attach(spec, fence=fence, adopt_only=had_one)
        beat_with(STARTED)
        try:
            while (death := await mover.wait(LOOK_SECONDS)) is None:
                pass
        except asyncio.CancelledError:
            await self._cancelled(mover)
            raise
        raise why_it_ended(death)

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
