"""restore: archive to new volume. The archive stays; the volume is handed out only when it equals the archive."""

from __future__ import annotations

from collections import Counter

from temporalio import workflow
from temporalio.exceptions import FailureError

from codehub_storage.contracts import OperationResult, Phase, RestoreInput
from codehub_storage.converter import storage_error
from codehub_storage.errors import ErrorCode
from codehub_storage.keys import workspace_of_archive
from codehub_storage.search_attributes import WS_BYTES
from workflows import policies, steps
from workflows.lease import MoverLease
from workflows.messages import InspectInput, InspectResult, NextStep, RestoreStepInput, RestoreStepResult
from workflows.new_volume import NewVolumeWorkflow
from workflows.operation import BATCH_SEGMENTS, EXPECTED, MAX_INSPECTIONS, shield_until_done, unsteady


@workflow.defn(name="restore")
class RestoreWorkflow(NewVolumeWorkflow):
    """See the module."""

    @workflow.init
    def __init__(self, request: RestoreInput) -> None:
        super().__init__(request)
        self.filled = RestoreStepResult()

    @workflow.run
    async def run(self, request: RestoreInput) -> OperationResult:
        """Return the volume that came from this archive, or make one and fill it."""
        self.check(request, workspace_of_archive(request.archive_key))
        look: InspectResult | None = None
        try:
            await self.claim()
            self.check_cancelled()
            look = await self._look(request)
            self.note_loss(look.lost)
            if look.next_step == NextStep.RUN:
                self.replaces = look.recorded_uid
                await self._fill(request, look)
                self.check_cancelled()
        except EXPECTED as error:
            await shield_until_done(self.undo(look, error))
        assert look is not None
        return await shield_until_done(self._commit(request, look))

    async def _look(self, request: RestoreInput) -> InspectResult:
        wanted = self.input(
            InspectInput,
            archive_key=request.archive_key,
            archive_id=request.archive_id,
            volume=request.volume,
            accept_loss=request.accept_loss,
        )
        for _ in range(MAX_INSPECTIONS):
            self.enter(Phase.INSPECTING)
            look = await self.step(
                steps.inspect_for_restore,
                wanted,
                "look at archive, record and volume",
                timeouts=policies.deletion(),  # it may have to walk the volume
            )
            if look.next_step != NextStep.PROVE_AGAIN:
                return look
            await self.prove_again(look)
            self.check_cancelled()
        raise unsteady()

    async def _fill(self, request: RestoreInput, look: InspectResult) -> None:
        """Make a volume and fill it. A mover that died may have written anything: then again, on a new volume."""
        token, deaths = str(workflow.uuid4()), 0
        while True:
            await self.make_volume(look)
            self.enter(Phase.ATTACHING)
            try:
                async with MoverLease(self, self.volume_uid or "", token, deaths + 1, writable=True) as mover:
                    await self._fill_by(mover, request, look)
                return  # the mover is gone
            except FailureError as error:
                deaths += 1
                if storage_error(error).code != ErrorCode.MOVER_FAILED or deaths > policies.MOVER_DEATHS:
                    raise
                self.note_error(error)
            await shield_until_done(self.abandon(look))
            self.check_cancelled()
            await workflow.sleep(policies.mover_backoff(deaths), summary="pause before the next mover")

    async def _fill_by(self, mover: MoverLease, request: RestoreInput, look: InspectResult) -> None:
        def fill(first: int = 0, last: int = 0) -> RestoreStepInput:
            return self.input(
                RestoreStepInput,
                volume_uid=self.volume_uid or "",
                archive_key=request.archive_key,
                archive_id=look.archive_id or "",
                first=first,
                last=last,
            )

        self.bytes_done, self.bytes_total = 0, look.stored_bytes
        workflow.upsert_search_attributes([WS_BYTES.value_set(look.raw_bytes)])
        self.enter(Phase.COPYING)
        if look.foreign:
            self.filled = await mover.run(steps.restore_foreign_archive, fill(), "restore a foreign archive", "foreign")
            return
        await mover.run(steps.prepare_restore, fill(), "check for room, make the folders", "prepare")
        skipped: Counter[str] = Counter()
        for first in range(1, look.segments + 1, BATCH_SEGMENTS):
            last = min(first + BATCH_SEGMENTS - 1, look.segments)
            batch = await mover.run(
                steps.restore_segments,
                fill(first, last),
                f"restore segments {first} to {last} of {look.segments}",
                f"fill-{first:05d}",
            )
            skipped.update(batch.skipped)
            self.bytes_done = look.stored_bytes * last // look.segments
            self.describe()
        self.enter(Phase.COMPARING)
        self.filled = await mover.run(
            steps.finish_restore, fill(), "links and metadata, compare with the archive, sync", "finish"
        )
        skipped.update(self.filled.skipped)
        self.filled = self.filled.model_copy(update={"skipped": dict(skipped)})

    async def _commit(self, request: RestoreInput, look: InspectResult) -> OperationResult:
        if look.next_step == NextStep.RUN:
            try:
                await self.hand_out(look)
            except EXPECTED as error:
                await self.undo(look, error)
        await self.release()
        return self.result(
            archive_key=request.archive_key,
            archive_id=look.archive_id,
            volume_uid=self.volume_uid or look.volume_uid,
            lost_volume_uid=look.lost_volume_uid,
            leftovers=look.elsewhere,
            moved=look.next_step == NextStep.RUN,
            files=self.filled.files,
            raw_bytes=self.filled.raw_bytes,
            skipped=self.filled.skipped,
        )
