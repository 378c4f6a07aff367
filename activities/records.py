"""Activities on the record itself: the first step of every run and the last."""

from __future__ import annotations

import asyncio

from temporalio import activity

from activities.fencing import Claimant
from activities.services import Services
from codehub_storage.keys import check_workspace_id
from workflows.messages import ClaimInput, ClaimResult, SignOffInput


class RecordActivities:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @activity.defn
    async def claim(self, step: ClaimInput) -> ClaimResult:
        """Become the owner. ``WrongStore`` before anything else where bucket or place is another.

        Where the record leaves another place, that place is in it until the volume there is replaced or cleared.

        Where the store ignores If-Match on DELETE, one of an owner that never signed off may still be under way: it
        is waited out, *after* the fence has changed, so that no further one is sent meanwhile.
        """
        identity = await self._services.ground()
        fenced = self._services.fenced(check_workspace_id(step.workspace_id))
        before = await fenced.claim(
            Claimant(
                step.place,
                step.operation,
                epoch=identity.epoch,
                accept_loss=step.accept_loss,
                old_place_is_dead=step.old_place_is_dead,
            )
        )
        unsure = activity.info().attempt > 1 or (before is not None and not before.owner.signed_off)
        if unsure and not identity.capabilities.conditional_delete:
            await asyncio.sleep(self._services.delete_wait(identity))
        return ClaimResult(
            home_store_key=self._services.backend.home_store_key(step.workspace_id),
            settle_seconds=self._services.settle(identity),
            settle_by_sync=self._services.sync_dir is not None,
        )

    @activity.defn
    async def sign_off(self, step: SignOffInput) -> None:
        """Say that this run writes nothing more."""
        await self._services.fenced(step.workspace_id).sign_off(step.gone_uid)
