"""What the server reports of a run: its outcome and its progress; and the errors where it reports nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.exceptions import CancelledError, TerminatedError
from temporalio.service import RPCError, RPCStatusCode

from codehub_storage.contracts import OperationResult, Phase, Progress
from codehub_storage.converter import DATA_CONVERTER, describe_validation, storage_error
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.serving import WORKFLOWS, Hindrance, hindrance, pollers, was_taken

UNTAKEN = "cancelled before any worker had taken it"
"""The reason of a terminate that is used as a cancel."""
_NO_CONNECTION = "client connect"
_TOO_LARGE = "larger than max"
_QUERY_SECONDS = 5.0
_FIRST_LOOKS, _LATER_LOOKS = (1.0, 3.0, 10.0), 30.0
_CANCEL_LOOKS = 2.0
DENIED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED)
"""What a server answers to a client that it does not let in, or that lacks a permission."""

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("codehub_storage")


def told(call: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """``call``, which no other error leaves than ``StorageError``."""

    @functools.wraps(call)
    async def telling(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await call(*args, **kwargs)
        except StorageError:
            raise
        except RPCError as error:
            raise unreachable(error) from error
        except ValidationError as error:
            raise StorageError(ErrorCode.INVALID_INPUT, describe_validation(error)) from error
        except (TypeError, ValueError) as error:
            raise StorageError(ErrorCode.INVALID_INPUT, f"what was given cannot be used: {_line(error)}") from error
        except Exception as error:
            if isinstance(error, RuntimeError) and _NO_CONNECTION in str(error):  # of a client that connects lazily
                raise no_server("the address of this client") from error
            raise StorageError(
                ErrorCode.UNKNOWN,
                f"{type(error).__name__}: {_line(error)}",
                hint="A fault of this client, or a server that it does not know; look at the run.",
            ) from error

    return telling


def no_server(address: str) -> StorageError:
    """The error for a connection that was not made."""
    return StorageError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"no Temporal server at {address}",
        hint="Check TEMPORAL_ADDRESS and that the server is up.",
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def unreachable(error: RPCError) -> StorageError:
    """The error for a call that got no response from the server, or that the server refused."""
    message = f"the Temporal server says: {_line(error)}"
    namespace = _missing_namespace(error)
    if namespace is not None:
        return StorageError(
            ErrorCode.INVALID_INPUT,
            message,
            hint=f"Create it (`temporal operator namespace create -n {namespace}`), or set TEMPORAL_NAMESPACE.",
        )
    if error.status in DENIED:
        return StorageError(
            ErrorCode.ACCESS_DENIED,
            message,
            hint="Check TEMPORAL_API_KEY or the client certificate, and what they may do in the namespace.",
        )
    if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT) or _TOO_LARGE in message:
        return StorageError(ErrorCode.INVALID_INPUT, message)
    return StorageError(
        ErrorCode.BACKEND_UNAVAILABLE,
        message,
        hint="The operation, if it runs, goes on; call again when the server is reachable.",
    )


def is_no_run(error: RPCError) -> bool:
    """True where the server answers that it knows of no such run."""
    return error.status == RPCStatusCode.NOT_FOUND and _missing_namespace(error) is None


def _missing_namespace(error: RPCError) -> str | None:
    for detail in error.grpc_status.details:
        found = NamespaceNotFoundFailure()
        if detail.Unpack(found):
            return found.namespace
    return None


def exact(client: Client, handle: WorkflowHandle[Any, T]) -> WorkflowHandle[Any, T]:
    """The handle of this one run: that of a start means the latest one of its workspace."""
    return client.get_workflow_handle(handle.id, run_id=handle.run_id or handle.result_run_id)


# ------------------------------------------------------------ how it ends


async def outcome(client: Client, handle: WorkflowHandle[Any, OperationResult]) -> OperationResult:
    """Wait for the end of a run; what hinders it meanwhile is logged as a WARNING.

    ``StorageError`` if it failed, was cancelled or terminated.
    """
    watch = asyncio.create_task(_warn(client, exact(client, handle)))
    try:
        return await handle.result()
    except WorkflowFailureError as error:
        if isinstance(error.cause, CancelledError):
            raise StorageError(ErrorCode.CANCELLED, "the operation was cancelled and undone") from error
        if isinstance(error.cause, TerminatedError):
            raise await _terminated(client, exact(client, handle), error.cause) from error
        raise storage_error(error) from error
    finally:
        watch.cancel()


async def _terminated(
    client: Client, handle: WorkflowHandle[Any, OperationResult], error: TerminatedError
) -> StorageError:
    """The cancel that the terminate was used as, if the run had begun nothing."""
    if error.message == UNTAKEN and not await was_taken(client, handle.id, handle.run_id or ""):
        return StorageError(ErrorCode.CANCELLED, f"the operation was {UNTAKEN}")
    return StorageError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"the run was terminated: {error.message}",
        hint="Call again: the next run looks, and goes on where this one stopped.",
    )


async def _warn(client: Client, handle: WorkflowHandle[Any, Any]) -> None:
    """Look at an open run, early and then now and then; a new hindrance is logged, the same one once."""
    said = ""
    for pause in itertools.chain(_FIRST_LOOKS, itertools.repeat(_LATER_LOOKS)):
        await asyncio.sleep(pause)
        with contextlib.suppress(RPCError):
            description = await handle.describe()
            if description.status != WorkflowExecutionStatus.RUNNING:
                return
            found = str(await hindrance(client, description))
            if found and found != said:
                log.warning("%s: the %s %s", handle.id, description.workflow_type, found)
            said = found


async def request_cancel(client: Client, handle: WorkflowHandle[Any, Any]) -> bool:
    """Ask an open run to stop and undo; fine if it has ended.

    True where it was ended at once, since no worker had begun it and none would: no worker asks for its tasks.
    """
    try:
        await handle.cancel()
        run_id = handle.run_id or ""
        if await was_taken(client, handle.id, run_id):
            return False
        if await pollers(client, (await handle.describe()).task_queue, WORKFLOWS):
            return False
        # A worker may begin the first task right here, and its claim land after this. That is safe: the run never
        # releases the record then, so the next claim waits for what it may have under way, and reports that [H4].
        await handle.terminate(reason=UNTAKEN)
    except RPCError as error:
        if not is_no_run(error):  # if it is: the run ended just now, and its outcome is final
            raise
        return False
    return True


async def cancelled_outcome(client: Client, handle: WorkflowHandle[Any, OperationResult]) -> OperationResult:
    """``outcome`` of a run that was asked to cancel. The cancel is repeated until a worker serves it, or none will."""
    ending = asyncio.ensure_future(outcome(client, handle))
    try:
        while not (ending.done() or await request_cancel(client, handle)):
            if await was_taken(client, handle.id, handle.run_id or ""):
                break
            await asyncio.wait([ending], timeout=_CANCEL_LOOKS)
        return await ending
    finally:
        ending.cancel()


# ------------------------------------------------------------ how far it is


async def progress_of(client: Client, handle: WorkflowHandle[Any, Any], workspace_id: str) -> Progress:
    """What the workflow reports of itself, what the server knows of the step under way, and what hinders it."""
    description = await handle.describe()
    running = description.status == WorkflowExecutionStatus.RUNNING
    progress = Progress(
        operation=description.workflow_type, workspace_id=workspace_id, run_id=description.run_id, closed=not running
    )
    hindered = await hindrance(client, description) if running else Hindrance()
    if hindered.waits_for is None or not description.raw_description.HasField("pending_workflow_task"):
        try:
            async with asyncio.timeout(_QUERY_SECONDS):
                said = await handle.query("progress", result_type=Progress)
            fields = {"phase", "bytes_done", "bytes_total", "last_error", "waits_for"}
            progress = progress.model_copy(update=said.model_dump(include=fields))
        except (RPCError, TimeoutError, WorkflowQueryFailedError, WorkflowQueryRejectedError):
            pass  # no worker responds: the server's own view remains
    if description.status == WorkflowExecutionStatus.COMPLETED:
        return progress.model_copy(update={"phase": Phase.DONE})
    return progress.model_copy(
        update={
            **_pending(description, progress),
            "waits_for": hindered.waits_for or (progress.waits_for if running else None),
            "task_attempt": hindered.task_attempt,
            "task_failure": hindered.task_failure,
        }
    )


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
