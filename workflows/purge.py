"""purge: everything that the given keys name is gone, with evidence; what is left is named.

There is no way back, so no cancel counts. What fails does not keep the rest from being removed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import FailureError

from codehub_storage.contracts import OperationResult, Phase, PurgeInput
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import workspace_of_archive, workspace_of_volume
from workflows import policies, steps
from workflows.messages import PurgeStepInput, PurgeStepResult
from workflows.operation import EXPECTED, OperationWorkflow, shield_until_done


@workflow.defn(name="purge")
class PurgeWorkflow(OperationWorkflow):
    """See the module."""

    @workflow.init
    def __init__(self, request: PurgeInput) -> None:
        super().__init__(request)
        self.removed: list[str] = []
        self.left: list[str] = []
        self.faults: list[str] = []
        self.unsure = False

    @workflow.run
    async def run(self, request: PurgeInput) -> OperationResult:
        """Remove what is in scope."""
        self._check(request)
        return await shield_until_done(self._purge(request))

    def _check(self, request: PurgeInput) -> None:
        self.check_names()
        named = [workspace_of_volume(request.home_store_key)] if request.home_store_key is not None else []
        named += [workspace_of_archive(request.archive_key)] if request.archive_key is not None else []
        if any(workspace_id != request.workspace_id for workspace_id in named):
            raise StorageError(ErrorCode.INVALID_INPUT, "the keys are of different workspaces; nothing was removed")

    async def _purge(self, request: PurgeInput) -> OperationResult:
        scope = self.input(
            PurgeStepInput,
            home_store_key=request.home_store_key,
            archive_key=request.archive_key,
            volume_uid=request.expected_volume_uid,
            remove_stopped=request.remove_stopped,
        )
        try:
            await self.claim()
            self.enter(Phase.INSPECTING)
            await self.run_uncancellable(steps.inspect_for_purge, scope, "refuse before anything is removed")
            self.enter(Phase.DELETING)
            gone = await self._try(steps.purge_archive, scope, "remove archive and manifest")
            await self._try(steps.purge_volume, scope, "remove the volume")
            self.enter(Phase.COMPARING)
            seen = await self._confirm(scope.model_copy(update={"versions": gone.versions}))
        except EXPECTED as error:
            failure = self.failure(error)
            if not self.unsure:
                await self.release()
            raise failure from error
        if not self.unsure:  # a removal that never returned may still take effect: the next claim waits it out
            await self.release()
        if seen.faults or self.faults:
            raise StorageError(
                ErrorCode.PURGE_INCOMPLETE,
                "; ".join([*self.faults, *seen.faults]),
                details={"removed": self.removed, "left": [*self.left, *seen.left, *seen.faults]},
            )
        return self.result(
            home_store_key=request.home_store_key,
            archive_key=request.archive_key,
            lost_volume_uid=seen.lost_volume_uid,
            removed=tuple(self.removed),
            leftovers=(*self.left, *seen.left),
        )

    async def _try(
        self, step: Callable[[PurgeStepInput], Awaitable[PurgeStepResult]], scope: PurgeStepInput, summary: str
    ) -> PurgeStepResult:
        """One removal; a fault is kept for the end, so that the rest is still tried. Not ours means stop."""
        try:
            result = await self.run_uncancellable(step, scope, summary, timeouts=policies.deletion())
        except FailureError as error:
            found = self.note_error(error)
            if found.code == ErrorCode.NOT_YOURS:
                raise
            self.faults.append(str(found))
            self.unsure = True
            return PurgeStepResult()
        self.removed.extend(result.removed)
        self.left.extend(result.left)
        self.faults.extend(result.faults)
        return result

    async def _confirm(self, scope: PurgeStepInput) -> PurgeStepResult:
        """What is left. A check that fails because a removal did must not hide that the rest was removed."""
        try:
            return await self.run_uncancellable(steps.confirm_purge, scope, "list again what is left")
        except FailureError as error:
            found = self.note_error(error)
            if found.code == ErrorCode.NOT_YOURS or not self.faults:
                raise
            return PurgeStepResult(faults=(f"what is left cannot be listed: {found}",))
