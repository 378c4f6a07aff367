"""A workflow that must not be released: its commands come in another order than those of open runs."""

from __future__ import annotations

from temporalio import workflow

from codehub_storage.contracts import OperationResult, ProvisionInput
from workflows import steps
from workflows.messages import StepInput
from workflows.provision import ProvisionWorkflow


@workflow.defn(name="provision")
class Reordered(ProvisionWorkflow):
    """A step more, in front."""

    @workflow.init
    def __init__(self, request: ProvisionInput) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: ProvisionInput) -> OperationResult:
        """See the class."""
        await self.run_uncancellable(steps.sync_store, self.input(StepInput), "something new")
        return await ProvisionWorkflow.run(self, request)
