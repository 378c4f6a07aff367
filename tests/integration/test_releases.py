"""Every end of every workflow releases the record, and a wait for an earlier owner is told. Most steps are stand-ins.

Where a run ends is where a step fails for good: each step of each operation is made to fail, in its turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType

from activities.state.fence import read_record
from activities.state.record import Owner
from codehub_storage import CancelOutcome, ErrorCode, StorageError
from codehub_storage.contracts import Phase
from codehub_storage.keys import archive_key, record_key
from tests.fakes.steps import LEASE, later
from tests.harness.homes import provisioned, record_of
from tests.harness.refusals import code_of
from tests.harness.seaweed import Seaweed
from tests.harness.servers import believing_nothing
from tests.harness.site import Site, open_site
from tests.harness.stops import history_of, until
from tests.integration.test_timers import VOLUME, WORKSPACE, Play, play
from worker.dev.temporal import TemporalServer
from workflows.messages import ClaimResult, InspectResult, NextStep, PurgeStepResult

__all__ = ["play"]

REFUSED = StorageError(ErrorCode.WRONG_STORE, "so it is")
OLD = InspectResult(next_step=NextStep.DELETE_VOLUME, volume_uid="u1", archive_id="a1", fingerprint="f1")


# ------------------------------------------------------------ released


@pytest.mark.field("O5")
async def test_a_cancel_of_nothing_releases_the_record(common_site: Site) -> None:
    """No volume and no archive: VolumeNotFound, and the next operation need not wait for that run."""
    site, workspace = common_site, common_site.workspace_id()
    with pytest.raises(StorageError) as refused:
        await site.storage.cancel(workspace)
    assert refused.value.code == ErrorCode.VOLUME_NOT_FOUND
    assert (await record_of(site, workspace)).owner.signed_off


CALLS: dict[str, Callable[[Play], Awaitable[object]]] = {
    "archive": lambda play: play.storage.archive(VOLUME),
    "cancel": lambda play: play.storage.cancel(WORKSPACE),
    "restore": lambda play: play.storage.restore(archive_key(WORKSPACE)),
    "provision": lambda play: play.storage.provision(WORKSPACE),
    "purge": lambda play: play.storage.purge(VOLUME, archive_key(WORKSPACE)),
}
STEPS = {
    "archive": (
        *("claim", "inspect_for_archive", LEASE, "scan_volume", "begin_archive", "copy_tail", "complete_archive"),
        *("verify_archive", "write_manifest", "mark_archived", "delete_volume"),
    ),
    "cancel": ("claim", "inspect_after_cancel"),
    "restore": (
        *(
            "claim",
            "inspect_for_restore",
            "announce_volume",
            "create_volume",
            LEASE,
            "prepare_restore",
            "restore_segments",
        ),
        *("finish_restore", "hand_out_volume"),
    ),
    "provision": ("claim", "inspect_for_provision", "announce_volume", "create_volume", "hand_out_volume"),
    "purge": ("claim", "inspect_for_purge", "confirm_purge"),
}


@pytest.mark.field("O5")
@pytest.mark.parametrize(("operation", "step"), [(name, step) for name, steps in STEPS.items() for step in steps])
async def test_whatever_step_fails_the_record_is_released(play: Play, operation: str, step: str) -> None:
    """The last step is the sign-off: also after a claim, which may have got through unheard."""
    play.answers |= {
        "inspect_for_provision": InspectResult(next_step=NextStep.RUN),
        "inspect_for_purge": PurgeStepResult(),
        "purge_archive": PurgeStepResult(),
        "purge_volume": PurgeStepResult(),
        step: REFUSED,
    }
    if step == LEASE:
        play.answers["scan_volume"] = play.answers["prepare_restore"] = later()
    keeps = (operation, step) == ("archive", "delete_volume")  # proven: told by `cleanup_required`
    if keeps:
        await CALLS[operation](play)
    else:
        assert await code_of(CALLS[operation](play)) == ErrorCode.WRONG_STORE
    assert play.calls["release"] == 1
    assert await last_step(play) == "release"


@pytest.mark.field("O5")
@pytest.mark.parametrize("code", [ErrorCode.NOT_YOURS, ErrorCode.WRONG_STORE])
@pytest.mark.parametrize("operation", ["restore", "provision"])
async def test_a_volume_that_cannot_be_given_up_keeps_nobody(play: Play, operation: str, code: ErrorCode) -> None:
    """The compensation fails, too."""
    play.answers |= {
        "inspect_for_provision": InspectResult(next_step=NextStep.RUN),
        "create_volume": REFUSED,
        "abandon_volume": StorageError(code, "nor that"),
    }
    assert await code_of(CALLS[operation](play)) in (ErrorCode.WRONG_STORE, ErrorCode.NOT_YOURS)
    assert await last_step(play) == "release"


@pytest.mark.field("O5")
async def test_an_old_archive_that_cannot_be_taken_back_keeps_nobody(play: Play) -> None:
    """Behind the gate: the volume changed since, and the record does not take that."""
    changed = StorageError(ErrorCode.VOLUME_CHANGED, "somebody wrote")
    play.answers |= {"inspect_for_archive": OLD, "delete_volume": changed, "mark_ready_again": REFUSED}
    assert await code_of(play.storage.archive(VOLUME)) == ErrorCode.WRONG_STORE
    assert await last_step(play) == "release"


@pytest.mark.field("O5")
async def test_a_store_that_stays_away_is_not_asked_twice_as_long(play: Play) -> None:
    """A claim that was tried for its half hour: the sign-off is tried for a minute, and what failed is told."""
    play.answers |= {"claim": StorageError(ErrorCode.STORE_UNAVAILABLE, "down")}
    play.answers["release"] = play.answers["claim"]
    assert await code_of(play.storage.provision(WORKSPACE)) == ErrorCode.STORE_UNAVAILABLE
    history = await play.history()
    (scheduled,) = await play.scheduled("release")
    assert history[-1].event_time.ToDatetime() - scheduled.event_time.ToDatetime() <= timedelta(seconds=61)


async def last_step(play: Play) -> str:
    """The activity that the run asked for last."""
    attributes = [event.activity_task_scheduled_event_attributes for event in await play.history()]
    return [each.activity_type.name for each in attributes if each.activity_type.name][-1]


# ------------------------------------------------------------ a wait is told


WAIT = ClaimResult(home_store_key=VOLUME, settle_seconds=0, wait_seconds=90, waits_for="archive, run r1")


@pytest.mark.field("O5")
async def test_a_wait_for_an_earlier_owner_is_a_timer(play: Play) -> None:
    """Between the claim and the first look, and the server's to keep."""
    play.answers["claim"] = WAIT
    await play.storage.archive(VOLUME)
    assert await play.timers() == [timedelta(seconds=90)]


@pytest.mark.field("O5", "L1")
async def test_a_wait_for_an_earlier_owner_is_told_and_no_cancel_breaks_it(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """The record's owner never signed off: the next run says whose write it waits for, and ends when it is over."""
    # The wait is scaled down like every time-out.
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site, believing_nothing(site.truth, 40.0):
        site.start_worker()
        workspace, key = await provisioned(site)
        record, etag = await read_record(site.truth, workspace) or pytest.fail("there is no record")
        left = Owner(run_id="r1", operation="archive")
        record = record.model_copy(update={"owner": left, "revision": record.revision + 1})
        await site.truth.put_if(record_key(workspace), record.model_dump_json(exclude_none=True).encode(), etag=etag)
        run = await site.storage.start_archive(key)

        async def is_told() -> bool:
            progress = await run.progress()
            return progress.waits_for is not None and "archive, run r1" in progress.waits_for

        await until(is_told, "nobody says what it waits for")
        assert (await run.progress()).phase == Phase.CLAIMING
        assert await site.storage.cancel(workspace) == CancelOutcome.CANCELLED
        owner = (await record_of(site, workspace)).owner
        assert (owner.run_id, owner.signed_off) == (run.run_id, True)
        kinds = [event.event_type for event in await history_of(site, workspace)]
        asked = kinds.index(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
        assert asked < kinds.index(EventType.EVENT_TYPE_TIMER_FIRED)
