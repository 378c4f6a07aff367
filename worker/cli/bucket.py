"""The bucket, for the commands that look into it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activities.objectstore.base import ObjectStore
from activities.objectstore.client import S3Settings
from activities.objectstore.identity import StoreIdentity, load_identity
from activities.objectstore.s3 import S3Store, open_store
from worker.cli.session import hinting
from worker.settings import Settings, variable
from worker.store import s3_settings


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
        with hinting(settings, None if settings.s3_endpoint else variable("s3_endpoint")):
            identity = await load_identity(store)
        yield store, identity
