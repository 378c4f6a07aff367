"""From settings to what activities work with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activities.backends.directory.backend import DirectoryBackend
from activities.objectstore.identity import load_identity
from activities.objectstore.s3 import open_store
from activities.services import Services
from worker.settings import Retention, Settings
from worker.wiring import s3_settings

MOVER_ENTRY = "worker.mover:main"


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """The bucket and the place of these settings. ``WrongStore`` for a bucket that `init` never marked."""
    async with open_store(s3_settings(settings)) as probe:
        capabilities = (await load_identity(probe)).capabilities
    async with open_store(s3_settings(settings), capabilities) as store:
        yield Services(
            store=store,
            backend=DirectoryBackend(settings.volumes, mover_entry=MOVER_ENTRY),
            place=settings.place,
            retention_keep=settings.retention is Retention.KEEP,
            settle_seconds=settings.settle.total_seconds() if settings.settle is not None else None,
            sync_dir=str(settings.settle_sync_dir) if settings.settle_sync_dir else None,
            time_scale=settings.time_scale,
        )
