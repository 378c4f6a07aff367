"""Runs as the Temporal server lists them: one question for all, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from codehub_storage.contracts import Operation
from codehub_storage.errors import ErrorCode, StorageError
from worker.cli.weblinks import run_link

OURS = "WorkflowType IN ({})".format(", ".join(f"'{each.value}'" for each in Operation))
OPEN = f"{OURS} AND ExecutionStatus = 'Running'"
ENDED = f"{OURS} AND ExecutionStatus != 'Running'"
_PAGE = 1000


async def executions(client: Client, query: str, limit: int | None = None) -> AsyncIterator[WorkflowExecution]:
    """The runs that match, the open ones first, then those that ended last. ``BackendUnavailable``."""
    if limit == 0:
        return
    try:
        async for each in client.list_workflows(query, limit=limit, page_size=_PAGE):
            yield each
    except RPCError as error:
        raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"the Temporal server says: {error.message}") from error


def status_of(execution: WorkflowExecution) -> str:
    """In one word: running, completed, failed, ..."""
    return execution.status.name.lower() if execution.status else "unknown"


def row(execution: WorkflowExecution, web_ui: str | None) -> dict[str, Any]:
    """A run as a ``RunRow``; ``workspace_id``, ``phase`` and ``bytes`` are search attributes."""
    values = {pair.key.name: pair.value for pair in execution.typed_search_attributes}
    return {
        "workspace_id": values.get("WsId"),
        "operation": execution.workflow_type,
        "status": status_of(execution),
        "phase": values.get("WsPhase"),
        "bytes": values.get("WsBytes"),
        "run_id": execution.run_id,
        "started_at": moment(execution.start_time),
        "seconds": round(((execution.close_time or datetime.now(UTC)) - execution.start_time).total_seconds(), 1),
        "link": run_link(web_ui, execution.namespace, execution.id, execution.run_id) if web_ui else None,
    }


def moment(time: datetime) -> str:
    """A time for people and programs."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
