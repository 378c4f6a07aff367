"""What the steps of a recorded history answered, to be answered again to today's workflow."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowFailureError, WorkflowHistory
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from codehub_storage.converter import DATA_CONVERTER
from codehub_storage.keys import storage_queue
from tests.fakes.steps import LEASE
from tests.replay.histories import commands_of


@dataclass
class Script:
    """What the steps of one history answered, to be answered again in that order."""

    history: WorkflowHistory
    answers: dict[str, deque[Payload | Failure | None]]

    @classmethod
    def of(cls, history: WorkflowHistory) -> Script:
        """From its events."""
        answers: dict[str, deque[Payload | Failure | None]] = defaultdict(deque)
        scheduled = {}
        for event in history.events:
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
            for at, answer in _answer(event):
                answers[scheduled[at]].append(answer)
        return cls(history, answers)

    @property
    def is_repeatable(self) -> bool:
        """True unless what came when is a matter of chance: a cancel, or a mover that died."""
        kinds = {event.event_type for event in self.history.events}
        return EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED not in kinds and not self.answers[LEASE]

    @property
    def place(self) -> str:
        """Where it ran."""
        started = self.history.events[0].workflow_execution_started_event_attributes
        return started.task_queue.name.removeprefix(storage_queue(""))

    def answer(self, info: activity.Info) -> Any:
        """The step's next answer."""
        if info.activity_type == LEASE:
            return None
        if not self.answers[info.activity_type]:
            raise ApplicationError(f"{info.activity_type} was never called here", non_retryable=True)
        answer = self.answers[info.activity_type].popleft()
        if not isinstance(answer, Failure):
            return None if answer is None else RawValue(answer)
        raise DATA_CONVERTER.failure_converter.from_failure(_final(answer), DATA_CONVERTER.payload_converter)

    async def run(self, client: Client) -> list[str]:
        """Today's workflow, with the same input; what it commands."""
        started = self.history.events[0].workflow_execution_started_event_attributes
        handle = await client.start_workflow(
            started.workflow_type.name,
            args=[RawValue(each) for each in started.input.payloads],
            id=self.history.workflow_id,
            task_queue=started.task_queue.name,
        )
        with contextlib.suppress(WorkflowFailureError):  # as it was recorded, or the comparison shows it
            await asyncio.wait_for(handle.result(), 120)
        return commands_of(await handle.fetch_history())


def _answer(event: HistoryEvent) -> Iterator[tuple[int, Payload | Failure | None]]:
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
        completed = event.activity_task_completed_event_attributes
        yield completed.scheduled_event_id, next(iter(completed.result.payloads), None)
    elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
        failed = event.activity_task_failed_event_attributes
        yield failed.scheduled_event_id, failed.failure


def _final(failure: Failure) -> Failure:
    """As it ended the step then: not to be tried again."""
    found = Failure()
    found.CopyFrom(failure)
    found.application_failure_info.non_retryable = True
    return found
