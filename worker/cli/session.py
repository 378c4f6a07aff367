"""What commands work with: the settings, a connection to Temporal, the bucket."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from temporalio.client import Client

from activities.objectstore.base import ObjectStore
from activities.objectstore.client import S3Settings
from activities.objectstore.identity import StoreIdentity, load_identity
from activities.objectstore.s3 import S3Store, open_store
from codehub_storage.client import DEFAULT_ADDRESS, StorageClient, connect
from codehub_storage.contracts import Operation
from codehub_storage.errors import StorageError
from codehub_storage.keys import workflow_id
from worker.cli.output import Output
from worker.cli.weblinks import run_link
from worker.dev.info import DevInfo
from worker.settings import Settings, variable
from worker.store import s3_settings


def load_settings(args: Namespace) -> Settings:
    """The settings, of the stack in `--data-dir` where the environment sets nothing."""
    return Settings.load(args.data_dir)


async def connect_temporal(settings: Settings) -> Client:
    """Temporal, by the environment or the running stack. ``BackendUnavailable`` if it does not respond."""
    config = settings.temporal_connect_config()
    with _hint(settings, None if config.get("target_host") != DEFAULT_ADDRESS else "TEMPORAL_ADDRESS"):
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


@asynccontextmanager
async def open_bucket(settings: Settings) -> AsyncIterator[ObjectStore]:
    """The bucket. ``WrongStore`` for one that `init` never marked."""
    async with open_marked(settings) as (store, _):
        yield store


@asynccontextmanager
async def open_marked(
    settings: Settings, connection: S3Settings | None = None
) -> AsyncIterator[tuple[S3Store, StoreIdentity]]:
    """The bucket and its identity. ``connection``: for example with other timeouts."""
    async with open_store(connection or s3_settings(settings)) as store:
        with _hint(settings, None if settings.s3_endpoint else variable("s3_endpoint")):
            identity = await load_identity(store)
        yield store, identity


@contextmanager
def _hint(settings: Settings, unset: str | None) -> Iterator[None]:
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
