"""Runs as the Temporal server lists them: one question for all, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError

from codehub_storage.contracts import Operation
from codehub_storage.runs import is_no_run, unreachable
from codehub_storage.serving import Hindrance, hindrance
from worker.cli.weblinks import run_link

OURS = "WorkflowType IN ({})".format(", ".join(f"'{each.value}'" for each in Operation))
OPEN = f"{OURS} AND ExecutionStatus = 'Running'"
_RUNNING = WorkflowExecutionStatus.RUNNING
ENDED = f"{OURS} AND ExecutionStatus != 'Running'"
_PAGE = 1000
_AT_A_TIME = 16
_LOOKED_AT = 500
"""Of more open runs than these, only the first are asked what hinders them."""


async def executions(client: Client, query: str, limit: int | None = None) -> AsyncIterator[WorkflowExecution]:
    """The runs that match, the open ones first, then those that ended last. ``BackendUnavailable``."""
    if limit == 0:
        return
    try:
        async for each in client.list_workflows(query, limit=limit, page_size=_PAGE):
            yield each
    except RPCError as error:
        raise unreachable(error) from error


async def hindered_runs(client: Client, runs: Sequence[WorkflowExecution]) -> list[tuple[WorkflowExecution, Hindrance]]:
    """Those of the open ones that do not get on, and why. ``RPCError``."""
    turns = asyncio.Semaphore(_AT_A_TIME)

    async def why(run: WorkflowExecution) -> Hindrance:
        async with turns:
            try:
                description = await client.get_workflow_handle(run.id, run_id=run.run_id).describe()
                return await hindrance(client, description) if description.status is _RUNNING else Hindrance()
            except RPCError as error:
                if is_no_run(error):
                    return Hindrance()
                raise

    asked = [run for run in runs if run.status is _RUNNING][:_LOOKED_AT]
    return [(run, said) for run, said in zip(asked, await asyncio.gather(*map(why, asked)), strict=True) if str(said)]


async def problems_of(client: Client, runs: Sequence[WorkflowExecution]) -> dict[str, str]:
    """``hindered_runs`` by run id. ``StorageError``."""
    try:
        return {run.run_id: str(why) for run, why in await hindered_runs(client, runs)}
    except RPCError as error:
        raise unreachable(error) from error


def status_of(execution: WorkflowExecution) -> str:
    """In one word: running, completed, failed, ..."""
    return execution.status.name.lower() if execution.status else "unknown"


def row(execution: WorkflowExecution, web_ui: str | None, problem: str | None = None) -> dict[str, Any]:
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
        "problem": problem,
        "link": run_link(web_ui, execution.namespace, execution.id, execution.run_id) if web_ui else None,
    }


def moment(time: datetime) -> str:
    """A time for people and programs."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
