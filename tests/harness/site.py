"""A site of its own for a test: bucket, place, volume root and worker processes, on the session's servers.

Places and workspace ids are random, so many sites share one Temporal and one S3 server side by side.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio.client import Client

from activities.objectstore.client import S3Settings
from activities.objectstore.s3 import S3Store, open_store
from codehub_storage.client import StorageClient, connect
from tests.harness.forked import ForkedWorker
from tests.harness.habitats import DirectoryHabitat, Habitat, new_habitat
from tests.harness.s3server import S3Server
from tests.harness.seaweed import new_bucket, settings_of
from worker.dev.process import Child
from worker.dev.temporal import TemporalServer
from worker.settings import Settings, variable
from worker.wiring import initialize

TIME_SCALE = 0.15


@functools.cache
def scratch() -> Path:
    """A temporary folder with a short path, for this process's children: sockets stand in it, and the kernel takes
    107 bytes of path for one, which a test's own folder can exceed."""
    folder = tempfile.mkdtemp(prefix="cs-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@dataclass(frozen=True)
class Ground:
    """A marked place and bucket. It has no connection, so tests of different event loops can share one."""

    place: str
    bucket: str
    root: Path
    folder: Path
    environment: dict[str, str]
    store: S3Settings
    temporal_address: str
    habitat: Habitat
    workers: list[Child] = field(default_factory=list)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Site]:
        """The site, with clients of this event loop."""
        client = await connect(target_host=self.temporal_address, namespace="default")
        async with open_store(self.store) as truth:
            yield Site(
                self.place,
                self.bucket,
                self.root,
                self.folder,
                self.environment,
                StorageClient(client, place=self.place),
                client,
                truth,
                self.store,
                self.habitat,
                self.workers,
            )


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
    store: S3Settings
    habitat: Habitat
    workers: list[Child] = field(default_factory=list)

    def volume(self, workspace_id: str) -> Path:
        """The folder of a workspace's volume."""
        return self.habitat.folder(workspace_id)

    def key(self, workspace_id: str) -> str:
        """The volume's name."""
        return self.habitat.key(workspace_id)

    def workspace_id(self) -> str:
        """A new one."""
        return f"w{secrets.token_hex(5)}"

    def start_worker(self, **environment: str) -> Child:
        """A control worker as a process of its own. ``environment`` adds to the site's (a failpoint, say)."""
        return start_worker(self, **environment)

    def logs(self) -> str:
        """What all workers have written, for the message of a failed assertion."""
        return "\n".join(child.log.read_text(errors="replace") for child in self.workers if child.log.exists())


def start_worker(ground: Ground | Site, **environment: str) -> Child:
    """See ``Site.start_worker``."""
    name = f"worker-{len(ground.workers)}"
    child = ForkedWorker(
        name,
        log=ground.folder / f"{name}.log",
        pid_file=ground.folder / f"{name}.pid",
        environment={**os.environ, **ground.environment, **environment},
    )
    child.start()
    ground.workers.append(child)
    return child


async def prepare_ground(
    folder: Path,
    temporal_server: TemporalServer,
    seaweed: S3Server,
    *,
    versioned: bool = False,
    object_lock: bool = False,
    endpoint_url: str | None = None,
    time_scale: float = TIME_SCALE,
    **environment: str,
) -> Ground:
    """A new bucket and place, marked by `init`. Arguments: see ``open_site``."""
    place = f"p{secrets.token_hex(4)}"
    bucket = new_bucket(seaweed, versioned=versioned, object_lock=object_lock)
    root = folder / "volumes"
    habitat = new_habitat(root)
    folder.mkdir(parents=True, exist_ok=True)
    store = settings_of(seaweed, bucket)
    endpoint = endpoint_url or seaweed.endpoint_url
    values = {
        "CODEHUB_STORAGE_PLACE": place,
        "CODEHUB_STORAGE_BUCKET": bucket,
        "CODEHUB_STORAGE_S3_ENDPOINT": endpoint,
        "CODEHUB_STORAGE_S3_ACCESS_KEY": store.access_key or "",
        "CODEHUB_STORAGE_S3_SECRET_KEY": store.secret_key or "",
        "CODEHUB_STORAGE_SETTLE": "0",
        "CODEHUB_STORAGE_TIME_SCALE": str(time_scale),
        "CODEHUB_STORAGE_DATA_DIR": str(folder / "data"),
        "TEMPORAL_ADDRESS": temporal_server.address,
        "TEMPORAL_NAMESPACE": "default",
        "TMPDIR": str(scratch()),
        **{
            variable(name): str(value) for name, value in habitat.settings(endpoint_url or seaweed.endpoint_url).items()
        },
        **environment,
    }
    ground = Ground(place, bucket, root, folder, values, store, temporal_server.address, habitat)
    await mark_place(ground, place, habitat)
    return ground


async def mark_place(ground: Ground | Site, place: str, habitat: Habitat) -> None:
    """`init` of another place in the same bucket."""
    await initialize(
        Settings(
            place=place,
            bucket=ground.bucket,
            s3_endpoint=ground.store.endpoint_url,
            s3_access_key=ground.store.access_key,
            s3_secret_key=ground.store.secret_key,
            settle="0",
            **habitat.settings(ground.store.endpoint_url or ""),
        ),
        adopt=False,
    )


@asynccontextmanager
async def open_site(
    folder: Path,
    temporal_server: TemporalServer,
    seaweed: S3Server,
    *,
    versioned: bool = False,
    object_lock: bool = False,
    endpoint_url: str | None = None,
    time_scale: float = TIME_SCALE,
    **environment: str,
) -> AsyncIterator[Site]:
    """A marked site without a worker. ``endpoint_url``: a proxy's, for the workers only. ``environment``: settings,
    by their variables' full names. All workers are killed at the end."""
    ground = await prepare_ground(
        folder,
        temporal_server,
        seaweed,
        versioned=versioned,
        object_lock=object_lock,
        endpoint_url=endpoint_url,
        time_scale=time_scale,
        **environment,
    )
    async with ground.connected() as site:
        try:
            yield site
        finally:
            for worker in site.workers:
                worker.kill()


@asynccontextmanager
async def other_place(site: Site, folder: Path, temporal_server: TemporalServer) -> AsyncIterator[Site]:
    """A place of folders that shares the bucket of ``site``, with a Temporal of its own; without a worker."""
    habitat = DirectoryHabitat(folder / "volumes")
    place = f"q{secrets.token_hex(4)}"
    told = {"backend": "directory", **habitat.settings(site.store.endpoint_url or "")}
    values = {
        **site.environment,
        **{variable(name): str(value) for name, value in told.items()},
        "CODEHUB_STORAGE_PLACE": place,
        "CODEHUB_STORAGE_DATA_DIR": str(folder / "data"),
        "TEMPORAL_ADDRESS": temporal_server.address,
    }
    ground = Ground(place, site.bucket, habitat.root, folder, values, site.store, temporal_server.address, habitat)
    await mark_place(ground, place, habitat)
    async with ground.connected() as opened:
        try:
            yield opened
        finally:
            for worker in opened.workers:
                worker.kill()


@pytest.fixture(scope="session")
def common_ground(
    tmp_path_factory: pytest.TempPathFactory, temporal_server: TemporalServer, site_store: S3Server
) -> Iterator[Ground]:
    """One place with one worker for all tests that neither kill it nor need settings of their own."""
    ground = asyncio.run(prepare_ground(tmp_path_factory.mktemp("site") / "site", temporal_server, site_store))
    worker = start_worker(ground)
    yield ground
    worker.stop()


@pytest.fixture
async def common_site(common_ground: Ground) -> AsyncIterator[Site]:
    """The common place, with clients of this test. Take a workspace id of your own."""
    async with common_ground.connected() as site:
        yield site
