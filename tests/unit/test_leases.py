"""What ends a mover, and what only ends an attempt of its lease."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities.backends.base import MoverSpec, VolumeBackend
from activities.control.lease import HANDED_OVER, LEASE_ATTEMPTS, STARTED, LeaseActivities
from activities.control.services import Services
from activities.objectstore.base import ObjectStore
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.movers import LeasedMovers
from worker.mover import run
from workflows.messages import MOVER_PROTOCOL, HoldMoverInput

LEASE = HoldMoverInput(workspace_id="ws1", place="p1", volume_uid="u1", queue="mover/token/1", writable=True)
SHUTDOWN = ActivityCancellationDetails(worker_shutdown=True)
AWAY = StorageError(ErrorCode.BACKEND_UNAVAILABLE, "no engine")

pytestmark = pytest.mark.field("O1")


class Attempt:
    """One attempt of the lease, which runs until its mover dies or the attempt is ended."""

    def __init__(self, movers: LeasedMovers, number: int = 1, heard: tuple[str, ...] = ()) -> None:
        self._environment = ActivityEnvironment()
        self._environment.info = dataclasses.replace(
            self._environment.info, attempt=number, heartbeat_details=list(heard), workflow_run_id="run-1"
        )
        self._environment.on_heartbeat = self._beat
        self.heard = heard
        self.holds = asyncio.Event()
        services = Services(cast(ObjectStore, None), cast(VolumeBackend, movers), "p1")
        self._running: asyncio.Task[Any] = asyncio.ensure_future(
            self._environment.run(LeaseActivities(services).hold_mover, LEASE)
        )

    def _beat(self, *details: str) -> None:
        self.heard = details
        self.holds.set()

    async def ends(self, how: ActivityCancellationDetails | None = None) -> BaseException:
        """What it raises, by itself or when it is cancelled for the reason ``how``."""
        if how is not None:
            await self.holds.wait()
            self._environment.cancel(how)
        with pytest.raises(BaseException) as raised:
            await self._running
        return raised.value


async def test_a_shutdown_leaves_a_mover_that_outlives_it_to_the_next_attempt() -> None:
    """Tried again at once, and no warning in any log; the next attempt has the same mover, and starts none."""
    movers = LeasedMovers(movers_outlive_worker=True)
    first = Attempt(movers)
    error = await first.ends(SHUTDOWN)
    assert isinstance(error, ApplicationError)
    assert (error.type, error.non_retryable, error.category) == (HANDED_OVER, False, ApplicationErrorCategory.BENIGN)
    assert error.next_retry_delay, "the SDK takes a delay of 0 for none, and the next attempt would wait"
    assert error.next_retry_delay.total_seconds() < 0.01
    second = Attempt(movers, 2, first.heard)
    await second.holds.wait()
    [mover] = movers.movers
    assert mover.stops == 0
    await second.ends(ActivityCancellationDetails(cancel_requested=True))
    assert mover.stops == 1


async def test_a_shutdown_ends_a_mover_that_cannot_outlive_it() -> None:
    """The workflow hears that it is dead, from the worker that ended it."""
    movers = LeasedMovers(movers_outlive_worker=False)
    error = await Attempt(movers).ends(SHUTDOWN)
    assert isinstance(error, StorageError)
    assert error.code is ErrorCode.MOVER_FAILED
    assert movers.movers[0].stops == 1


@pytest.mark.parametrize("outlives", [True, False])
async def test_a_shutdown_before_there_is_a_mover_hands_over_too(outlives: bool) -> None:
    """Nothing was started, so the next worker may begin at once."""

    class Slow(LeasedMovers):
        async def attach(self, *arguments: Any, **named: Any) -> Any:
            attempt.holds.set()
            await asyncio.sleep(600)

    attempt = Attempt(Slow(movers_outlive_worker=outlives))
    error = await attempt.ends(SHUTDOWN)
    assert isinstance(error, ApplicationError)
    assert error.type == HANDED_OVER


@pytest.mark.parametrize(
    ("how", "stays", "outliving_stays"),
    [
        (ActivityCancellationDetails(cancel_requested=True), False, False),
        (ActivityCancellationDetails(paused=True), True, True),
        (ActivityCancellationDetails(reset=True), True, True),
        (ActivityCancellationDetails(not_found=True), False, True),
        (ActivityCancellationDetails(timed_out=True), False, True),
    ],
    ids=["cancel", "pause", "reset", "unknown-to-the-server", "timed-out"],
)
async def test_what_stops_a_mover(how: ActivityCancellationDetails, stays: bool, outliving_stays: bool) -> None:
    """A container or Pod only its run; by the time that an attempt is given up, the next one may have adopted it."""
    for movers, expected in ((LeasedMovers(False), stays), (LeasedMovers(True), outliving_stays)):
        assert isinstance(await Attempt(movers).ends(how), asyncio.CancelledError)
        assert (movers.movers[0].stops == 0) is expected


async def test_an_attempt_after_one_that_held_only_adopts() -> None:
    """Where the mover died meanwhile: `MoverFailed`, and no second writer."""
    movers = LeasedMovers(movers_outlive_worker=True)
    error = await Attempt(movers, 2, (STARTED, "1")).ends()
    assert isinstance(error, StorageError)
    assert (error.code, movers.movers) == (ErrorCode.MOVER_FAILED, [])


async def test_a_lease_asks_for_its_own_protocol() -> None:
    """A backend adopts by what is asked for, so a mover of an older image is none."""
    movers = LeasedMovers(movers_outlive_worker=True)
    first = Attempt(movers)
    await first.holds.wait()
    [mover] = movers.movers
    assert mover.spec.protocol == MOVER_PROTOCOL
    mover.spec = dataclasses.replace(mover.spec, protocol=MOVER_PROTOCOL - 1)
    await first.ends(SHUTDOWN)
    error = await Attempt(movers, 2, first.heard).ends()
    assert isinstance(error, StorageError)
    assert error.code is ErrorCode.MOVER_FAILED


def test_a_mover_of_another_image_than_its_worker_says_so(tmp_path: Path) -> None:
    """At once, instead of being asked for steps that it does not know."""
    spec = MoverSpec("ws1", "u1", "run-1", "mover/token/1", writable=False, protocol=MOVER_PROTOCOL + 1)
    with pytest.raises(SystemExit, match="take one image for both"):
        run(spec, tmp_path)


async def test_so_many_attempts_without_a_mover_are_final() -> None:
    """Counted from the last that had one: neither handing over nor a long life uses them up."""
    movers = LeasedMovers(movers_outlive_worker=True, refuses=lambda: AWAY)
    assert await Attempt(movers, LEASE_ATTEMPTS - 1).ends() is AWAY
    assert await Attempt(movers, 1000 + LEASE_ATTEMPTS - 1, (STARTED, "1000")).ends() is AWAY
    for number, heard in ((LEASE_ATTEMPTS, ()), (1000 + LEASE_ATTEMPTS, (STARTED, "1000"))):
        error = await Attempt(movers, number, heard).ends()
        assert isinstance(error, ApplicationError)
        assert (error.type, error.message, error.non_retryable) == ("BackendUnavailable", "no engine", True)


async def test_a_fault_of_ours_is_not_tried_for_ever() -> None:
    """What is no error of the list ends the lease just so."""
    movers = LeasedMovers(movers_outlive_worker=True, refuses=lambda: KeyError("a fault"))
    assert isinstance(await Attempt(movers).ends(), KeyError)
    error = await Attempt(movers, LEASE_ATTEMPTS).ends()
    assert isinstance(error, ApplicationError)
    assert (error.type, error.non_retryable) == ("KeyError", True)


async def test_workers_that_die_over_a_lease_do_not_do_so_for_ever() -> None:
    """None of them could say it; the next attempt does, before it tries."""
    movers = LeasedMovers(movers_outlive_worker=True)
    error = await Attempt(movers, LEASE_ATTEMPTS + 1).ends()
    assert isinstance(error, ApplicationError)
    assert (error.type, error.non_retryable, movers.movers) == ("BackendUnavailable", True, [])
