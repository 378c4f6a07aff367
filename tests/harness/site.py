"""A site of its own for a test: bucket, place, volume root and worker processes, on the session's servers.

Places and workspace ids are random, so many sites share one Temporal and one S3 server side by side.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from temporalio.client import Client

from activities.objectstore.s3 import S3Store, open_store
from codehub_storage.client import StorageClient, connect
from tests.harness.seaweed import Seaweed, new_bucket, settings_of
from worker.dev.process import Child
from worker.dev.temporal import TemporalServer
from worker.settings import Settings
from worker.wiring import initialize

TIME_SCALE = 0.15


@dataclass
class Site:
    """What a test works with. ``storage``: the client under test; ``temporal``: the server's own client; ``truth``: the
    bucket past any proxy; ``environment``: what its worker processes are told."""

    place: str
    bucket: str
    root: Path
    folder: Path
    environment: dict[str, str]
    storage: StorageClient
    temporal: Client
    truth: S3Store
    workers: list[Child] = field(default_factory=list)

    def volume(self, workspace_id: str) -> Path:
        """The folder of a workspace's volume."""
        return self.root / f"ws_{workspace_id}_home"

    def workspace_id(self) -> str:
        """A new one."""
        return f"w{secrets.token_hex(5)}"

    def start_worker(self, **environment: str) -> Child:
        """A control worker as a process of its own. ``environment`` adds to the site's (a failpoint, say)."""
        name = f"worker-{len(self.workers)}"
        child = Child(
            name,
            [sys.executable, "-m", "worker.control"],
            log=self.folder / f"{name}.log",
            pid_file=self.folder / f"{name}.pid",
            environment={**os.environ, **self.environment, **environment},
        )
        child.start()
        self.workers.append(child)
        return child

    def logs(self) -> str:
        """What all workers have written, for the message of a failed assertion."""
        return "\n".join(child.log.read_text(errors="replace") for child in self.workers if child.log.exists())


@asynccontextmanager
async def open_site(
    folder: Path,
    temporal_server: TemporalServer,
    seaweed: Seaweed,
    *,
    versioned: bool = False,
    endpoint_url: str | None = None,
    time_scale: float = TIME_SCALE,
    **environment: str,
) -> AsyncIterator[Site]:
    """A marked site without a worker. ``endpoint_url``: a proxy's, for the workers only. ``environment``: settings,
    by their variables' full names. All workers are killed at the end."""
    place = f"p{secrets.token_hex(4)}"
    bucket = new_bucket(seaweed, versioned=versioned)
    root = folder / "volumes"
    root.mkdir(parents=True)
    settings = settings_of(seaweed, bucket)
    values = {
        "CODEHUB_STORAGE_PLACE": place,
        "CODEHUB_STORAGE_BUCKET": bucket,
        "CODEHUB_STORAGE_VOLUME_ROOT": str(root),
        "CODEHUB_STORAGE_S3_ENDPOINT": endpoint_url or seaweed.endpoint_url,
        "CODEHUB_STORAGE_S3_ACCESS_KEY": settings.access_key or "",
        "CODEHUB_STORAGE_S3_SECRET_KEY": settings.secret_key or "",
        "CODEHUB_STORAGE_SETTLE": "0",
        "CODEHUB_STORAGE_TIME_SCALE": str(time_scale),
        "CODEHUB_STORAGE_DATA_DIR": str(folder / "data"),
        "TEMPORAL_ADDRESS": temporal_server.address,
        "TEMPORAL_NAMESPACE": "default",
        "TMPDIR": str(folder),
        **environment,
    }
    await initialize(
        Settings(
            place=place,
            bucket=bucket,
            volume_root=root,
            s3_endpoint=seaweed.endpoint_url,
            s3_access_key=settings.access_key,
            s3_secret_key=settings.secret_key,
            settle="0",
        ),
        adopt=False,
    )
    client = await connect(target_host=temporal_server.address, namespace="default")
    async with open_store(settings) as truth:
        site = Site(place, bucket, root, folder, values, StorageClient(client, place=place), client, truth)
        try:
            yield site
        finally:
            for worker in site.workers:
                worker.kill()
