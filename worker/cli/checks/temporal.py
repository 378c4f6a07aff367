"""Temporal: is it there, with the namespace, our search attributes, and workers that serve the place."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    GetSystemInfoRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import movers_queue, storage_queue
from codehub_storage.runs import unreachable
from worker.cli.checks.running import Check, Finding, fails, ok
from worker.cli.session import connect_temporal
from worker.registration import missing_search_attributes
from worker.settings import Settings

T = TypeVar("T")

_TIMEOUT = timedelta(seconds=8)
_POLL_SECONDS = 90.0
"""A worker asks anew each minute. For minutes more the server names those that are gone."""
_DENIED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED)


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
        missing = await _asked(missing_search_attributes(client))
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
        workers = await self._pollers(storage, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
        activities = await self._pollers(storage, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
        leases = await self._pollers(movers, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
        deserted = {storage: workers and activities, movers: leases}
        silent = [queue for queue, pollers in deserted.items() if not pollers]
        if silent:
            return fails(
                f"no worker asks for work on {' and '.join(silent)}",
                f"Start `codehub-storage worker` with CODEHUB_STORAGE_PLACE={place}; operations wait until then.",
            )
        return ok(f"place {place} is served by {', '.join(sorted(workers))}")

    async def _pollers(self, queue: str, kind: TaskQueueType.ValueType) -> set[str]:
        client = self._connected()
        request = DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
        )
        found = await _asked(client.workflow_service.describe_task_queue(request, timeout=_TIMEOUT))
        since = time.time() - _POLL_SECONDS
        return {each.identity for each in found.pollers if each.last_access_time.ToNanoseconds() / 1e9 > since}

    def _connected(self) -> Client:
        assert self._client is not None, "temporal.server comes first"
        return self._client


async def _asked(call: Awaitable[T]) -> T:
    try:
        return await call
    except RPCError as error:
        if error.status in _DENIED:
            raise StorageError(ErrorCode.ACCESS_DENIED, f"the Temporal server says: {error.message}") from error
        raise unreachable(error) from error
