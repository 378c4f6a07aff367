"""From settings to the parts that do the work: the store, the backend, and the place that `init` marks."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from activities.objectstore.base import Capabilities
from activities.objectstore.client import S3Settings
from activities.objectstore.identity import StoreIdentity, init_store, knows_place, load_identity
from activities.objectstore.s3 import S3Store, open_store
from activities.points import pointed_backend, pointed_store
from activities.services import Services
from worker.backends import open_backend
from worker.settings import Retention, Settings


def s3_settings(settings: Settings) -> S3Settings:
    """What the object store's adapter needs to know, its timeouts scaled."""

    def revealed(name: str) -> str | None:
        secret = getattr(settings, name)
        return secret.get_secret_value() if secret is not None else None

    addressing = "path" if settings.s3_addressing == "auto" and not settings.is_aws else settings.s3_addressing
    return S3Settings(
        bucket=settings.bucket,
        endpoint_url=settings.s3_endpoint,
        region=settings.s3_region,
        access_key=revealed("s3_access_key"),
        secret_key=revealed("s3_secret_key"),
        session_token=revealed("s3_session_token"),
        addressing_style=addressing,
        ca_bundle=str(settings.s3_ca_bundle) if settings.s3_ca_bundle else None,
    ).scaled(settings.time_scale)


@asynccontextmanager
async def open_known_store(settings: Settings) -> AsyncIterator[tuple[S3Store, StoreIdentity]]:
    """The bucket, used as `init` found it able. ``WrongStore`` for one that `init` never marked."""
    connection = s3_settings(settings)
    async with AsyncExitStack() as exits:
        store = await exits.enter_async_context(open_store(connection))
        identity = await load_identity(store)
        if identity.capabilities != Capabilities():
            store = await exits.enter_async_context(open_store(connection, identity.capabilities))
        yield store, identity


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """What activities work with. ``WrongStore`` for a bucket that `init` never marked.

    The backend comes first: what it lacks on this machine is told before anything is contacted.
    """
    async with open_backend(settings) as backend, open_known_store(settings) as (store, identity):
        yield Services(
            epoch=identity.epoch,
            store=pointed_store(store, "control"),
            backend=pointed_backend(backend),
            place=settings.place,
            retention_keep=settings.retention is Retention.KEEP,
            settle_seconds=settings.settle.total_seconds() if settings.settle is not None else None,
            sync_dir=str(settings.settle_sync_dir) if settings.settle_sync_dir else None,
            time_scale=settings.time_scale,
        )


async def initialize(settings: Settings, *, adopt: bool) -> StoreIdentity:
    """`init`: mark volume place and bucket as belonging together. Marked already: answers what is there.

    Raises ``WrongStore`` for either that is not empty, unless ``adopt``, and ``Unsupported`` for a store that cannot
    carry the record.
    """
    async with open_backend(settings) as backend, open_store(s3_settings(settings)) as store:
        # What others put beside a place that the bucket knows is no reason to refuse it the second time.
        is_known = await knows_place(store, settings.place, await backend.identity())
        place_identity = await backend.mark(secrets.token_hex(16), adopt=adopt or is_known)
        return await init_store(
            store,
            place=settings.place,
            place_identity=place_identity,
            adopt=adopt,
            settle_seconds=settings.settle_delay.total_seconds(),
        )
