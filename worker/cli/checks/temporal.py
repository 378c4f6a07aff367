"""Temporal: is it there, with the namespace, our search attributes, and workers that serve the place."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import movers_queue, storage_queue
from codehub_storage.runs import unreachable
from codehub_storage.serving import ACTIVITIES, WORKFLOWS, pollers
from worker.cli.checks.running import Check, Finding, failed, fails, ok, warning
from worker.cli.runs import OPEN, executions, hindered_runs
from worker.cli.session import connect_temporal
from worker.registration import of_wrong_type, registered_search_attributes
from worker.settings import Settings

T = TypeVar("T")

_TIMEOUT = timedelta(seconds=8)
_RUNS_NAMED = 5


class TemporalChecks:
    """Checks that share one connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None

    def checks(self) -> list[Check]:
        """See the module."""
        return [
            Check("temporal.server", self._server),
            Check("temporal.namespace", self._namespace, needs=("temporal.server",)),
            Check("temporal.search-attributes", self._attributes, needs=("temporal.namespace",)),
            Check("temporal.worker", self._worker, needs=("temporal.namespace",)),
            Check("temporal.runs", self._runs, needs=("temporal.namespace",)),
        ]

    async def _server(self) -> Finding:
        self._client = await connect_temporal(self._settings)
        info = await _asked(self._client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=_TIMEOUT))
        connection = self._settings.temporal_connection()
        return ok(f"Temporal {info.server_version} at {connection.address} (from: {connection.origin})")

    async def _namespace(self) -> Finding:
        client = self._connected()
        request = DescribeNamespaceRequest(namespace=client.namespace)
        try:
            found = await _asked(client.workflow_service.describe_namespace(request, timeout=_TIMEOUT))
        except StorageError as error:
            if error.code is not ErrorCode.INVALID_INPUT:
                raise
            return fails(
                f"the server has no namespace {client.namespace}",
                f"Create it (`temporal operator namespace create -n {client.namespace}`), or set TEMPORAL_NAMESPACE.",
            )
        hours = found.config.workflow_execution_retention_ttl.ToSeconds() / 3600
        return ok(f"namespace {client.namespace} keeps ended runs for {hours:.0f} h")

    async def _attributes(self) -> Finding:
        client = self._connected()
        missing, wrong = await _asked(registered_search_attributes(client))
        if wrong:
            return failed(of_wrong_type(client, wrong))
        if not missing:
            return ok("all search attributes are registered")
        names = ", ".join(f"{key.name} ({key.indexed_value_type.name})" for key in missing)
        return fails(
            f"not registered: {names}",
            "A worker registers them when it starts, if it may; else an administrator does, as "
            "`temporal operator search-attribute create`.",
        )

    async def _worker(self) -> Finding:
        place = self._settings.place
        storage, movers = storage_queue(place), movers_queue(place)
        client = self._connected()
        workers = await _asked(pollers(client, storage, WORKFLOWS))
        activities = await _asked(pollers(client, storage, ACTIVITIES))
        leases = await _asked(pollers(client, movers, ACTIVITIES))
        deserted = {storage: workers and activities, movers: leases}
        silent = [queue for queue, asking in deserted.items() if not asking]
        if silent == [movers]:  # a worker whose movers are all taken does not ask, either
            return warning(
                f"no worker asks for leases on {movers}, while {', '.join(sorted(workers))} serves the rest of {place}",
                "Either each worker has as many movers as it may (CODEHUB_STORAGE_MAX_MOVERS), which passes, or its "
                "leases stopped: start it anew if operations keep saying `waits for a mover`.",
            )
        if silent:
            return fails(
                f"no worker asks for work on {' and '.join(silent)}",
                f"Start `codehub-storage worker` with CODEHUB_STORAGE_PLACE={place}; operations wait until then.",
            )
        return ok(f"place {place} is served by {', '.join(sorted(workers))}")

    async def _runs(self) -> Finding:
        """Of any place: a run whose place was misspelled, so that no worker serves it, shows only here."""
        client = self._connected()
        runs = [each async for each in executions(client, OPEN)]
        hindered = await _asked(hindered_runs(client, runs))
        if not hindered:
            return ok(f"{len(runs)} operations are open, and nothing keeps them")
        own = storage_queue(self._settings.place)
        ours = [(run, why) for run, why in hindered if run.task_queue == own]
        hindered = [*ours, *(each for each in hindered if each not in ours)]
        named = [f"{run.workflow_type} of {run.id.partition('/')[2]} {why}" for run, why in hindered[:_RUNS_NAMED]]
        more = len(hindered) - len(named)
        tell = fails if any(not why.may_pass for _, why in ours) else warning
        return tell(
            "; ".join([*named, *([f"and {more} more"] if more else [])]),
            "Do what each says; `codehub-storage cancel WORKSPACE_ID` ends a run that no worker has ever taken.",
        )

    def _connected(self) -> Client:
        assert self._client is not None, "temporal.server comes first"
        return self._client


async def _asked(call: Awaitable[T]) -> T:
    try:
        return await call
    except RPCError as error:
        raise unreachable(error) from error
