"""provision: a new, empty volume, unless an archive exists that it would replace."""

from __future__ import annotations

from temporalio import workflow

from codehub_storage.contracts import OperationResult, Phase, ProvisionInput
from workflows import steps
from workflows.messages import InspectInput, InspectResult, NextStep
from workflows.new_volume import NewVolumeWorkflow
from workflows.operation import EXPECTED, shield_until_done


@workflow.defn(name="provision")
class ProvisionWorkflow(NewVolumeWorkflow):
    """See the module."""

    @workflow.init
    def __init__(self, request: ProvisionInput) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: ProvisionInput) -> OperationResult:
        """Return the volume that is there and ready, or make one."""
        self.check(request, request.workspace_id)
        look: InspectResult | None = None
        try:
            await self.claim()
            self.check_cancelled()
            self.enter(Phase.INSPECTING)
            look = await self.step(
                steps.inspect_for_provision,
                self.input(InspectInput, volume=request.volume, accept_loss=request.accept_loss),
                "inspect volume, record and archive",
            )
            self.note_loss(look.lost)
            if look.next_step == NextStep.RUN:
                self.replaces = look.recorded_uid
                await self.make_volume(look)
        except EXPECTED as error:
            await shield_until_done(self.undo(look, error))
        assert look is not None
        return await shield_until_done(self._commit(look))

    async def _commit(self, look: InspectResult) -> OperationResult:
        if look.next_step == NextStep.RUN:
            try:
                await self.hand_out(look)
            except EXPECTED as error:
                await self.undo(look, error)
        await self.release()
        return self.result(
            volume_uid=self.volume_uid or look.volume_uid,
            lost_volume_uid=look.lost_volume_uid,
            leftovers=look.elsewhere,
        )
