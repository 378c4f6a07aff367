"""Activities on the record itself: the first step of every run and the last."""

from __future__ import annotations

from temporalio import activity

from activities.control.services import Services
from activities.state.fence import Claimant
from activities.state.record import Record
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import check_workspace_id
from workflows.messages import ClaimInput, ClaimResult, ReleaseInput


class ClaimActivities:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @activity.defn
    async def claim(self, step: ClaimInput) -> ClaimResult:
        """Become the owner. Before anything else ``InvalidInput`` where the run is on the queue of another place than
        its own, and ``WrongStore`` where bucket or place is another.

        Where the record leaves another place, that place is in it until the volume there is replaced or cleared.

        Where the store ignores If-Match on DELETE, one of an owner that never released the record may still be under
        way. The workflow waits it out, *after* the fence has changed here, so that no further one is sent meanwhile.
        """
        if step.place != self._services.place:
            raise StorageError(
                ErrorCode.INVALID_INPUT,
                f"a run of place {step.place!r} is on the task queue of place {self._services.place!r}",
                hint="Start operations by StorageClient or the CLI.",
            )
        identity = await self._services.verify_identity()
        fenced = self._services.fenced(check_workspace_id(step.workspace_id))
        before = await fenced.claim(
            Claimant(
                step.place,
                step.operation,
                epoch=identity.epoch,
                accept_loss=step.accept_loss,
                old_place_is_dead=step.old_place_is_dead,
                home_store_key=self._services.backend.home_store_key(step.workspace_id),
            )
        )
        waits_for = None if identity.capabilities.conditional_delete else _unsure_of(before)
        return ClaimResult(
            home_store_key=self._services.backend.home_store_key(step.workspace_id),
            settle_seconds=self._services.settle(identity),
            settle_by_sync=self._services.sync_dir is not None,
            wait_seconds=self._services.delete_wait(identity) if waits_for else 0.0,
            waits_for=waits_for,
        )

    @activity.defn
    async def release(self, step: ReleaseInput) -> None:
        """Write that this run writes nothing more."""
        await self._services.fenced(step.workspace_id).release(step.gone_uid)


def _unsure_of(before: Record | None) -> str | None:
    """The run that may still have a write under way; ``None`` if there is none."""
    if before is not None and not before.owner.signed_off:
        if before.owner.run_id != activity.info().workflow_run_id:
            return f"{before.owner.operation}, run {before.owner.run_id}, which was never released"
    elif activity.info().attempt == 1:
        return None
    return "whoever owned the workspace before this run, which claims it again"
