"""Recorded histories: how they lie on disk, what is taken out of them, and the commands that one holds.

A file is the JSON of Temporal's own tools plus the workflow's id, an event a line, so that a difference can be read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from codehub_storage.converter import DATA_CONVERTER
from codehub_storage.keys import movers_queue, storage_queue

FOLDER = Path(__file__).with_name("histories")
SUMMARY = Path(__file__).with_name("commands.json")
"""For each history the order of its commands, as ``commands_of`` tells it."""


# ------------------------------------------------------------ on disk


def names() -> list[str]:
    """All recorded histories, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> WorkflowHistory:
    """A recorded history."""
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    return WorkflowHistory.from_json(stored["workflowId"], {"events": stored["events"]})


def store(name: str, history: WorkflowHistory, scrub: Callable[[str], str]) -> None:
    """Write a history, every string of it, also inside payloads, as ``scrub`` makes it."""
    events = [_scrubbed(event, scrub) for event in history.to_json_dict()["events"]]
    lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in events)
    FOLDER.mkdir(exist_ok=True)
    workflow_id = json.dumps(history.workflow_id)
    (FOLDER / f"{name}.json").write_text(f'{{"workflowId":{workflow_id},"events":[\n{lines}\n]}}\n')


def keep(name: str) -> None:
    """Give a recorded history the next free name of the form ``name-N``, if there is one."""
    if name in names():
        older = sum(each.startswith(f"{name}-") for each in names())
        (FOLDER / f"{name}.json").rename(FOLDER / f"{name}-{older + 1}.json")


def summary() -> dict[str, list[str]]:
    """The committed summary."""
    return dict(json.loads(SUMMARY.read_text())) if SUMMARY.exists() else {}


def store_summary(commands: dict[str, list[str]]) -> None:
    """Write the summary."""
    SUMMARY.write_text(json.dumps(commands, indent=1, sort_keys=True) + "\n")


def _scrubbed(node: Any, scrub: Callable[[str], str]) -> Any:
    """Without who ran it and where: identities, sticky queues, stacks; the rest through ``scrub``."""
    if isinstance(node, list):
        return [_scrubbed(each, scrub) for each in node]
    if isinstance(node, str):
        return scrub(node)
    if not isinstance(node, dict):
        return node
    if node.get("kind") == "TASK_QUEUE_KIND_STICKY":
        return {**node, "name": "sticky"}
    found = {}
    for key, value in node.items():
        if key == "identity":
            found[key] = "worker"
        elif key == "data" and "metadata" in node:
            found[key] = base64.b64encode(scrub(base64.b64decode(value).decode()).encode()).decode()
        elif key != "stackTrace":
            found[key] = _scrubbed(value, scrub)
    return found


def texts(history: WorkflowHistory) -> Iterator[str]:
    """Every string in a history, payloads decoded."""
    yield from _texts(history.to_json_dict())


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for each in node:
            yield from _texts(each)
    elif isinstance(node, dict):
        for key, value in node.items():
            is_payload = key == "data" and "metadata" in node
            yield from _texts(base64.b64decode(value).decode() if is_payload else value)


# ------------------------------------------------------------ what a run commanded


def commands_of(history: WorkflowHistory) -> list[str]:
    """What the workflow told the server to do, in order: activities with their queue's kind, timers, cancels, phases,
    patch markers, and its end. Arguments, timeouts and durations are left out: a change of them is no command's."""
    return list(_commands(history))


def _commands(history: WorkflowHistory) -> Iterator[str]:
    place = ""
    scheduled: dict[int, str] = {}
    for event in history.events:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                started = event.workflow_execution_started_event_attributes
                place = started.task_queue.name
                yield f"run {started.workflow_type.name}"
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                activity = event.activity_task_scheduled_event_attributes
                scheduled[event.event_id] = activity.activity_type.name
                yield f"activity {activity.activity_type.name} by {_queue_kind(activity.task_queue.name, place)}"
            case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED:
                asked = event.activity_task_cancel_requested_event_attributes
                yield f"cancel {scheduled[asked.scheduled_event_id]}"
            case EventType.EVENT_TYPE_TIMER_STARTED:
                yield f"timer: {_decoded(event.user_metadata.summary)}"
            case EventType.EVENT_TYPE_TIMER_CANCELED:
                yield "cancel timer"
            case EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
                upsert = event.upsert_workflow_search_attributes_event_attributes
                yield from (
                    f"phase {_decoded(value)}" if name == "WsPhase" else f"attribute {name}"
                    for name, value in sorted(upsert.search_attributes.indexed_fields.items())
                )
            case EventType.EVENT_TYPE_MARKER_RECORDED:
                marker = event.marker_recorded_event_attributes
                found = [_decoded(each) for _, kind in sorted(marker.details.items()) for each in kind.payloads]
                yield f"{marker.marker_name} {found}"
            case _ if event.event_type in _ENDS:
                yield _end(event)


_ENDS = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
)


def _end(event: HistoryEvent) -> str:
    if event.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
        return "completed" if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED else "cancelled"
    return f"failed {event.workflow_execution_failed_event_attributes.failure.application_failure_info.type}"


def _queue_kind(queue: str, storage: str) -> str:
    place = storage.removeprefix(storage_queue(""))
    return {storage: "control", movers_queue(place): "leases"}.get(queue, "mover")


def _decoded(payload: Payload) -> Any:
    return DATA_CONVERTER.payload_converter.from_payload(payload)
