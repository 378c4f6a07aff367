"""What restore and provision share: a new volume, announced in the record before it exists, given up when undone."""

from __future__ import annotations

from temporalio import workflow

from codehub_storage.contracts import Phase
from codehub_storage.errors import ErrorCode, StorageError
from workflows import steps
from workflows.messages import AnnounceInput, InspectResult, VolumeInput
from workflows.operation import OperationWorkflow, Request


class NewVolumeWorkflow(OperationWorkflow):
    """Base of restore and provision. Not itself a workflow."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.volume_uid: str | None = None
        self.replaces: str | None = None

    def check(self, request: Request, workspace_of_key: str) -> None:
        """``InvalidInput`` unless id and key are well formed and belong together, and to this run."""
        self.check_names()
        if request.workspace_id != workspace_of_key:
            raise StorageError(ErrorCode.INVALID_INPUT, f"the key is not one of workspace {request.workspace_id}")

    def volume(self, look: InspectResult) -> VolumeInput:
        """The input of the steps on the volume that is being made."""
        return self.input(VolumeInput, volume_uid=self.volume_uid or "", archive_id=look.archive_id, spec=look.spec)

    async def make_volume(self, look: InspectResult) -> None:
        """Announce a new uid, then create its volume.

        The uid is the workflow's, so that a late attempt of this step can only announce what was announced.
        """
        self.enter(Phase.CREATING)
        self.volume_uid = f"{self.workspace_id}-{workflow.uuid4().hex[:16]}"
        lost = look.lost_volume_uid is not None and look.lost_volume_uid == self.replaces
        announced = self.input(
            AnnounceInput,
            volume_uid=self.volume_uid,
            replaces=self.replaces,
            lost=lost,
            is_accepted=self.operation == "provision" and look.lost_volume_uid in {self.accept_loss} - {None},
            archive_id=look.archive_id,
        )
        await self.run_uncancellable(steps.announce_volume, announced, "record: restoring, a new uid")
        await self.step(steps.create_volume, self.volume(look), "create the volume")

    async def abandon(self, look: InspectResult) -> None:
        """Give the uid up in the record, then delete its volume. ``NotYours`` if another run owns both by now."""
        if self.volume_uid is not None:
            failed = await self.best_effort(steps.abandon_volume, self.volume(look), "give the half-made volume up")
            self.volume_uid = self.replaces = None
            if failed is not None and failed.code == ErrorCode.NOT_YOURS:
                raise failed

    async def hand_out(self, look: InspectResult) -> None:
        """`ready`: the last write but the release, and the one that gives the volume to its user."""
        self.enter(Phase.COMMITTING)
        await self.run_uncancellable(steps.hand_out_volume, self.volume(look), "record: ready")

    async def undo(self, look: InspectResult | None, error: BaseException) -> None:
        """Take back what this run did, then raise ``error`` as what it is."""
        self.enter(Phase.UNDOING)
        failure = self.failure(error)
        try:
            if look is not None:
                await self.abandon(look)
        finally:
            await self.release()
        raise failure from error
