"""What the server says of a run: its outcome, its progress, and that it says nothing at all."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import CancelledError, TerminatedError
from temporalio.service import RPCError, RPCStatusCode

from codehub_storage.contracts import OperationResult, Phase, Progress
from codehub_storage.converter import DATA_CONVERTER, storage_error
from codehub_storage.errors import ErrorCode, StorageError


def unreachable(error: RPCError) -> StorageError:
    """The error for a call that the server did not answer, or refused."""
    if error.status == RPCStatusCode.NOT_FOUND:
        return StorageError(ErrorCode.INVALID_INPUT, f"the Temporal server says: {error.message}")
    return StorageError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"the Temporal server says: {error.message}",
        hint="The operation, if it runs, goes on; call again when the server is reachable.",
    )


async def outcome(handle: WorkflowHandle[Any, OperationResult]) -> OperationResult:
    """Wait for the end of a run. ``StorageError`` if it failed, was cancelled or terminated."""
    try:
        return await handle.result()
    except WorkflowFailureError as error:
        if isinstance(error.cause, CancelledError):
            raise StorageError(ErrorCode.CANCELLED, "the operation was cancelled and undone") from error
        if isinstance(error.cause, TerminatedError):
            raise StorageError(
                ErrorCode.BACKEND_UNAVAILABLE,
                f"the run was terminated: {error.cause.message}",
                hint="Call again: the next run looks, and goes on where this one stopped.",
            ) from error
        raise storage_error(error) from error
    except RPCError as error:
        raise unreachable(error) from error


async def progress_of(handle: WorkflowHandle[Any, Any], workspace_id: str) -> Progress:
    """What the workflow says of itself, and what the server knows of the step under way."""
    description = await handle.describe()
    running = description.status == WorkflowExecutionStatus.RUNNING
    progress = Progress(
        operation=description.workflow_type, workspace_id=workspace_id, run_id=description.run_id, closed=not running
    )
    try:
        async with asyncio.timeout(5):
            said = await handle.query("progress", result_type=Progress)
        progress = progress.model_copy(
            update=said.model_dump(include={"phase", "bytes_done", "bytes_total", "last_error"})
        )
    except (RPCError, TimeoutError):
        pass  # no worker answers: the server's own view remains
    if description.status == WorkflowExecutionStatus.COMPLETED:
        return progress.model_copy(update={"phase": Phase.DONE})
    return progress.model_copy(update=_pending(description, progress))


def _pending(description: WorkflowExecutionDescription, progress: Progress) -> dict[str, Any]:
    """The step that is being tried again, if one is; bytes of the batch under way, from its heartbeat."""
    update: dict[str, Any] = {"bytes_done": progress.bytes_done}
    for pending in description.raw_description.pending_activities:
        if pending.HasField("heartbeat_details"):
            update["bytes_done"] += _heartbeat_bytes(pending.heartbeat_details.payloads)
        if pending.attempt > 1 or pending.HasField("last_failure"):
            update["attempt"] = pending.attempt
            update["last_error"] = pending.last_failure.message or progress.last_error
            if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
                update["next_attempt_at"] = pending.scheduled_time.ToJsonString()
    return update


def _heartbeat_bytes(payloads: Any) -> int:
    """The ``bytes`` of a heartbeat; 0 for any that has none."""
    try:
        (details,) = DATA_CONVERTER.payload_converter.from_payloads(list(payloads[:1]))
        return int(details["bytes"])
    except (ValueError, TypeError, KeyError):
        return 0
