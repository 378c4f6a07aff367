"""What a client, a worker, a mover and the replayer must agree on: workflows, sandbox, failure types."""

from __future__ import annotations

from typing import Any, cast

from pydantic import ValidationError
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from codehub_storage.errors import ErrorCode, StorageError
from workflows.archive import ArchiveWorkflow
from workflows.operation import SEARCH_ATTRIBUTES
from workflows.provision import ProvisionWorkflow
from workflows.purge import PurgeWorkflow
from workflows.restore import RestoreWorkflow

WORKFLOWS: list[type] = [ProvisionWorkflow, ArchiveWorkflow, RestoreWorkflow, PurgeWorkflow]

FAILURE_TYPES: list[type[BaseException]] = [StorageError, ValidationError]
"""A workflow that raises these fails; by default it would retry its task for ever and block the workspace."""


_DECLARED = ("codehub_storage", "workflows.messages", "workflows.policies", "workflows.steps")
"""They declare and decide nothing: contracts, messages, timeouts, signatures."""


def workflow_runner() -> SandboxedWorkflowRunner:
    """The sandbox. What only declares passes through: its classes are the same inside and outside, and are made once
    instead of for every run, which took 0.2 s of a processor."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*_DECLARED)
    return SandboxedWorkflowRunner(restrictions=restrictions)


def workflow_options() -> dict[str, Any]:
    """What worker and replayer take alike."""
    return {
        "workflows": WORKFLOWS,
        "workflow_runner": workflow_runner(),
        "workflow_failure_exception_types": FAILURE_TYPES,
    }


async def missing_search_attributes(client: Client) -> list[SearchAttributeKey[Any]]:
    """Those of ours that the namespace does not know."""
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return [key for key in SEARCH_ATTRIBUTES if key.name not in known.custom_attributes]


async def ensure_search_attributes(client: Client) -> None:
    """Register what is missing. ``AccessDenied`` if the server does not let us: a run that sets an attribute that the
    server does not know would never get further."""
    try:
        missing = await missing_search_attributes(client)
        if missing:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace,
                    # The SDK's enum has the numbers of the API's.
                    search_attributes=cast(Any, {key.name: key.indexed_value_type for key in missing}),
                )
            )
    except RPCError as error:
        names = ", ".join(f"{key.name}={key.indexed_value_type.name}" for key in SEARCH_ATTRIBUTES)
        raise StorageError(
            ErrorCode.ACCESS_DENIED,
            f"the search attributes cannot be registered: {error.message}",
            hint=f"Let an administrator register {names} in namespace {client.namespace}.",
        ) from error
