"""What the four workflows share: phases, steps, what an operator sees, and going on in spite of a cancel.

The gate of every operation is a comparison with ``is_cancelled()`` after each step: the SDK drops a cancel that
arrives while an activity is completing, and then nothing but an inspection shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any, Protocol, TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from codehub_storage.contracts import OperationResult, Phase, Progress
from codehub_storage.converter import storage_error
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import check_workspace_id, workflow_id
from codehub_storage.search_attributes import WS_PHASE
from workflows import policies, steps
from workflows.messages import ClaimInput, ClaimResult, InspectResult, ProveInput, ReleaseInput, StepInput
from workflows.policies import Timeouts

BATCH_SEGMENTS = 512
"""Data segments of one activity that restores: 2 GiB in most homes, where segments have 4 MiB."""

_UNDER_WAY = "Bytes, attempt and last failure of the step under way: tab *Pending Activities*."

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  (the usual letter of an input)

EXPECTED = (asyncio.CancelledError, FailureError, StorageError)
"""What a step may raise. Anything else is a bug of ours and leaves the run retrying its workflow task, unharmed."""


MAX_INSPECTIONS = 3
"""Maximum number of inspections that may ask for a new proof. After that the operation gives up: the bucket is being
written to meanwhile."""


class Request(Protocol):
    """What the inputs of the four operations have in common."""

    @property
    def workspace_id(self) -> str:
        """The workspace of the volume and the archive."""

    @property
    def place(self) -> str:
        """Where the volume is."""


def is_cancel(error: BaseException) -> bool:
    """True for a cancel in any of its forms."""
    asked = isinstance(error, StorageError) and error.code == ErrorCode.CANCELLED
    return asked or is_cancelled_exception(error)


def is_cancelled() -> bool:
    """True once this run was asked to cancel, whether or not an ``await`` has shown it."""
    return workflow.cancellation_reason() is not None


def unsteady() -> StorageError:
    """The error once the maximum number of inspections is reached."""
    return StorageError(
        ErrorCode.STORE_UNAVAILABLE, "what is stored of the archive is another object at each look; is it being copied?"
    )


async def shield_until_done(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end, whatever cancels arrive meanwhile; ``is_cancelled`` shows whether one did."""
    task = asyncio.create_task(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
        except BaseException:
            if not task.done():
                raise  # the run is being evicted from this worker
    return task.result()


class OperationWorkflow:
    """Base of the four workflows. Not itself a workflow."""

    def __init__(self, request: Request) -> None:
        self.operation = workflow.info().workflow_type
        self.workspace_id = request.workspace_id
        self.place = request.place
        self.phase = Phase.CLAIMING
        self.accept_loss: str | None = getattr(request, "accept_loss", None)
        self.old_place_is_dead = bool(getattr(request, "old_place_is_dead", False))
        self.claimed: ClaimResult | None = None
        self.may_own = False
        self.waits_for: str | None = None
        self.lost: str | None = None
        self.bytes_done = 0
        self.bytes_total = 0
        self.last_error: str | None = None
        self.seconds: dict[str, float] = {}
        self._phase_began: datetime = workflow.now()

    # ------------------------------------------------------------ what is seen

    @workflow.query(description="Phase, bytes and last error of this operation.")
    def progress(self) -> Progress:
        """A query, which writes no history."""
        return Progress(
            operation=self.operation,
            workspace_id=self.workspace_id,
            run_id=workflow.info().run_id,
            phase=self.phase,
            bytes_done=self.bytes_done,
            bytes_total=self.bytes_total,
            last_error=self.last_error,
            waits_for=self.waits_for,
        )

    def enter(self, phase: Phase) -> None:
        """The operation is now in ``phase``; reported to queries, to the web UI and to the list."""
        now = workflow.now()
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + (now - self._phase_began).total_seconds()
        self.phase, self._phase_began = phase, now
        workflow.upsert_search_attributes([WS_PHASE.value_set(phase)])
        self.describe()

    def describe(self) -> None:
        """The current details in the web UI, as Markdown."""
        lines = [f"**{self.operation}** of workspace `{self.workspace_id}`: **{self.phase.value}**"]
        if self.bytes_total:
            counted = f"{self.bytes_done:,} of {self.bytes_total:,} bytes"
            is_counting = self.phase is Phase.COPYING and self.bytes_done < self.bytes_total
            lines.append(f"{counted} in steps that have ended. {_UNDER_WAY}" if is_counting else counted)
        if self.waits_for:
            lines.append(f"It waits for {self.waits_for}")
        if self.lost:
            lines.append(f"Lost: {self.lost}")
        if self.last_error:
            lines.append(f"Last error: {self.last_error}")
        workflow.set_current_details("\n\n".join(lines))

    def note_error(self, error: BaseException) -> StorageError:
        """Remember what went wrong, for queries, and return it as one of our errors."""
        found = storage_error(error, ErrorCode.BACKEND_UNAVAILABLE)
        if found is error:  # one that is raised from itself could not be sent
            found = StorageError(found.code, found.message, hint=found.hint, details=found.details)
        self.last_error = str(found)
        self.describe()
        return found

    # ------------------------------------------------------------ steps

    def input(self, kind: Callable[..., I], **fields: Any) -> I:
        """An input of a step, with workspace and place filled in."""
        return kind(workspace_id=self.workspace_id, place=self.place, **fields)

    async def step(
        self, step: Callable[[I], Awaitable[T]], argument: I, summary: str, *, timeouts: Timeouts | None = None
    ) -> T:
        """One control activity. A cancel that came meanwhile is raised afterwards, its result notwithstanding."""
        result = await self.run_uncancellable(step, argument, summary, timeouts=timeouts)
        self.check_cancelled()
        return result

    async def run_uncancellable(
        self, step: Callable[[I], Awaitable[T]], argument: I, summary: str, *, timeouts: Timeouts | None = None
    ) -> T:
        """One control activity behind the gate or in a compensation, where a cancel no longer counts."""
        return await workflow.execute_activity(step, argument, summary=summary, **(timeouts or policies.control()))

    async def best_effort(
        self, step: Callable[[I], Awaitable[None]], argument: I, summary: str, *, timeouts: Timeouts | None = None
    ) -> StorageError | None:
        """A step whose failure must not stop what else is to be done. It is logged, kept for queries, and returned."""
        try:
            await self.run_uncancellable(step, argument, summary, timeouts=timeouts or policies.undo())
        except FailureError as error:
            found = self.note_error(error)
            workflow.logger.warning("%s failed: %s", summary, found)
            return found
        return None

    def check_cancelled(self) -> None:
        """Raise if this run was asked to cancel."""
        if is_cancelled():
            raise asyncio.CancelledError("asked to cancel")

    def check_names(self) -> None:
        """The first line of every run: ``InvalidInput`` unless it has the one id of its workspace.

        Under another one it would exclude no other run, and no status, cancel or mover would find it.
        """
        named = workflow_id(check_workspace_id(self.workspace_id))
        if workflow.info().workflow_id != named:
            raise StorageError(
                ErrorCode.INVALID_INPUT,
                f"this run's workflow id is {workflow.info().workflow_id}, and that of its workspace is {named}",
                hint="Start operations by StorageClient or the CLI. A Temporal Schedule appends the time to the id: "
                "let it start a workflow of your own, whose activity calls StorageClient.",
            )

    async def claim(self) -> ClaimResult:
        """The first step: without it nothing may be written. Returns what a run must know of the place.

        A late write of an earlier owner is waited out here, whatever cancels arrive. Queries show the wait.
        """
        self.may_own = True  # from here on: an attempt whose result was lost may have taken the record
        claim = self.input(
            ClaimInput,
            operation=self.operation,
            accept_loss=self.accept_loss,
            old_place_is_dead=self.old_place_is_dead,
        )
        claimed = await self.run_uncancellable(steps.claim, claim, "claim the workspace's record")
        if claimed.wait_seconds:
            self.waits_for = f"the last write of {claimed.waits_for} ({claimed.wait_seconds:.0f} s)"
            workflow.logger.warning("waiting for %s", self.waits_for)
            self.describe()
            await shield_until_done(
                workflow.sleep(claimed.wait_seconds, summary="a late write of an earlier owner may land")
            )
            self.waits_for = None
            self.describe()
        self.claimed = claimed
        return claimed

    async def settle(self) -> None:
        """Give the store the time in which it gets acknowledged bytes onto its disks (or make it do so)."""
        assert self.claimed is not None
        self.enter(Phase.SETTLING)
        if self.claimed.settle_by_sync:
            await self.run_uncancellable(
                steps.sync_store, self.input(StepInput), "force the store's bytes onto the disk"
            )
        if self.claimed.settle_seconds:
            await workflow.sleep(self.claimed.settle_seconds, summary="settle: the store's own time to sync")

    async def prove_again(self, look: InspectResult) -> None:
        """Let an archive whose bucket was copied be read back whole, and its manifest be written again."""
        await self.settle()
        self.enter(Phase.VERIFYING)
        await self.run_uncancellable(
            steps.prove_again,
            self.input(ProveInput, archive_id=look.archive_id or ""),
            "read the archive back where it lies now, prove it again",
            timeouts=policies.reading(),
        )

    async def release(self, *, gone_uid: str | None = None) -> None:
        """The last step of every run that may own the record, failed or not. Its failure costs the next run a wait,
        nothing else; after a claim that failed it is tried for a minute only."""
        signing = self.input(ReleaseInput, gone_uid=gone_uid)
        if self.claimed is not None:
            await self.best_effort(steps.release, signing, "release the record")
        elif self.may_own:
            summary = "release the record, if the claim got through"
            with contextlib.suppress(FailureError):  # the record was not ours after all, or its store is still away
                await self.run_uncancellable(steps.release, signing, summary, timeouts=policies.brief())

    def note_loss(self, lost: str | None) -> None:
        """Report, in log and details, a volume that was ready and is not there."""
        self.lost = lost
        if lost is not None:
            workflow.logger.warning("lost: %s", lost)
            self.describe()

    def result(self, **fields: Any) -> OperationResult:
        """The result, with what every result has."""
        self.enter(Phase.DONE)
        fields.setdefault("home_store_key", self.claimed.home_store_key if self.claimed else None)
        return OperationResult(
            operation=self.operation,
            workspace_id=self.workspace_id,
            run_id=workflow.info().run_id,
            seconds={phase: round(spent, 3) for phase, spent in self.seconds.items() if spent},
            **fields,
        )

    def failure(self, error: BaseException) -> BaseException:
        """What to end the run with: a cancel as a cancel, all else as the ``StorageError`` that it is."""
        if is_cancelled() and is_cancel(error):
            return asyncio.CancelledError("cancelled and undone")
        return self.note_error(error)
