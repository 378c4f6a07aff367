"""Waiting is Temporal's: settling, backing off and giving up, on a clock that jumps. Steps are stand-ins.

Times here are the server's, which are exact; nothing waits that long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from activities.control.lease import LEASE_ATTEMPTS, final, handed_over
from codehub_storage import ErrorCode, StorageClient, StorageError
from codehub_storage.converter import DATA_CONVERTER
from codehub_storage.keys import archive_key, workflow_id
from codehub_storage.search_attributes import SEARCH_ATTRIBUTES
from tests.fakes.steps import LEASE, Steps, later
from tests.harness.refusals import code_of
from workflows import policies
from workflows.archive import ROUNDS
from workflows.messages import (
    UPLOAD_LOST,
    AnnounceInput,
    ClaimResult,
    CopyResult,
    InspectResult,
    NextStep,
    PlanSummary,
    ProofResult,
    RestoreStepResult,
    StoredArchive,
    TailResult,
    Upload,
)
from workflows.operation import MAX_INSPECTIONS

T = TypeVar("T")

WORKSPACE = "ws1"
VOLUME = f"ws_{WORKSPACE}_home"
UPLOAD = Upload(key=archive_key(WORKSPACE), upload_id="upload", archive_id="a1", manifest_etag="etag")


def happy() -> dict[str, Any]:
    """What each step answers where all goes well; steps that are not named answer nothing."""
    return {
        "claim": ClaimResult(home_store_key=VOLUME, settle_seconds=0),
        "inspect_for_archive": InspectResult(next_step=NextStep.RUN, volume_uid="u1"),
        "inspect_for_restore": InspectResult(next_step=NextStep.RUN, archive_id="a1", segments=1, raw_bytes=1),
        "scan_volume": PlanSummary(fingerprint="f1", data_segments=1, files=1, file_bytes=1, entries=1),
        "begin_archive": UPLOAD,
        "copy_segments": CopyResult(records=b"", next_segment=2, next_part=2, at_end=True),
        "copy_tail": TailResult(records=b""),
        "complete_archive": StoredArchive(key=UPLOAD.key, archive_id="a1", size_bytes=1, etag="etag"),
        "verify_archive": ProofResult(),
        "write_manifest": ProofResult(),
        "prepare_restore": RestoreStepResult(),
        "restore_segments": RestoreStepResult(),
        "finish_restore": RestoreStepResult(),
    }


@dataclass
class Play:
    """Workflows on a clock that jumps. ``answers`` by step: a value, an exception, or a function of the attempt."""

    environment: WorkflowEnvironment
    storage: StorageClient
    answers: dict[str, Any] = field(default_factory=happy)
    calls: Counter[str] = field(default_factory=Counter)

    async def answer(self, info: activity.Info) -> Any:
        """For ``Steps``."""
        self.calls[info.activity_type] += 1
        answer = self.answers.get(info.activity_type)
        if callable(answer):
            answer = answer(info.attempt)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def history(self) -> list[HistoryEvent]:
        """The events of the workspace's run."""
        handle = self.environment.client.get_workflow_handle(workflow_id(WORKSPACE))
        return list((await handle.fetch_history()).events)

    async def timers(self) -> list[timedelta]:
        """How long the run has slept, each time."""
        return [
            event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
            for event in await self.history()
            if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED
        ]

    async def scheduled(self, name: str) -> list[HistoryEvent]:
        """Where the run has asked for a step."""
        return [
            event
            for event in await self.history()
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
            and event.activity_task_scheduled_event_attributes.activity_type.name == name
        ]

    async def tried_for(self, name: str) -> timedelta:
        """How long the server has tried a step that failed in the end."""
        (scheduled,) = await self.scheduled(name)
        (failed,) = [
            event
            for event in await self.history()
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
            and event.activity_task_failed_event_attributes.scheduled_event_id == scheduled.event_id
        ]
        return failed.event_time.ToDatetime() - scheduled.event_time.ToDatetime()


@pytest.fixture
async def play(time_skipping: WorkflowEnvironment) -> AsyncIterator[Play]:
    """The four workflows and their stand-ins, being served."""
    client = time_skipping.client
    attributes = {key.name: key.indexed_value_type for key in SEARCH_ATTRIBUTES}
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=cast(Any, attributes))
    )
    play = Play(time_skipping, StorageClient(client, place="p1"))
    async with Steps(client, play.answer, clock_skips=True).serving("p1"):
        yield play


def _input_of(scheduled: HistoryEvent, kind: type[T]) -> T:
    payloads = scheduled.activity_task_scheduled_event_attributes.input.payloads
    (found,) = DATA_CONVERTER.payload_converter.from_payloads(list(payloads), [kind])
    return cast(T, found)


BACKOFFS = [policies.mover_backoff(deaths) for deaths in range(1, policies.MOVER_DEATHS + 1)]
DOWN = StorageError(ErrorCode.STORE_UNAVAILABLE, "down")
DEAD = StorageError(ErrorCode.MOVER_FAILED, "dead")


# ------------------------------------------------------------ settling


async def test_settling_is_a_durable_timer(play: Play) -> None:
    """The store's 60 seconds lie between the object and its verification, and are the server's to keep."""
    play.answers["claim"] = ClaimResult(home_store_key=VOLUME, settle_seconds=60)
    await play.storage.archive(VOLUME)
    assert await play.timers() == [timedelta(seconds=60)]
    history = await play.history()
    (started,) = [event for event in history if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED]
    (fired,) = [event for event in history if event.event_type == EventType.EVENT_TYPE_TIMER_FIRED]
    (complete,), (verify,) = await play.scheduled("complete_archive"), await play.scheduled("verify_archive")
    assert complete.event_id < started.event_id < fired.event_id < verify.event_id


async def test_a_store_that_needs_no_time_gets_none(play: Play) -> None:
    """0 seconds: no timer at all."""
    await play.storage.archive(VOLUME)
    assert await play.timers() == []


# ------------------------------------------------------------ movers that die


@pytest.mark.field("D9")
async def test_a_bucket_that_never_stands_still_is_given_up(play: Play) -> None:
    """Each look finds another object, so each proof is of no use: so often, and no more, and nothing was deleted."""
    play.answers["inspect_for_archive"] = InspectResult(
        next_step=NextStep.PROVE_AGAIN, volume_uid="u1", archive_id="a1"
    )
    play.answers["inspect_for_restore"] = InspectResult(
        next_step=NextStep.PROVE_AGAIN, volume_uid="u1", archive_id="a1"
    )
    for call in (play.storage.archive(VOLUME), play.storage.restore(archive_key(WORKSPACE))):
        with pytest.raises(StorageError) as failed:
            await call
        assert failed.value.code == ErrorCode.STORE_UNAVAILABLE
    assert (play.calls["prove_again"], play.calls["delete_volume"], play.calls["release"]) == (
        2 * MAX_INSPECTIONS,
        0,
        2,
    )


@pytest.mark.field("D9")
@pytest.mark.parametrize("is_whole", [True, False])
async def test_what_is_rotten_is_made_anew_only_from_a_whole_volume(play: Play, is_whole: bool) -> None:
    """`archived`: ready again, from the start. Sealed or gone: ArchiveCorrupt, and nothing else happens."""
    looks = iter([InspectResult(next_step=NextStep.PROVE_AGAIN, volume_uid="u1", archive_id="a1", is_whole=is_whole)])
    play.answers["inspect_for_archive"] = lambda attempt: next(
        looks, InspectResult(next_step=NextStep.RUN, volume_uid="u1")
    )
    play.answers["prove_again"] = StorageError(ErrorCode.ARCHIVE_CORRUPT, "segment 1")
    if is_whole:
        await play.storage.archive(VOLUME)
    else:
        with pytest.raises(StorageError) as failed:
            await play.storage.archive(VOLUME)
        assert failed.value.code == ErrorCode.ARCHIVE_CORRUPT
    assert play.calls["mark_ready_again"] == play.calls["delete_volume"] == int(is_whole)


async def test_a_reading_mover_is_replaced_until_too_many_died(play: Play) -> None:
    """archive: a new mover after a growing pause, at last MoverFailed, undone."""
    play.answers |= {LEASE: DEAD, "scan_volume": later()}
    assert await code_of(play.storage.archive(VOLUME)) == ErrorCode.MOVER_FAILED
    assert len(await play.scheduled(LEASE)) == policies.MOVER_DEATHS + 1
    assert await play.timers() == BACKOFFS
    assert play.calls["release"] == 1
    assert play.calls["delete_volume"] == 0


async def test_a_mover_that_lives_at_last_is_enough(play: Play) -> None:
    """archive: so many deaths as are allowed, then it ends well."""
    play.answers[LEASE] = lambda _: DEAD if play.calls[LEASE] <= policies.MOVER_DEATHS else None
    plan = play.answers["scan_volume"]
    play.answers["scan_volume"] = lambda attempt: later() if attempt == 1 else plan
    await play.storage.archive(VOLUME)
    assert await play.timers() == BACKOFFS


async def test_a_writing_mover_costs_its_volume(play: Play) -> None:
    """restore: each try on a new uid, which is given up when its mover dies; at last MoverFailed."""
    play.answers |= {LEASE: DEAD, "prepare_restore": later()}
    assert await code_of(play.storage.restore(archive_key(WORKSPACE))) == ErrorCode.MOVER_FAILED
    announced = [_input_of(event, AnnounceInput).volume_uid for event in await play.scheduled("announce_volume")]
    assert len(announced) == policies.MOVER_DEATHS + 1 == len(set(announced))
    assert play.calls["abandon_volume"] == policies.MOVER_DEATHS + 1
    assert play.calls["hand_out_volume"] == 0
    assert await play.timers() == BACKOFFS


async def test_a_mover_that_cannot_be_started_is_tried_for_a_while(play: Play) -> None:
    """A lease that fails before there is a mover: tried again by the server until it says itself that it is enough."""
    away = StorageError(ErrorCode.BACKEND_UNAVAILABLE, "no engine")
    play.answers |= {
        LEASE: lambda attempt: away if attempt < LEASE_ATTEMPTS else final(away),
        "scan_volume": later(),
    }
    assert await code_of(play.storage.archive(VOLUME)) == ErrorCode.BACKEND_UNAVAILABLE
    assert play.calls[LEASE] == LEASE_ATTEMPTS
    assert await play.timers() == []


@pytest.mark.field("O1")
async def test_handing_over_never_ends_a_lease(play: Play) -> None:
    """More often than a mover may fail to start, and without a pause between: the workflow does not hear of it."""
    handed = 2 * LEASE_ATTEMPTS
    plan = play.answers["scan_volume"]
    play.answers[LEASE] = lambda attempt: handed_over() if attempt <= handed else None
    play.answers["scan_volume"] = lambda _: plan if play.calls[LEASE] > handed else ApplicationError("not yet")
    began = await play.environment.get_current_time()
    await play.storage.archive(VOLUME)
    assert len(await play.scheduled(LEASE)) == 1
    assert await play.timers() == []
    assert await play.environment.get_current_time() - began < timedelta(minutes=30)


@pytest.mark.field("O1")
async def test_an_archive_makes_sure_that_its_mover_is_gone(play: Play) -> None:
    """Before `archived` is written, whatever became of the lease; undone, before the upload is forgotten."""
    await play.storage.archive(VOLUME)
    [detach], [mark] = await play.scheduled("detach_mover"), await play.scheduled("mark_archived")
    assert detach.event_id < mark.event_id
    play.answers["verify_archive"] = StorageError(ErrorCode.ARCHIVE_CORRUPT, "rotten")
    assert await code_of(play.storage.archive(VOLUME)) == ErrorCode.ARCHIVE_CORRUPT
    [detach], [abort] = await play.scheduled("detach_mover"), await play.scheduled("abort_archive")
    assert detach.event_id < abort.event_id


@pytest.mark.field("O1")
async def test_an_engine_that_is_away_does_not_keep_an_archive_from_its_end(play: Play) -> None:
    """The mover ends with its run; the answer comes."""
    play.answers |= {
        "verify_archive": StorageError(ErrorCode.ARCHIVE_CORRUPT, "rotten"),
        "detach_mover": StorageError(ErrorCode.BACKEND_UNAVAILABLE, "no engine"),
    }
    assert await code_of(play.storage.archive(VOLUME)) == ErrorCode.ARCHIVE_CORRUPT
    assert await play.tried_for("detach_mover") <= policies.detach()["schedule_to_close_timeout"]


# ------------------------------------------------------------ steps that fail


async def test_a_control_step_is_tried_for_its_time(play: Play) -> None:
    """A transient error: again and again, with growing pauses, for half an hour, then the operation has its code."""
    play.answers["inspect_for_archive"] = DOWN
    assert await code_of(play.storage.archive(VOLUME)) == ErrorCode.STORE_UNAVAILABLE
    limits = policies.control()
    tried_for = await play.tried_for("inspect_for_archive")
    last_pause = limits["retry_policy"].maximum_interval
    assert last_pause is not None
    assert limits["schedule_to_close_timeout"] - 2 * last_pause < tried_for <= limits["schedule_to_close_timeout"]
    assert play.calls["release"] == 1


async def test_a_short_outage_is_nobodys_matter(play: Play) -> None:
    """Five failures of one step: the operation ends well."""
    play.answers["begin_archive"] = lambda attempt: DOWN if attempt <= 5 else UPLOAD
    await play.storage.archive(VOLUME)
    assert play.calls["begin_archive"] == 6


@pytest.mark.parametrize("code", [ErrorCode.VOLUME_IN_USE, ErrorCode.WRONG_STORE, ErrorCode.ACCESS_DENIED])
async def test_what_does_not_pass_is_said_at_once(play: Play, code: ErrorCode) -> None:
    """No second attempt for what waiting does not cure."""
    play.answers["inspect_for_archive"] = StorageError(code, "so it is")
    assert await code_of(play.storage.archive(VOLUME)) == code
    assert play.calls["inspect_for_archive"] == 1


async def test_a_volume_that_cannot_be_deleted_is_said_in_time(play: Play) -> None:
    """Behind the gate: tried for its time, then the archive's key with ``cleanup_required``, not an error."""
    play.answers["delete_volume"] = StorageError(ErrorCode.BACKEND_UNAVAILABLE, "no engine")
    result = await (await play.storage.start_archive(VOLUME)).result()
    assert (result.cleanup_required, result.leftovers, result.archive_key) == (True, (VOLUME,), UPLOAD.key)
    assert await play.tried_for("delete_volume") <= policies.deletion()["schedule_to_close_timeout"]
    assert play.calls["delete_volume"] > 1


async def test_a_lost_upload_is_begun_anew_three_times(play: Play) -> None:
    """A pause before each round; then StoreUnavailable, for the caller to try later."""
    play.answers["copy_tail"] = ApplicationError("gone", type=UPLOAD_LOST, non_retryable=True)
    assert await code_of(play.storage.archive(VOLUME)) == ErrorCode.STORE_UNAVAILABLE
    assert play.calls["begin_archive"] == ROUNDS
    assert await play.timers() == [policies.mover_backoff(number) for number in range(1, ROUNDS)]
