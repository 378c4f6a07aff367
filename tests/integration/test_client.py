"""[5] One operation per workspace; the same call joins, another is refused; bad input fails and never loops."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from codehub_storage import CancelOutcome, ErrorCode, Phase, StorageClient, StorageError, StorageProvider
from codehub_storage.converter import storage_error
from codehub_storage.keys import record_key, storage_queue, workflow_id
from tests.harness.homes import archived, provisioned, read
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from worker.dev.temporal import TemporalServer


def test_the_client_is_a_storage_provider() -> None:
    """The four signatures of the Protocol are those of the client."""
    assert issubclass(StorageClient, StorageProvider)


async def test_the_same_call_joins_and_another_is_refused(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """While no worker takes the run: equal input adopts it, other input or operation is OperationInProgress."""
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site:
        workspace = site.workspace_id()
        first = await site.storage.start_provision(workspace)
        assert (await site.storage.start_provision(workspace)).run_id == first.run_id
        for other in (
            site.storage.start_provision(workspace, size_bytes=1 << 30),
            site.storage.start_archive(f"ws_{workspace}_home"),
        ):
            with pytest.raises(StorageError) as refused:
                await other
            assert refused.value.code == ErrorCode.OPERATION_IN_PROGRESS
            assert refused.value.details["run_id"] == first.run_id
        site.start_worker()
        assert (await first.result()).home_store_key == f"ws_{workspace}_home"
        assert (await site.storage.start_provision(workspace)).run_id != first.run_id


@pytest.mark.parametrize(
    ("operation", "argument"),
    [
        ("archive", {"workspace_id": "../etc"}),
        ("archive", {"workspace_id": 7}),
        ("archive", "no object"),
        ("archive", {"workspace_id": "ws1", "home_store_key": "ws_ws2_home"}),
        ("restore", {"workspace_id": "ws1", "archive_key": "ws2/home.tar.gz"}),
        ("purge", {"workspace_id": "ws1", "archive_key": "ws1/home.tar.gz", "home_store_key": "ws_ws2_home"}),
        ("provision", {}),
    ],
)
async def test_bad_input_fails_the_run_with_its_code(common_site: Site, operation: str, argument: object) -> None:
    """InvalidInput, FAILED at once: neither a decoding fault nor a wrong key keeps the workspace's id busy."""
    handle = await common_site.temporal.start_workflow(
        operation,
        argument,
        id=workflow_id(common_site.workspace_id()),
        task_queue=storage_queue(common_site.place),
    )
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(handle.result(), 60)
    assert storage_error(failed.value).code == ErrorCode.INVALID_INPUT
    assert (await handle.describe()).status == WorkflowExecutionStatus.FAILED


async def test_progress_tells_of_the_latest_operation(common_site: Site) -> None:
    """Nothing for an unknown workspace; phase and end for a known one."""
    assert await common_site.storage.progress(common_site.workspace_id()) is None
    workspace, _ = await provisioned(common_site)
    progress = await common_site.storage.progress(workspace)
    assert progress is not None
    assert (progress.operation, progress.phase, progress.closed) == ("provision", Phase.DONE, True)


async def test_cancel_without_a_run_tells_the_truth(common_site: Site) -> None:
    """A ready volume: cancelled, and it is there. An archived home: too late. Nothing at all: VolumeNotFound."""
    site = common_site
    warm, _ = await provisioned(site)
    assert await site.storage.cancel(warm) == CancelOutcome.CANCELLED
    assert read(site, warm) == "first"
    cold, key = await archived(site)
    assert await site.storage.cancel(cold) == CancelOutcome.TOO_LATE
    await site.storage.restore(key)
    with pytest.raises(StorageError) as unknown:
        await site.storage.cancel(site.workspace_id())
    assert unknown.value.code == ErrorCode.VOLUME_NOT_FOUND


CONNECT = """
import asyncio
from codehub_storage import StorageClient
asyncio.run(StorageClient.connect())
"""


def test_a_short_program_ends_well(common_site: Site) -> None:
    """The SDK's threads do not take it down as it ends, however busy the machine is."""
    environment = {**os.environ, "TEMPORAL_ADDRESS": common_site.environment["TEMPORAL_ADDRESS"]}
    found = []
    for _ in range(3):
        programs = [subprocess.Popen([sys.executable, "-c", CONNECT], env=environment) for _ in range(8)]
        found += [program.wait() for program in programs]
    assert found == [0] * 24


async def test_a_server_that_is_not_there_is_said() -> None:
    """BackendUnavailable, with a hint that names the variable."""
    with pytest.raises(StorageError) as refused:
        await StorageClient.connect(target_host="127.0.0.1:1", namespace="default")
    assert refused.value.code == ErrorCode.BACKEND_UNAVAILABLE
    assert "TEMPORAL_ADDRESS" in refused.value.hint


@pytest.mark.field("E18")
@pytest.mark.parametrize(
    ("operation", "argument"),
    [
        ("provision", {}),
        ("archive", {"home_store_key": "ws_{}_home"}),
        ("archive", {"cancel_only": True}),
        ("restore", {"archive_key": "{}/home.tar.gz"}),
        ("purge", {"home_store_key": "ws_{}_home"}),
    ],
)
async def test_a_run_under_another_id_refuses_itself(
    common_site: Site, operation: str, argument: dict[str, object]
) -> None:
    """As a Temporal Schedule starts it: InvalidInput at the first line, no step asked for, no record; the hint says
    what a Schedule does instead."""
    workspace = common_site.workspace_id()
    filled = {name: each.format(workspace) if isinstance(each, str) else each for name, each in argument.items()}
    handle = await common_site.temporal.start_workflow(
        operation,
        {"workspace_id": workspace, "place": common_site.place, **filled},
        id=f"{workflow_id(workspace)}-2026-11-30T00:00:00Z",
        task_queue=storage_queue(common_site.place),
    )
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(handle.result(), 60)
    error = storage_error(failed.value)
    assert error.code == ErrorCode.INVALID_INPUT
    assert "Schedule" in error.hint
    assert "StorageClient" in error.hint
    events = (await handle.fetch_history()).events
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED not in {event.event_type for event in events}
    assert await common_site.truth.get(record_key(workspace)) is None


@pytest.mark.field("E18")
async def test_a_run_on_the_queue_of_another_place_refuses_itself(common_site: Site) -> None:
    """Right id, wrong queue: its worker would look for the volume at its own place."""
    workspace = common_site.workspace_id()
    handle = await common_site.temporal.start_workflow(
        "provision",
        {"workspace_id": workspace, "place": "elsewhere"},
        id=workflow_id(workspace),
        task_queue=storage_queue(common_site.place),
    )
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(handle.result(), 60)
    assert storage_error(failed.value).code == ErrorCode.INVALID_INPUT
    assert await common_site.truth.get(record_key(workspace)) is None
