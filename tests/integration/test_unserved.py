"""A run that nobody serves, and one whose workflow task fails: told by client, CLI and doctor, and a way out."""

from __future__ import annotations

import asyncio
import logging
import shlex
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.runtime import failpoints
from codehub_storage import CancelOutcome, ErrorCode, OperationHandle, StorageClient, StorageError
from codehub_storage.client import connect
from codehub_storage.contracts import Phase, Progress
from codehub_storage.keys import movers_queue, storage_queue
from codehub_storage.runs import UNTAKEN
from tests.fakes.reordered import Reordered
from tests.fakes.steps import Steps
from tests.harness.commands import cli
from tests.harness.homes import provisioned, record_of
from tests.harness.seaweed import Seaweed
from tests.harness.servers import believing_nothing
from tests.harness.site import Site, open_site
from tests.harness.stops import handle_of, history_of, paused_at, until
from worker.cli.exits import Exit
from worker.control import control_worker
from worker.dev.temporal import TemporalServer
from worker.registration import FAILURE_TYPES, ensure_search_attributes
from worker.settings import Settings
from worker.wiring import open_services
from workflows.messages import ClaimResult


async def told(run: OperationHandle, *words: str) -> Progress:
    """The progress of a run, once it tells of ``words``."""
    found: list[Progress] = []

    async def tells() -> bool:
        progress = await run.progress()
        found[:] = [progress]
        text = f"{progress.waits_for} {progress.task_failure}"
        return all(word in text for word in words)

    await until(tells, f"nobody tells of {words}")
    return found[0]


# ------------------------------------------------------------ L1: nobody takes it


@pytest.mark.field("L1")
async def test_a_misspelled_place_locks_nobody_out(common_site: Site) -> None:
    """The call at the right place says what keeps the workspace and what to type; that works, and the call, too."""
    site, workspace = common_site, common_site.workspace_id()
    lost = await site.storage.start_provision(workspace, place="nosuch")
    progress = await lost.progress()
    assert progress.waits_for is not None
    for words in ("storage/nosuch", "CODEHUB_STORAGE_PLACE=nosuch", f"codehub-storage cancel {workspace}"):
        assert words in progress.waits_for
    with pytest.raises(StorageError) as refused:
        await site.storage.provision(workspace)
    assert refused.value.code == ErrorCode.OPERATION_IN_PROGRESS
    assert "storage/nosuch" in refused.value.message
    assert f"codehub-storage cancel {workspace}" in refused.value.hint
    assert await site.storage.cancel(workspace) == CancelOutcome.CANCELLED
    with pytest.raises(StorageError) as cancelled:
        await lost.result()
    assert cancelled.value.code == ErrorCode.CANCELLED
    assert await site.storage.provision(workspace) == f"ws_{workspace}_home"


@pytest.mark.field("L1")
async def test_the_handle_cancels_it_too(common_site: Site) -> None:
    """And whoever waits for the run hears that it was cancelled; twice is fine."""
    run = await common_site.storage.start_provision(common_site.workspace_id(), place="nosuch")
    waiting = asyncio.create_task(run.result())
    await run.cancel()
    with pytest.raises(StorageError) as cancelled:
        await waiting
    assert cancelled.value.code == ErrorCode.CANCELLED
    await run.cancel()
    assert (await run.progress()).closed


@pytest.mark.field("L1")
async def test_a_call_that_waits_says_so(common_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A WARNING of the library's logger, once, with the workspace and the place; the call goes on waiting."""
    workspace = common_site.workspace_id()
    caplog.set_level(logging.WARNING, "codehub_storage")
    waiting = asyncio.create_task(common_site.storage.provision(workspace, place="nosuch"))

    async def is_warned() -> bool:
        return bool(caplog.records)

    await until(is_warned, "nobody warns")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("codehub_storage", logging.WARNING)
    assert workspace in record.getMessage()
    assert "storage/nosuch" in record.getMessage()
    assert not waiting.done()
    assert await common_site.storage.cancel(workspace) == CancelOutcome.CANCELLED
    with pytest.raises(StorageError):
        await waiting


@pytest.mark.field("L1")
async def test_a_worker_that_comes_takes_it(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """Never a refusal: what was started before there was a worker is done by it."""
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site:
        run = await site.storage.start_provision(site.workspace_id())
        await told(run, "a worker")
        site.start_worker()
        await run.result()
        assert (await run.progress()).waits_for is None


@pytest.mark.field("L1")
async def test_the_commands_say_it(common_site: Site) -> None:
    """A line on stderr of a start, and of `show`; `doctor` names it; `cancel` ends it."""
    site, workspace = common_site, common_site.workspace_id()
    started = await cli(site, "provision", workspace, "--place", "nosuch", "--no-wait")
    assert "waits for a worker: none asks for work on storage/nosuch" in started.err
    shown = await cli(site, "show", workspace, "--json")
    assert "storage/nosuch" in shown.object()["operation"]["waits_for"]
    assert "storage/nosuch" in (await cli(site, "show", workspace)).out
    assert "storage/nosuch" in shown.object()["runs"][0]["problem"]
    listed = await cli(site, "show", "--json")
    (row,) = [each for each in listed.object()["open"] if each["workspace_id"] == workspace]
    assert "storage/nosuch" in row["problem"]
    doctor = await cli(site, "doctor", "--json")
    (check,) = [each for each in doctor.object()["checks"] if each["check"] == "temporal.runs"]
    assert check["state"] == "warning"  # of another place than these settings'
    assert "waits for a worker" in check["text"]
    cancelled = await cli(site, "cancel", workspace)
    assert (cancelled.status, cancelled.out) == (Exit.DONE, "cancelled\n")


@pytest.mark.field("L1")
async def test_what_a_worker_has_begun_is_never_terminated(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """Its worker is gone: the cancel waits for another, which undoes."""
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site:
        gate, workspace = tmp_path / "gate", site.workspace_id()
        worker = site.start_worker(**{failpoints.VARIABLE: f"control.backend.create.before:pause={gate}"})
        run = await site.storage.start_provision(workspace)
        await paused_at(gate)
        worker.kill()
        cancel = asyncio.create_task(site.storage.cancel(workspace))

        async def has_arrived() -> bool:
            kinds = {event.event_type for event in await history_of(site, workspace)}
            return EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED in kinds

        await until(has_arrived, "no cancel arrives")
        site.start_worker()
        with suppress(StorageError):  # the step that was cut off is not tried again by a run that is to end
            await cancel
        status = (await handle_of(site, workspace, run.run_id).describe()).status
        assert status in (WorkflowExecutionStatus.CANCELED, WorkflowExecutionStatus.FAILED)
        assert (await record_of(site, workspace)).owner.signed_off


@pytest.mark.field("L1")
async def test_a_first_task_that_wins_the_race_is_told(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[H4] A worker claims between look and terminate: not told as cancelled; the next claim waits, and says so.

    The cancel that is asked for first would end such a run in order, so here it is lost.
    """
    # The wait is scaled down like every time-out.
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site, believing_nothing(site.truth, 40.0):
        gate, workspace = tmp_path / "gate", site.workspace_id()
        run = await site.storage.start_provision(workspace)
        terminate = WorkflowHandle.terminate

        async def is_lost(handle: WorkflowHandle[Any, Any], **options: Any) -> None:
            pass

        async def is_late(handle: WorkflowHandle[Any, Any], *, reason: str) -> None:
            site.start_worker(**{failpoints.VARIABLE: f"control.store.put_if.after:pause={gate}"})
            await paused_at(gate)
            await terminate(handle, reason=reason)

        monkeypatch.setattr(WorkflowHandle, "cancel", is_lost)
        monkeypatch.setattr(WorkflowHandle, "terminate", is_late)
        with pytest.raises(StorageError) as ended:
            await site.storage.cancel(workspace)
        assert (ended.value.code, UNTAKEN in ended.value.message) == (ErrorCode.BACKEND_UNAVAILABLE, True)
        owner = (await record_of(site, workspace)).owner
        assert (owner.run_id, owner.signed_off) == (run.run_id, False)
        gate.touch()
        again = await site.storage.start_provision(workspace)
        await told(again, f"provision, run {run.run_id}")
        assert (await again.result()).home_store_key == f"ws_{workspace}_home"


@pytest.mark.field("L1")
async def test_leases_that_nobody_asks_for_are_told(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """The control queue is polled and the lease queue is not: said by progress and doctor; a cancel undoes."""
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site:
        environment = {**site.environment}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            settings = Settings.load()
        async with open_services(settings) as services, control_worker(site.temporal, services):
            workspace, key = await provisioned(site)
            run = await site.storage.start_archive(key)
            await told(run, "a mover", movers_queue(site.place), "CODEHUB_STORAGE_MAX_MOVERS")
            assert (await run.progress()).phase == Phase.PLANNING
            doctor = await cli(site, "doctor", "--json")
            checks = {each["check"]: each for each in doctor.object()["checks"]}
            assert checks["temporal.worker"]["state"] == "warning"
            assert movers_queue(site.place) in checks["temporal.worker"]["text"]
            assert "keep saying `waits for a mover`" in checks["temporal.worker"]["hint"]
            assert movers_queue(site.place) in checks["temporal.runs"]["text"]
            assert await site.storage.cancel(workspace) == CancelOutcome.CANCELLED


# ------------------------------------------------------------ L6: workers fail at it


@asynccontextmanager
async def namespace(server: TemporalServer, name: str, **attributes: int) -> AsyncIterator[Client]:
    """A new namespace with these search attributes."""
    client = await connect(target_host=server.address, namespace="default")
    retention = Duration(seconds=86_400)
    request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=retention)
    await client.workflow_service.register_namespace(request)
    inside = await connect(target_host=server.address, namespace=name)

    async def is_known() -> bool:  # the server takes a moment to know it
        try:
            await inside.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=name, search_attributes=attributes)  # type: ignore[arg-type]
            )
        except RPCError:
            return False
        return True

    await until(is_known, f"namespace {name} does not come")
    yield inside


KEYWORD, INT = 2, 3


@pytest.mark.field("L6")
async def test_a_wrong_type_ends_the_workers_start(common_site: Site, temporal_server: TemporalServer) -> None:
    """WsBytes as Keyword: one line that names it, `doctor` says the same; what the hint says to type mends it."""
    name = f"typed-{common_site.workspace_id()}"
    async with namespace(temporal_server, name, WsBytes=KEYWORD, WsId=KEYWORD) as client:
        worker = await cli(common_site, "worker", TEMPORAL_NAMESPACE=name)
        assert worker.status == Exit.OPERATOR
        errors = [line for line in worker.err.splitlines() if line.startswith("error:")]
        assert errors == ["error: Unsupported: search attribute WsBytes is registered as KEYWORD, not as INT"]
        doctor = await cli(common_site, "doctor", "--json", TEMPORAL_NAMESPACE=name)
        (check,) = [each for each in doctor.object()["checks"] if each["check"] == "temporal.search-attributes"]
        assert (check["state"], "WsBytes is registered as KEYWORD" in check["text"]) == ("fails", True)
        for command in check["hint"].split("`")[1::2]:
            typed = [*shlex.split(command), "--address", temporal_server.address]
            await asyncio.to_thread(subprocess.run, typed, check=True, capture_output=True)

        async def is_mended() -> bool:
            try:
                await ensure_search_attributes(client)
            except StorageError:
                return False
            return True

        await until(is_mended, "the hint does not mend it")


@pytest.mark.field("L6")
async def test_a_type_that_goes_wrong_later_is_told(common_site: Site, temporal_server: TemporalServer) -> None:
    """The task that sets it fails: attempt and cause by progress, `show` and `doctor`; mended, it goes on."""
    name, place = f"late-{common_site.workspace_id()}", common_site.place
    async with namespace(temporal_server, name, WsPhase=INT, WsId=KEYWORD, WsOp=KEYWORD) as client:
        storage = StorageClient(client, place=place)

        async def answer(info: activity.Info) -> Any:
            return ClaimResult(home_store_key="ws_ws1_home")

        async with Steps(client, answer).serving(place):
            run = await storage.start_provision("ws1")
            progress = await told(run, "WsPhase")
            assert progress.task_attempt > 1
            shown = await cli(common_site, "show", "ws1", TEMPORAL_NAMESPACE=name)
            assert "operation: provision" in shown.out
            assert "workers fail to carry it on (attempt" in shown.out.splitlines()[0]
            assert "WsPhase" in shown.out
            shown = await cli(common_site, "show", "ws1", "--json", TEMPORAL_NAMESPACE=name)
            assert "WsPhase" in shown.object()["runs"][0]["problem"]
            doctor = await cli(common_site, "doctor", "--json", TEMPORAL_NAMESPACE=name)
            (check,) = [each for each in doctor.object()["checks"] if each["check"] == "temporal.runs"]
            assert (check["state"], "WsPhase" in check["text"]) == ("fails", True)


@pytest.mark.field("L6")
async def test_a_worker_of_another_order_is_told(common_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Non-determinism, as any other cause; also by the call that waits, and by the one that is refused."""
    place = f"p{common_site.workspace_id()}"
    workspace = common_site.workspace_id()
    storage = StorageClient(common_site.temporal, place=place)
    caplog.set_level(logging.WARNING, "codehub_storage")
    claimed = asyncio.Event()

    async def answer(info: activity.Info) -> Any:
        claimed.set()
        await asyncio.sleep(3600)

    async with Steps(common_site.temporal, answer).serving(place):
        run = await storage.start_provision(workspace)
        waiting = asyncio.create_task(run.result())
        await claimed.wait()
    new = Worker(
        common_site.temporal,
        task_queue=storage_queue(place),
        workflows=[Reordered],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_failure_exception_types=FAILURE_TYPES,
    )
    async with new:
        await handle_of(common_site, workspace).cancel()  # so that there is a task
        progress = await told(run, "non deterministic error")
        assert progress.task_attempt > 1

        async def is_warned() -> bool:
            return any("non deterministic" in record.getMessage() for record in caplog.records)

        await until(is_warned, "nobody warns")
        with pytest.raises(StorageError) as refused:
            await storage.start_archive(f"ws_{workspace}_home")
        assert "non deterministic" in refused.value.message
    await handle_of(common_site, workspace).terminate(reason="the test is done")
    with pytest.raises(StorageError):
        await waiting
