"""From settings to the object store: all that a mover needs of the wiring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from activities.objectstore.base import Capabilities
from activities.objectstore.client import S3Settings
from activities.objectstore.identity import StoreIdentity, load_identity
from activities.objectstore.s3 import S3Store, open_store
from worker.settings import Settings


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
