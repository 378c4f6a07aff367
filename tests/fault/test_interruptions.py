"""cancel, terminate, reset and worker loss in every phase that an operation passes, on real servers and processes.

The list of phases comes from the histories of plain runs, so a new phase is tried without being named here. A trial
stands before its first request to the store in its phase; what that request would do lands after everything else.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import default

from codehub_storage import ErrorCode, StorageError, keys
from codehub_storage.client import OperationHandle
from codehub_storage.contracts import CancelOutcome, Operation, Phase
from tests.fakes.s3_faults import DropAnswer
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.stops import (
    PATIENCE_SECONDS,
    Stop,
    Tree,
    World,
    fill,
    handle_of,
    history_of,
    how_it_ends,
    of,
    phase_of,
    proven_tree,
    reset,
    until,
    until_no_mover,
    world_of,
)
from tests.harness.watching import children_of, mover_of
from worker.dev.temporal import TemporalServer

AT_A_TIME = 8
UNSEEN = {Phase.ATTACHING, Phase.UNDOING, Phase.DONE, Phase.UNKNOWN}
"""Phases in which a plain run never waits: passed within one workflow task, or of other runs."""


# ------------------------------------------------------------ a workspace, and an operation on it


@dataclass
class Trial:
    """One workspace, on which ``operation`` is stopped in ``phase``. ``tree``: what its user had; None: nothing yet."""

    site: Site
    operation: Operation
    phase: Phase
    tree: Tree | None = None
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = self.site.workspace_id()

    def __str__(self) -> str:
        return f"{self.operation.value} in {self.phase.value}"

    @property
    def volume_key(self) -> str:
        """The name of the volume."""
        return self.site.key(self.id)

    async def prepare(self) -> None:
        """All operations before ours, in the order of a workspace's life."""
        if self.operation is Operation.PROVISION:
            return
        await self.site.storage.provision(self.id)
        self.fill()
        if self.operation is Operation.RESTORE:
            await self.site.storage.archive(self.volume_key)
        if self.operation is Operation.PURGE:  # anything of these names has to go, so no mover is needed to make it
            for key in (keys.archive_key(self.id), keys.manifest_key(keys.archive_key(self.id))):
                await self.site.truth.put_if(key, b"something", etag=None)

    def fill(self) -> None:
        """Files for the volume; where an archive is to be seen copying, more than is under way at a time."""
        folder = self.site.volume(self.id)
        for number in range(2 if self.phase is Phase.COPYING else 0):
            (folder / f"large-{number}").write_bytes(os.urandom(20_000_000))
        self.tree = fill(folder)

    async def start(self) -> OperationHandle:
        """The operation, started or joined."""
        storage, archive = self.site.storage, keys.archive_key(self.id)
        starts: dict[Operation, Callable[[], Awaitable[OperationHandle]]] = {
            Operation.PROVISION: lambda: storage.start_provision(self.id),
            Operation.ARCHIVE: lambda: storage.start_archive(self.volume_key),
            Operation.RESTORE: lambda: storage.start_restore(archive),
            Operation.PURGE: lambda: storage.start_purge(self.volume_key, archive),
        }
        return await starts[self.operation]()

    async def in_phase(self) -> bool:
        """True if the run is in the trial's phase."""
        return await phase_of(self.site, self.id) is self.phase

    async def check_whole(self) -> None:
        """One complete copy: the volume is intact, or a proven archive extracts to it. Purge was asked to end that."""
        if self.tree is not None and self.operation is not Operation.PURGE:
            world = await world_of(self.site, self.id)
            assert self.tree in (world.volume, await proven_tree(self.site, self.id)), "no complete copy"

    async def check_done(self) -> World:
        """What the operation promises, and nothing left over; the world."""
        world = await world_of(self.site, self.id)
        proven = await proven_tree(self.site, self.id)
        expected: dict[Operation, tuple[Tree | None, Tree | None, str | None]] = {
            Operation.PROVISION: ({}, None, "ready"),
            Operation.ARCHIVE: (None, self.tree, "deleting"),
            Operation.RESTORE: (self.tree, self.tree, "ready"),
            Operation.PURGE: (None, None, None),
        }
        assert (world.volume, proven, world.state) == expected[self.operation]
        await self._check_tidy(world)
        if self.operation is Operation.PURGE:
            assert world.objects[keys.archive_key(self.id)] == ()
            assert world.objects[keys.manifest_key(keys.archive_key(self.id))] == ()
        return world

    async def check_undone(self) -> World:
        """The workspace is as it was before the operation, and nothing is left over; the world."""
        world = await world_of(self.site, self.id)
        if self.operation is Operation.ARCHIVE:
            assert (world.volume, world.state) == (self.tree, "ready")
        else:  # the record may still tell of the volume that was archived
            assert world.volume is None
            assert world.state in (None, "deleting")
        if self.operation is Operation.RESTORE:
            assert await proven_tree(self.site, self.id) == self.tree
        # Where the claim was given up before its write, a new workspace has no record yet. No other has none.
        is_new = (self.operation, self.phase) == (Operation.PROVISION, Phase.CLAIMING)
        await self._check_tidy(world, may_have_no_record=is_new)
        return world

    async def _check_tidy(self, world: World, *, may_have_no_record: bool = False) -> None:
        assert (world.uploads, world.trash) == (0, False)
        assert world.has_signed_off or (may_have_no_record and world.record is None)
        await until_no_mover(self.site, self.id)


Act = Callable[[Trial, Stop, OperationHandle], Awaitable[None]]


@dataclass(frozen=True)
class Stand:
    """A site behind a proxy, with a worker."""

    site: Site
    proxy: S3Proxy

    async def stopped(self, trial: Trial) -> tuple[Stop, OperationHandle]:
        """Prepare the trial and let its operation come to its phase."""
        await trial.prepare()
        stop = self.proxy.add(Stop(is_here=trial.in_phase), of(trial.id))
        handle = await trial.start()
        await asyncio.wait_for(stop.reached.wait(), PATIENCE_SECONDS)
        return stop, handle

    async def each(self, phases: dict[Operation, list[Phase]], act: Act) -> None:
        """A trial for every operation and phase, some at a time; all that fail are told."""
        trials = [Trial(self.site, operation, phase) for operation in phases for phase in phases[operation]]
        turn = asyncio.Semaphore(AT_A_TIME)

        async def one(trial: Trial) -> None:
            async with turn:
                stop, handle = await self.stopped(trial)
                try:
                    await act(trial, stop, handle)
                finally:
                    stop.release.set()
                    stop.resume.set()

        await together(trials, one)


async def together(trials: Sequence[Trial], act: Callable[[Trial], Awaitable[None]]) -> None:
    """All trials side by side; a failure does not end the others."""
    ends = await asyncio.gather(*(act(trial) for trial in trials), return_exceptions=True)
    failed = []
    for trial, end in zip(trials, ends, strict=True):
        if isinstance(end, BaseException):
            end.add_note(f"{trial}, workspace {trial.id}")
            failed.append(end)
    if failed:
        raise BaseExceptionGroup(f"{len(failed)} of {len(trials)} trials", failed)


@asynccontextmanager
async def stand(
    folder: Path, temporal_server: TemporalServer, seaweed: Seaweed, settle_seconds: int = 0
) -> AsyncIterator[Stand]:
    """See ``Stand``."""
    async with (
        S3Proxy(seaweed.ports[0]) as proxy,
        open_site(
            folder,
            temporal_server,
            seaweed,
            endpoint_url=proxy.endpoint_url,
            CODEHUB_STORAGE_SEGMENT_BYTES="65536",
            CODEHUB_STORAGE_MAX_MOVERS="16",
            CODEHUB_STORAGE_SETTLE=str(settle_seconds),
        ) as site,
    ):
        site.start_worker()
        yield Stand(site, proxy)


# ------------------------------------------------------------ the list of phases

_known: dict[Operation, list[Phase]] = {}


async def phases_of(site: Site) -> dict[Operation, list[Phase]]:
    """The phases in which a plain run of each operation waits for something, in order; found out once a session."""
    if not _known:
        trial = Trial(site, Operation.PROVISION, Phase.COPYING)
        for trial.operation in Operation:
            handle = await trial.start()
            await handle.result()
            await trial.check_done()
            _known[trial.operation] = _waited_in(await history_of(site, trial.id, handle.run_id))
            if trial.operation is Operation.PROVISION:
                trial.fill()
    return _known


def _waited_in(events: list[HistoryEvent]) -> list[Phase]:
    """The phases that were current when a workflow task after the first was scheduled."""
    phase, seen = Phase.CLAIMING, []
    for event in events[2:]:
        if event.event_type == EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
            fields = event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
            if "WsPhase" in fields:
                phase = Phase(default().payload_converter.from_payload(fields["WsPhase"]))
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED and phase not in seen:
            seen.append(phase)
    return seen


# ------------------------------------------------------------ the four interruptions


async def test_every_phase_is_known(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """The plain runs pass every phase there is, but for those that are named, so none goes untried."""
    async with stand(tmp_path / "site", temporal_server, seaweed, settle_seconds=1) as at:
        _known.clear()
        phases = await phases_of(at.site)
        assert {phase for each in phases.values() for phase in each} == set(Phase) - UNSEEN


async def _storing_phases(site: Site) -> dict[Operation, list[Phase]]:
    """Those phases in which the store is spoken to; what else there is, settling, has a test of its own."""
    return {
        operation: [phase for phase in phases if phase is not Phase.SETTLING]
        for operation, phases in (await phases_of(site)).items()
    }


def _is_behind_gate(trial: Trial) -> bool:
    return trial.operation is Operation.PURGE or trial.phase in (Phase.COMMITTING, Phase.DELETING)


async def _cancelled(trial: Trial, stop: Stop) -> CancelOutcome:
    """Ask a stopped run to cancel, let it go on once the server knows of that, and answer what became of it."""
    asked = asyncio.create_task(trial.site.storage.cancel(trial.id))

    async def is_noted() -> bool:
        events = await history_of(trial.site, trial.id)
        return any(e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED for e in events)

    await until(is_noted, "the server never heard of the cancel")
    # In this order: what was sent by an attempt that was given up must not land behind what undoes it.
    await stop.let_it_land()
    stop.resume.set()
    return await asked


async def test_cancel_tells_the_truth(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """Before the gate all is undone and `cancel` says so; behind it the operation is done and `cancel` says that."""

    async def cancel(trial: Trial, stop: Stop, handle: OperationHandle) -> None:
        outcome = await _cancelled(trial, stop)
        if _is_behind_gate(trial):
            assert outcome is CancelOutcome.TOO_LATE
            await trial.check_done()
        else:
            assert outcome is CancelOutcome.CANCELLED
            await trial.check_undone()

    async with stand(tmp_path / "site", temporal_server, seaweed) as at:
        await at.each(await _storing_phases(at.site), cancel)


async def test_a_cancel_forgets_an_upload_that_nobody_heard_of(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """The answer to the first creation was lost, so two uploads are open; neither is left."""
    async with stand(tmp_path / "site", temporal_server, seaweed) as at:
        trial = Trial(at.site, Operation.ARCHIVE, Phase.COPYING)
        at.proxy.add(DropAnswer(), of(trial.id, method="POST", query="uploads"))
        stop, _ = await at.stopped(trial)
        assert (await world_of(at.site, trial.id)).uploads == 2
        assert await _cancelled(trial, stop) is CancelOutcome.CANCELLED
        await trial.check_undone()


async def test_a_mover_that_loses_a_process_is_replaced(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """Out of memory, say: the mover ends with it, and another goes on, or begins anew, as after its own death."""

    async def lose(trial: Trial, stop: Stop, handle: OperationHandle) -> None:
        if trial.operation is Operation.RESTORE:  # it stands before its mover is there
            stop.resume.set()
            await stop.let_it_land()
        found = list[int]()

        async def has_children() -> bool:
            mover = mover_of(trial.site.root, trial.id)
            found[:] = [] if mover is None else children_of(mover)
            return bool(found)

        await until(has_children, "no mover with children")
        os.kill(found[0], signal.SIGKILL)
        stop.resume.set()
        await stop.let_it_land()
        await handle.result()
        await trial.check_done()

    async with stand(tmp_path / "site", temporal_server, seaweed) as at:
        await at.each({Operation.ARCHIVE: [Phase.COPYING], Operation.RESTORE: [Phase.COPYING]}, lose)


async def test_after_terminate_the_next_call_ends_it(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """No mover stays, one complete copy stands, the same call succeeds, and what comes late changes nothing."""

    async def terminate(trial: Trial, stop: Stop, handle: OperationHandle) -> None:
        await handle_of(trial.site, trial.id, handle.run_id).terminate("a test")
        with pytest.raises(StorageError) as ended:
            await handle.result()
        assert ended.value.code == ErrorCode.BACKEND_UNAVAILABLE
        await until_no_mover(trial.site, trial.id)
        await trial.check_whole()
        stop.resume.set()
        await (await trial.start()).result()
        done = await trial.check_done()
        await stop.let_it_land()
        assert await world_of(trial.site, trial.id) == done

    async with stand(tmp_path / "site", temporal_server, seaweed) as at:
        await at.each(await _storing_phases(at.site), terminate)


async def test_a_reset_run_claims_anew_or_is_locked_out(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """[H1] Reset to its latest task, behind its claim, a run changes nothing more; reset before it, it does it all."""

    async def reset_both_ways(trial: Trial, stop: Stop, handle: OperationHandle) -> None:
        await reset(trial.site, trial.id, handle.run_id, -1)
        stop.resume.set()
        if trial.phase is not Phase.CLAIMING:
            assert await how_it_ends(trial.site, trial.id) == ErrorCode.NOT_YOURS
            await until_no_mover(trial.site, trial.id)
            await trial.check_whole()
            await reset(trial.site, trial.id, handle.run_id, 0)
        assert await how_it_ends(trial.site, trial.id) is None
        done = await trial.check_done()
        await stop.let_it_land()
        assert await world_of(trial.site, trial.id) == done

    async with stand(tmp_path / "site", temporal_server, seaweed) as at:
        await at.each(await _storing_phases(at.site), reset_both_ways)


async def test_after_the_loss_of_its_worker_the_run_ends(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """The worker is killed with an operation in every phase; the next worker ends them all, and nothing lands later."""
    async with stand(tmp_path / "site", temporal_server, seaweed) as at:
        phases = await _storing_phases(at.site)
        trials = [Trial(at.site, operation, phase) for operation in phases for phase in phases[operation]]
        stops: dict[str, tuple[Stop, OperationHandle]] = {}
        turn = asyncio.Semaphore(AT_A_TIME)

        async def stop(trial: Trial) -> None:
            async with turn:
                stops[trial.id] = await at.stopped(trial)

        async def end(trial: Trial) -> None:
            stop, handle = stops[trial.id]
            await handle.result()
            done = await trial.check_done()
            await stop.let_it_land()
            assert await world_of(at.site, trial.id) == done

        await together(trials, stop)
        at.site.workers[0].kill()
        for trial in trials:
            await until_no_mover(at.site, trial.id)
            await trial.check_whole()
            stops[trial.id][0].resume.set()
        at.site.start_worker()
        await together(trials, end)


async def test_while_it_settles(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """All four in the one phase that speaks to no store: the archive is complete, not proven, and waits."""
    async with stand(tmp_path / "site", temporal_server, seaweed, settle_seconds=3600) as at:
        trials = [Trial(at.site, Operation.ARCHIVE, Phase.SETTLING) for _ in range(3)]
        cancelled, terminated, replayed = trials
        handles: dict[str, OperationHandle] = {}

        async def settle(trial: Trial) -> None:
            await trial.prepare()
            handles[trial.id] = await trial.start()
            await until(trial.in_phase, "the archive never settles")

        await together(trials, settle)
        at.site.workers[0].kill()  # the run waits on: cancelled below, by a worker that never saw it before
        at.site.start_worker(CODEHUB_STORAGE_SETTLE="0")
        assert await at.site.storage.cancel(cancelled.id) is CancelOutcome.CANCELLED
        await cancelled.check_undone()
        await handle_of(at.site, terminated.id).terminate("a test")
        await until_no_mover(at.site, terminated.id)
        await terminated.check_whole()
        await (await terminated.start()).result()
        await terminated.check_done()
        await reset(at.site, replayed.id, handles[replayed.id].run_id, 0)
        assert await how_it_ends(at.site, replayed.id) is None
        await replayed.check_done()
