"""What commands work with: the settings, and a connection to Temporal. The bucket costs more to import (``bucket``)."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.client import Client

from codehub_storage.client import DEFAULT_ADDRESS, StorageClient, connect
from codehub_storage.contracts import Operation
from codehub_storage.errors import StorageError
from codehub_storage.keys import workflow_id
from worker.cli.output import Output
from worker.cli.weblinks import run_link
from worker.dev.info import DevInfo
from worker.settings import Settings


def load_settings(args: Namespace) -> Settings:
    """The settings, of the stack in `--data-dir` where the environment sets nothing."""
    return Settings.load(args.data_dir)


async def connect_temporal(settings: Settings) -> Client:
    """Temporal, by the environment or the running stack. ``BackendUnavailable`` if it does not respond."""
    config = settings.temporal_connect_config()
    with hinting(settings, None if config.get("target_host") != DEFAULT_ADDRESS else "TEMPORAL_ADDRESS"):
        return await connect(**config)


async def connect_storage(args: Namespace, settings: Settings) -> StorageClient:
    """The client, for the place that was named, else for that of the settings."""
    return StorageClient(await connect_temporal(settings), place=args.place or settings.place)


async def connect_for(operation: Operation, args: Namespace, settings: Settings, output: Output) -> StorageClient:
    """``connect_storage`` for an operation: failures from now on show what is safe and where to look."""
    output.operation = operation
    web_ui = settings.web_ui_address
    if web_ui is not None:
        namespace = settings.temporal_connect_config().get("namespace", "default")
        output.link = lambda workspace_id, run_id: run_link(web_ui, namespace, workflow_id(workspace_id), run_id)
    return await connect_storage(args, settings)


@contextmanager
def hinting(settings: Settings, unset: str | None) -> Iterator[None]:
    """If the stack was not started, the error names that, and not the default that holds where ``unset`` is not set."""
    try:
        yield
    except StorageError as error:
        if unset is not None and DevInfo.read(settings.data_dir) is None:
            raise StorageError(
                error.code,
                error.message,
                hint=f"No stack runs in {settings.data_dir}: start one with `codehub-storage dev`, or set {unset}.",
                details=error.details,
            ) from error
        raise
