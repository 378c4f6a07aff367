"""A terabyte and ten, without a byte of them: how many parts, events and bytes of payload, or a refusal at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType

from activities.dataplane.cutting import Cutter, PlanLimits, cut_files, raw_size
from activities.dataplane.entries import Entry, FileType, content_of
from activities.dataplane.segments import RECORD_BYTES
from activities.dataplane.spool import SpoolWriter, pack_entry
from activities.dataplane.threads import Stop
from codehub_storage.client import connect
from codehub_storage.converter import DATA_CONVERTER
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.steps import Steps
from tests.replay.histories import load
from tests.replay.script import Script
from worker.dev.temporal import TemporalServer
from workflows.messages import CopyResult, InspectResult, PlanSummary, RestoreStepResult
from workflows.operation import BATCH_SEGMENTS

TERABYTE = 10**12
LARGE_BYTES, SMALL_BYTES = 4 << 30, 1 << 20
MOST_EVENTS = 2000
MOST_BYTES = 2 << 20
"""Temporal's own limit of a payload, which is the most of an event: https://docs.temporal.io/cloud/limits (2 MB)."""


def files(total: int) -> Iterator[Entry]:
    """Of a home of so many bytes: a twentieth in files of 1 MiB, the rest in files of 4 GiB."""
    for number in range(total // 20 // SMALL_BYTES):
        yield Entry(b"few/%08d" % number, FileType.FILE, size=SMALL_BYTES)
    for number in range(total * 19 // 20 // LARGE_BYTES):
        yield Entry(b"large/%08d" % number, FileType.FILE, size=LARGE_BYTES)


def segments_of(total: int, spool: Path) -> int:
    """As the plan of a home cuts it."""
    limits = PlanLimits()
    cutter, large, weight = Cutter(limits), list[int](), 0
    with SpoolWriter(spool) as writer:
        for entry in files(total):
            content, raw = content_of(entry), raw_size(entry)
            at = writer.append(pack_entry(entry), content)
            weight += raw
            if not cutter.add(at, entry, content, raw):
                large.append(at)
    _, segments = cut_files(spool, cutter, large, {}, weight, Stop())
    return len(segments)


def test_ten_terabytes_are_refused(tmp_path: Path) -> None:
    """When the plan is cut, which is before an upload is begun; with both numbers."""
    with pytest.raises(StorageError) as error:
        segments_of(10 * TERABYTE, tmp_path / "spool")
    assert error.value.code is ErrorCode.ARCHIVE_TOO_LARGE
    assert error.value.details["bytes"] > error.value.details["limit_bytes"] > TERABYTE


@pytest.mark.parametrize("operation", ["archive", "restore"])
async def test_a_terabyte(operation: str, tmp_path: Path, temporal_server: TemporalServer) -> None:
    """Fits the limits of S3 and Temporal, with room."""
    segments = segments_of(TERABYTE, tmp_path / "spool")
    assert segments <= PlanLimits().max_segments
    client = await connect(target_host=temporal_server.address, namespace="default")
    script = Script.of(load(f"{operation}_happy"))

    async def answer(info: activity.Info) -> Any:
        if info.activity_type == "copy_segments":
            return CopyResult(records=bytes(BATCH_SEGMENTS * RECORD_BYTES))
        if info.activity_type == "restore_segments":
            return RestoreStepResult()
        found = script.answer(info)
        if info.activity_type == "scan_volume":
            plan = DATA_CONVERTER.payload_converter.from_payload(found.payload, PlanSummary)
            return plan.model_copy(update={"data_segments": segments})
        if info.activity_type == "inspect_for_restore":
            look = DATA_CONVERTER.payload_converter.from_payload(found.payload, InspectResult)
            return look.model_copy(update={"segments": segments})
        return found

    async with Steps(client, answer).serving(script.place):
        await script.run(client)
    history = await client.get_workflow_handle(script.history.workflow_id).fetch_history()
    sizes = [event.ByteSize() for event in history.events]
    print(f"{operation}: {segments} segments, {len(sizes)} events of {sum(sizes)} bytes, the largest of {max(sizes)}")
    assert history.events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
    assert len(sizes) < MOST_EVENTS
    assert max(sizes) < MOST_BYTES
