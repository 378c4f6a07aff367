"""[H13] A worker is replaced in mid-operation: a mover that can outlive it goes on, whatever else happens meanwhile.

On Docker and Kubernetes. In every test the mover stands before one request to the store until the hand-over is done.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import PauseActivityRequest

from activities.control.lease import HANDED_OVER
from activities.runtime import failpoints
from codehub_storage import CancelOutcome, ErrorCode, OperationResult, StorageError, keys
from codehub_storage.client import OperationHandle
from tests.fakes.s3_proxy import S3Proxy
from tests.fakes.steps import LEASE
from tests.harness.habitats import BACKEND
from tests.harness.homes import provisioned
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from tests.harness.stops import (
    Stop,
    Tree,
    handle_of,
    history_of,
    of,
    paused_at,
    repeated_steps,
    tree_of,
    until,
    until_no_mover,
)
from worker.dev.temporal import TemporalServer

FILES, FILE_BYTES = 6, 1 << 20
ATTACH = "control.backend.attach"

pytestmark = [
    pytest.mark.field("O1"),
    pytest.mark.skipif(BACKEND == "directory", reason="movers of folders end with their worker"),
]


@dataclass
class Stand:
    """A site behind a proxy, and what its tests have in common. The worker that holds the mover is ``workers[0]``."""

    site: Site
    proxy: S3Proxy

    async def home(self) -> tuple[str, str, Tree]:
        """A volume of several segments: (workspace id, home_store_key, its tree)."""
        workspace, volume = await provisioned(self.site)
        for number in range(FILES):
            (self.site.volume(workspace) / f"noise-{number}").write_bytes(os.urandom(FILE_BYTES))
        return workspace, volume, tree_of(self.site.volume(workspace))

    @asynccontextmanager
    async def moving(self, workspace: str, start: Awaitable[OperationHandle], **where: str) -> AsyncIterator[Moving]:
        """An operation whose mover stands at a request to the store within the block, and then goes on."""
        stop = self.proxy.add(Stop(), of(workspace, **where))
        handle = await start
        await asyncio.wait_for(stop.reached.wait(), 300)
        yield Moving(self.site, workspace, handle, self.site.habitat.control_groups(workspace))
        stop.resume.set()
        await stop.let_it_land()
        self.proxy.clear()

    async def archiving(self) -> tuple[str, Tree, AbstractAsyncContextManager[Moving]]:
        """An archive, held in its first upload."""
        workspace, volume, tree = await self.home()
        start = self.site.storage.start_archive(volume)
        return workspace, tree, self.moving(workspace, start, method="PUT", query="partNumber")

    async def restoring(self) -> tuple[str, Tree, AbstractAsyncContextManager[Moving]]:
        """A restore, held in its first read of segments."""
        workspace, volume, tree = await self.home()
        archive = await self.site.storage.archive(volume)
        start = self.site.storage.start_restore(archive)
        return workspace, tree, self.moving(workspace, start, method="GET", name="home.tar.gz")

    async def comes_back(self, workspace: str, tree: Tree) -> None:
        """What was archived is restored equal."""
        await self.site.storage.restore(keys.archive_key(workspace))
        assert tree_of(self.site.volume(workspace)) == tree


@dataclass
class Moving:
    """An operation in the middle. ``mover``: the ids of its containers, or of its Pods."""

    site: Site
    workspace: str
    handle: OperationHandle
    mover: list[str]

    async def lease(self) -> PendingActivityInfo:
        """What the server says of it."""
        pending = (await handle_of(self.site, self.workspace).describe()).raw_description.pending_activities
        [lease] = [each for each in pending if each.activity_type.name == LEASE]
        return lease

    async def until_attempt(self, number: int) -> None:
        """Return when a worker has taken the lease's attempt of that number, or a later one."""

        async def is_taken() -> bool:
            lease = await self.lease()
            return lease.attempt >= number and lease.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED

        await until(is_taken, f"nobody takes attempt {number} of the lease")

    async def until_held(self, number: int) -> None:
        """Return when that attempt, or a later one, has told the server that it has the mover."""
        await self.until_attempt(number)

        async def is_held() -> bool:
            said = b"".join(each.data for each in (await self.lease()).heartbeat_details.payloads[1:])
            return said.strip(b'"').isdigit() and int(said.strip(b'"')) >= number

        await until(is_held, f"attempt {number} of the lease has no mover")

    def goes_on(self) -> None:
        """The same mover, alive."""
        assert self.site.habitat.control_groups(self.workspace) == self.mover

    async def ends(self) -> OperationResult:
        """Its result; there never was another mover."""
        result = await self.handle.result()
        history = await history_of(self.site, self.workspace, self.handle.run_id)
        types = [event.activity_task_scheduled_event_attributes.activity_type.name for event in history]
        assert types.count(LEASE) == 1, "the mover was replaced"
        return result

    async def repeated(self) -> list[str]:
        """The steps that its mover had to take again."""
        return repeated_steps(await history_of(self.site, self.workspace, self.handle.run_id))


@pytest.fixture
async def stand(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Stand]:
    """See ``Stand``."""
    async with (
        S3Proxy(site_store.ports[0]) as proxy,
        open_site(
            tmp_path / "site",
            temporal_server,
            site_store,
            endpoint_url=proxy.endpoint_url,
            time_scale=0.5,
            CODEHUB_STORAGE_SEGMENT_BYTES=str(FILE_BYTES),
        ) as site,
    ):
        site.start_worker()
        yield Stand(site, proxy)


# ------------------------------------------------------------ nothing is lost


async def hand_over(site: Site, moving: Moving) -> None:
    """A second worker is there when the first gets its SIGTERM."""
    site.start_worker()
    site.workers[0].stop()
    moving.goes_on()
    await moving.until_held(2)
    assert (await moving.lease()).last_failure.application_failure_info.type == HANDED_OVER


@pytest.mark.parametrize("operation", [Stand.archiving, Stand.restoring], ids=["archive", "restore"])
async def test_an_orderly_stop_costs_nothing(
    stand: Stand, operation: Callable[[Stand], Awaitable[tuple[str, Tree, AbstractAsyncContextManager[Moving]]]]
) -> None:
    """The same container or Pod before and after, no step taken again nor byte sent twice, and the tree is equal."""
    workspace, tree, block = await operation(stand)
    async with block as moving:
        await moving.until_held(1)
        await hand_over(stand.site, moving)
        moving.goes_on()
    assert (await moving.ends()).sent_again_bytes == 0
    assert await moving.repeated() == []
    if operation is Stand.archiving:
        await stand.comes_back(workspace, tree)
    assert tree_of(stand.site.volume(workspace)) == tree


async def test_nobody_is_there_for_a_while(stand: Stand) -> None:
    """One worker, replaced by hand: the mover goes on alone, with its step, until the next one is there."""
    workspace, tree, block = await stand.archiving()
    async with block as moving:
        await moving.until_held(1)
        stand.site.workers[0].stop()
    moving.goes_on()
    stand.site.start_worker()
    assert (await moving.ends()).sent_again_bytes == 0
    assert await moving.repeated() == []
    await stand.comes_back(workspace, tree)


async def test_a_worker_dies_in_between(stand: Stand, tmp_path: Path) -> None:
    """Killed right after it has adopted, before it could say so: a third one has the same mover."""
    workspace, tree, block = await stand.archiving()
    marker = tmp_path / "killed"
    async with block as moving:
        await moving.until_held(1)
        stand.site.start_worker(**{failpoints.VARIABLE: f"{ATTACH}.after:once={marker}"})
        stand.site.workers[0].stop()

        async def has_died() -> bool:
            return marker.exists()

        await until(has_died, "nobody adopts")
        stand.site.start_worker()
        await moving.until_held(3)
        moving.goes_on()
    await moving.ends()
    await stand.comes_back(workspace, tree)


async def test_a_worker_that_was_thought_dead_wakes_up(stand: Stand) -> None:
    """It held the mover, stood still for longer than its heartbeat allows, and leaves it to who has adopted it."""
    workspace, tree, block = await stand.archiving()
    async with block as moving:
        await moving.until_held(1)
        first = stand.site.workers[0]
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        stand.site.start_worker()
        await moving.until_held(2)
        os.kill(first.pid, signal.SIGCONT)
        first.stop()  # in order: what it does about the mover, it has done by then
        moving.goes_on()
    await moving.ends()
    await stand.comes_back(workspace, tree)


# ------------------------------------------------------------ cancelled meanwhile


async def is_undone(stand: Stand, moving: Moving, tree: Tree) -> None:
    """The cancel is answered, and by then no mover is left and the volume is as it was."""
    assert await stand.site.storage.cancel(moving.workspace) == CancelOutcome.CANCELLED
    assert stand.site.habitat.control_groups(moving.workspace) == []
    with pytest.raises(StorageError) as failed:
        await moving.handle.result()
    assert failed.value.code is ErrorCode.CANCELLED
    assert tree_of(stand.site.volume(moving.workspace)) == tree


async def test_a_cancel_while_the_next_worker_adopts(stand: Stand, tmp_path: Path) -> None:
    """Its lease has no mover yet that it could stop."""
    _, tree, block = await stand.archiving()
    gate = tmp_path / "gate"
    async with block as moving:
        await moving.until_held(1)
        stand.site.start_worker(**{failpoints.VARIABLE: f"{ATTACH}.before:pause={gate}"})
        stand.site.workers[0].stop()
        await paused_at(gate)
        moving.goes_on()
        await is_undone(stand, moving, tree)


async def test_a_cancel_between_two_attempts(stand: Stand) -> None:
    """No worker has the lease: the server cancels it, and nobody of it hears."""
    _, tree, block = await stand.archiving()
    async with block as moving:
        await moving.until_held(1)
        execution = WorkflowExecution(workflow_id=keys.workflow_id(moving.workspace), run_id=moving.handle.run_id)
        await stand.site.temporal.workflow_service.pause_activity(
            PauseActivityRequest(
                namespace=stand.site.temporal.namespace,
                execution=execution,
                id=(await moving.lease()).activity_id,
                identity="a test",
                reason=str(uuid4()),
            )
        )

        async def is_nobodys() -> bool:
            return (await moving.lease()).state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED

        await until(is_nobodys, "the lease is not let go")
        moving.goes_on()
        await is_undone(stand, moving, tree)


async def test_a_restore_that_is_cancelled_meanwhile(stand: Stand, tmp_path: Path) -> None:
    """The half-made volume goes with its mover."""
    workspace, _, block = await stand.restoring()
    gate = tmp_path / "gate"
    async with block as moving:
        await moving.until_held(1)
        stand.site.start_worker(**{failpoints.VARIABLE: f"{ATTACH}.before:pause={gate}"})
        stand.site.workers[0].stop()
        await paused_at(gate)
        assert await stand.site.storage.cancel(workspace) == CancelOutcome.CANCELLED
        await until_no_mover(stand.site, workspace)
        assert not stand.site.volume(workspace).exists()
