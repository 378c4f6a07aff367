"""From settings to the parts that do the work: the store, the backend, and the place that `init` marks."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activities.control.services import Services
from activities.objectstore.identity import StoreIdentity, init_store, knows_place
from activities.objectstore.s3 import open_store
from worker.backends import open_backend
from worker.failpoint_wrappers import backend_with_failpoints, store_with_failpoints
from worker.settings import Retention, Settings
from worker.store import open_known_store, s3_settings


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """What activities work with. ``WrongStore`` for a bucket that `init` never marked.

    The backend comes first: what it lacks on this machine is reported before anything is contacted.
    """
    async with open_backend(settings) as backend, open_known_store(settings) as (store, identity):
        yield Services(
            epoch=identity.epoch,
            store=store_with_failpoints(store, "control"),
            backend=backend_with_failpoints(backend),
            place=settings.place,
            retention_keep=settings.retention is Retention.KEEP,
            settle_seconds=settings.settle.total_seconds() if settings.settle is not None else None,
            sync_dir=str(settings.settle_sync_dir) if settings.settle_sync_dir else None,
            time_scale=settings.time_scale,
        )


async def initialize(settings: Settings, *, adopt: bool) -> StoreIdentity:
    """`init`: mark volume place and bucket as belonging together. Marked already: returns what is there.

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
