"""A terabyte and ten, without a byte of them: how many segments, events and bytes of payload, or a refusal at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType

from activities.dataplane.copy import BATCH_BYTES
from activities.dataplane.copy import BATCH_SEGMENTS as COPIED_AT_ONCE
from activities.dataplane.plan import Plan, PlanLimits
from activities.dataplane.segments import MAX_SEGMENTS, RECORD_BYTES
from codehub_storage.client import connect
from codehub_storage.converter import DATA_CONVERTER
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.steps import Steps
from tests.harness.archives import plan_of
from tests.harness.mounts import sizes
from tests.harness.trees import IS_ROOT
from tests.replay.histories import load
from tests.replay.script import Script
from worker.dev.temporal import TemporalServer
from workflows.messages import CopyResult, InspectResult, PlanSummary, RestoreStepResult, TailResult

TERABYTE = 10**12
LARGE_BYTES, SMALL_BYTES = 4 << 30, 1 << 20
MOST_PARTS = 10_000
"""S3's own limit: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
MOST_EVENTS = 5000
"""Temporal warns at 10,240 and ends a run at 51,200: https://docs.temporal.io/workflow-execution/limits"""
MOST_BYTES = 2 << 20
"""Temporal's own limit of a payload, which is the most of an event: https://docs.temporal.io/cloud/limits (2 MB)."""

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root: mounts a file system")


async def plan_of_home(folder: Path, total: int, small: int) -> Plan:
    """Of so many bytes: ``small`` of them in files of 1 MiB, the rest in files of 4 GiB."""
    with sizes(folder) as root:
        for name, count, size in (
            ("few", small // SMALL_BYTES, SMALL_BYTES),
            ("large", (total - small) // LARGE_BYTES, LARGE_BYTES),
        ):
            (root / name).mkdir()
            for number in range(count):
                with (root / name / f"{number:08}").open("wb") as file:
                    file.truncate(size)
        out = folder / "plan"
        out.mkdir()
        return await plan_of(root, PlanLimits(), spool=out)


@needs_root
async def test_a_terabyte_is_cut(tmp_path: Path) -> None:
    """Into as many segments as there may be parts, each so small that it is packed in memory."""
    plan = await plan_of_home(tmp_path, TERABYTE, TERABYTE // 100)
    segments = list(plan.segments())
    assert sum(segment.piece.length for segment in segments if segment.piece) > 0.94 * TERABYTE
    assert 0.9 * MAX_SEGMENTS < plan.summary.data_segments <= MAX_SEGMENTS == PlanLimits().max_segments
    assert len(segments) <= MOST_PARTS
    assert max(segment.piece.length for segment in segments if segment.piece) <= PlanLimits().max_segment_bytes


@needs_root
async def test_ten_terabytes_are_refused(tmp_path: Path) -> None:
    """When the plan is cut, which is before an upload is begun; with both numbers."""
    with pytest.raises(StorageError) as error:
        await plan_of_home(tmp_path, 10 * TERABYTE, TERABYTE // 100)
    assert error.value.code is ErrorCode.ARCHIVE_TOO_LARGE
    assert error.value.details["bytes"] > error.value.details["limit_bytes"] > TERABYTE


def batch(first: int, part: int) -> CopyResult:
    """As long as one of the largest archive is: as many segments as bytes or their number allow, each a part."""
    count = min(COPIED_AT_ONCE, -(-BATCH_BYTES // PlanLimits().max_segment_bytes), MAX_SEGMENTS + 1 - first)
    at_end = first + count > MAX_SEGMENTS
    return CopyResult(
        records=bytes(count * RECORD_BYTES), next_segment=first + count, next_part=part + count, at_end=at_end
    )


@pytest.mark.parametrize("operation", ["archive", "restore"])
async def test_the_largest_there_may_be(operation: str, temporal_server: TemporalServer) -> None:
    """More than a terabyte, and as many segments as are allowed: fits the limits of S3 and Temporal, with room."""
    assert MAX_SEGMENTS * PlanLimits().max_segment_bytes > TERABYTE
    client = await connect(target_host=temporal_server.address, namespace="default")
    script = Script.of(load(f"{operation}_happy"))
    batches = [batch(1, 1)]

    async def answer(info: activity.Info) -> Any:
        if info.activity_type == "copy_segments":
            last = batches[-1]
            batches.append(batch(last.next_segment, last.next_part))
            return last
        if info.activity_type == "restore_segments":
            return RestoreStepResult()
        found = script.answer(info)
        if info.activity_type == "copy_tail":
            return TailResult(records=bytes((MOST_PARTS - MAX_SEGMENTS) * RECORD_BYTES))
        if info.activity_type == "scan_volume":
            plan = DATA_CONVERTER.payload_converter.from_payload(found.payload, PlanSummary)
            return plan.model_copy(update={"data_segments": MAX_SEGMENTS})
        if info.activity_type == "inspect_for_restore":
            look = DATA_CONVERTER.payload_converter.from_payload(found.payload, InspectResult)
            return look.model_copy(update={"segments": MAX_SEGMENTS})
        return found

    async with Steps(client, answer).serving(script.place):
        await script.run(client)
    history = await client.get_workflow_handle(script.history.workflow_id).fetch_history()
    lengths = [event.ByteSize() for event in history.events]
    print(f"{operation}: {len(lengths)} events of {sum(lengths)} bytes, the largest of {max(lengths)}")
    assert history.events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
    assert len(lengths) < MOST_EVENTS
    assert max(lengths) < MOST_BYTES
