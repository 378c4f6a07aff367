"""Which workers serve a run, and why an open one makes no progress: asked of the server, without help of a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    EventType,
    PendingActivityState,
    PendingWorkflowTaskState,
    TaskQueueType,
    WorkflowTaskFailedCause,
)
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryReverseRequest,
)
from temporalio.client import Client, WorkflowExecutionDescription

from codehub_storage.keys import movers_queue, place_of_queue, storage_queue

POLL_SECONDS = 90.0
"""A worker asks again each minute. For minutes more the server names those that are gone."""
_TIMEOUT = timedelta(seconds=8)
_FIRST_EVENTS, _LAST_EVENTS = 100, 20

WORKFLOWS = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


class Hindrance(NamedTuple):
    """Why a run makes no progress, as ``Progress`` has it. ``may_pass``: perhaps it only has to wait for its turn."""

    waits_for: str | None = None
    task_attempt: int = 1
    task_failure: str | None = None
    may_pass: bool = False

    def __str__(self) -> str:
        """In one line; empty where nothing hinders it."""
        return hindered(self.waits_for, self.task_attempt, self.task_failure)


def hindered(waits_for: str | None, task_attempt: int, task_failure: str | None) -> str:
    """These fields in words; empty where nothing hinders the run."""
    words = [f"workers fail to carry it on (attempt {task_attempt}): {task_failure}"] if task_failure else []
    return "; ".join([*words, *([f"waits for {waits_for}"] if waits_for else [])])


async def known_pollers(client: Client, queue: str, kind: TaskQueueType.ValueType) -> Sequence[PollerInfo]:
    """The workers that asked for work on a queue, some of them gone for minutes. ``RPCError`` where the server gives no
    list."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
    )
    return (await client.workflow_service.describe_task_queue(request, timeout=_TIMEOUT)).pollers


async def pollers(client: Client, queue: str, kind: TaskQueueType.ValueType) -> set[str]:
    """The workers that ask for work on a queue. ``RPCError`` as in ``known_pollers``."""
    since = time.time() - POLL_SECONDS
    found = await known_pollers(client, queue, kind)
    return {each.identity for each in found if each.last_access_time.ToNanoseconds() / 1e9 > since}


async def was_taken(client: Client, workflow_id: str, run_id: str) -> bool:
    """True once a worker has begun a task of this run. ``RPCError`` where the server does not report it."""
    request = GetWorkflowExecutionHistoryRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        maximum_page_size=_FIRST_EVENTS,
    )
    found = await client.workflow_service.get_workflow_execution_history(request, timeout=_TIMEOUT)
    begun = any(event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED for event in found.history.events)
    return begun or bool(found.next_page_token)


async def hindrance(client: Client, description: WorkflowExecutionDescription) -> Hindrance:
    """Why the run that was described makes no progress. ``RPCError`` where the server does not report it.

    A *mover's* queue that no worker serves is the lease's matter: it starts another mover.
    """
    raw, found = description.raw_description, Hindrance()
    if raw.HasField("pending_workflow_task"):
        task = raw.pending_workflow_task
        if task.attempt > 1:
            why = await _last_failure(client, description.id, description.run_id)
            found = found._replace(task_attempt=task.attempt, task_failure=why)
        is_scheduled = task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
        if is_scheduled and not await pollers(client, description.task_queue, WORKFLOWS):
            return found._replace(waits_for=_for_a_worker(description.task_queue, description.id))
    place = place_of_queue(description.task_queue)
    for queue in {each.activity_options.task_queue.name for each in raw.pending_activities if _is_due(each)}:
        if queue in (storage_queue(place), movers_queue(place)) and not await pollers(client, queue, ACTIVITIES):
            is_lease = queue == movers_queue(place)
            words = _for_a_mover(place) if is_lease else _for_a_worker(queue, description.id)
            found = found._replace(waits_for=words, may_pass=is_lease and found.task_failure is None)
    return found


def _is_due(activity: PendingActivityInfo) -> bool:
    """Not begun, and its time has come."""
    is_scheduled = activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    return is_scheduled and activity.scheduled_time.ToNanoseconds() / 1e9 <= time.time()


def _for_a_worker(queue: str, workflow_id: str) -> str:
    workspace_id = workflow_id.partition("/")[2]
    return (
        f"a worker: none asks for work on {queue}; start one (`codehub-storage worker` with "
        f"CODEHUB_STORAGE_PLACE={place_of_queue(queue)}), or type `codehub-storage cancel {workspace_id}`"
    )


def _for_a_mover(place: str) -> str:
    return (
        f"a mover: no worker asks for leases on {movers_queue(place)}; none serves place {place}, or each has as many "
        "movers as it may (CODEHUB_STORAGE_MAX_MOVERS)"
    )


async def _last_failure(client: Client, workflow_id: str, run_id: str) -> str:
    """Why the last workflow task that failed did so."""
    request = GetWorkflowExecutionHistoryReverseRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        maximum_page_size=_LAST_EVENTS,
    )
    found = await client.workflow_service.get_workflow_execution_history_reverse(request, timeout=_TIMEOUT)
    for event in found.history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failed = event.workflow_task_failed_event_attributes
            name = WorkflowTaskFailedCause.Name(failed.cause).removeprefix("WORKFLOW_TASK_FAILED_CAUSE_")
            return f"{name.replace('_', ' ').lower()}: {' '.join(failed.failure.message.split())}"
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            break
    return "no worker answered in time"
