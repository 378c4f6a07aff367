"""What a client, a worker, a mover and the replayer must agree on: workflows, sandbox, failure types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from pydantic import ValidationError
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError

from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.search_attributes import SEARCH_ATTRIBUTES
from worker.sandbox import workflow_runner
from workflows.archive import ArchiveWorkflow
from workflows.provision import ProvisionWorkflow
from workflows.purge import PurgeWorkflow
from workflows.restore import RestoreWorkflow

WORKFLOWS: list[type] = [ProvisionWorkflow, ArchiveWorkflow, RestoreWorkflow, PurgeWorkflow]

FAILURE_TYPES: list[type[BaseException]] = [StorageError, ValidationError]
"""A workflow that raises these fails; by default it would retry its task for ever and block the workspace."""


def workflow_options() -> dict[str, Any]:
    """What worker and replayer take alike."""
    return {
        "workflows": WORKFLOWS,
        "workflow_runner": workflow_runner(),
        "workflow_failure_exception_types": FAILURE_TYPES,
    }


class Registered(NamedTuple):
    """What the namespace lacks of our search attributes, and which have another type there, by its name."""

    missing: list[SearchAttributeKey[Any]]
    wrong: dict[SearchAttributeKey[Any], str]


async def registered_search_attributes(client: Client) -> Registered:
    """What the namespace knows of ours. ``RPCError``."""
    known = (
        await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    ).custom_attributes
    # The SDK's enum has the numbers of the API's.
    wrong = {
        key: IndexedValueType.Name(known[key.name]).removeprefix("INDEXED_VALUE_TYPE_")
        for key in SEARCH_ATTRIBUTES
        if key.name in known and int(known[key.name]) != int(key.indexed_value_type)
    }
    return Registered([key for key in SEARCH_ATTRIBUTES if key.name not in known], wrong)


def of_wrong_type(client: Client, wrong: Mapping[SearchAttributeKey[Any], str]) -> StorageError:
    """The error for them, with how each is created again: the server changes no type."""
    command = f"temporal operator search-attribute {{}} --namespace {client.namespace} --name {{}}"
    remove = [f"`{command.format('remove', key.name)} --yes`" for key in wrong]
    create = [f"`{command.format('create', key.name)} --type {_type_name(key)}`" for key in wrong]
    return StorageError(
        ErrorCode.UNSUPPORTED,
        "; ".join(
            f"search attribute {key.name} is registered as {found}, not as {key.indexed_value_type.name}"
            for key, found in wrong.items()
        ),
        hint=f"Make it anew ({', '.join([*remove, *create])}), or set TEMPORAL_NAMESPACE to another. Until then every "
        "workflow task that sets it fails.",
    )


def _type_name(key: SearchAttributeKey[Any]) -> str:
    """As `temporal` takes it."""
    return key.indexed_value_type.name.title()


async def ensure_search_attributes(client: Client) -> None:
    """Register what is missing. ``AccessDenied`` if the server does not let us, ``Unsupported`` if one has another
    type: a run that sets an attribute that the server does not take would never get further."""
    try:
        missing, wrong = await registered_search_attributes(client)
        if wrong:
            raise of_wrong_type(client, wrong)
        if missing:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace,
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
