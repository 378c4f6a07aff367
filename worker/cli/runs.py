"""Runs as the Temporal server lists them: one question for all, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError

from codehub_storage.contracts import Operation
from codehub_storage.runs import is_no_run, unreachable
from codehub_storage.serving import Hindrance, hindrance
from worker.cli.answers import RunRow
from worker.cli.weblinks import run_link

T = TypeVar("T")

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
    """The open runs that make no progress, and why. ``RPCError``."""
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


def attribute(execution: WorkflowExecution, name: str, kind: type[T]) -> T | None:
    """The value of a search attribute; ``None`` also where the namespace has it with another type."""
    values = {pair.key.name: pair.value for pair in execution.typed_search_attributes}
    value = values.get(name)
    return value if isinstance(value, kind) else None


def row(execution: WorkflowExecution, web_ui: str | None, problem: str | None = None) -> RunRow:
    """A run as it is printed."""
    seconds = ((execution.close_time or datetime.now(UTC)) - execution.start_time).total_seconds()
    return RunRow(
        workspace_id=attribute(execution, "WsId", str),
        operation=execution.workflow_type,
        status=status_of(execution),
        phase=attribute(execution, "WsPhase", str),
        bytes=attribute(execution, "WsBytes", int),
        run_id=execution.run_id,
        started_at=moment(execution.start_time),
        seconds=round(seconds, 1),
        problem=problem,
        link=run_link(web_ui, execution.namespace, execution.id, execution.run_id) if web_ui else None,
    )


def moment(time: datetime) -> str:
    """A time for people and programs."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
