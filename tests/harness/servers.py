"""The servers that we are tested on. A test that takes ``s3_server`` runs once on each S3 server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from activities.objectstore.base import Capabilities, ObjectStore
from activities.objectstore.identity import IDENTITY_KEY
from tests.harness.habitats import BACKEND
from tests.harness.minio import Minio, missing
from tests.harness.s3server import S3Server
from tests.harness.shared import Servers
from worker.dev.seaweed import Identity, Seaweed
from worker.dev.temporal import TemporalServer

__all__ = [
    "S3Server",
    "believing_nothing",
    "capabilities_of",
    "minio",
    "s3_server",
    "seaweed",
    "site_store",
    "store_admin",
    "temporal_server",
]


@pytest.fixture(scope="session")
def temporal_server(shared_servers: Servers) -> TemporalServer:
    """A real dev server with our search attributes; ``address`` is what a test's client connects to."""
    return shared_servers.temporal()


@pytest.fixture(scope="session")
def store_admin(shared_servers: Servers) -> Identity:
    """Whose keys all S3 servers of the run know."""
    return shared_servers.admin


@pytest.fixture(scope="session")
def seaweed(shared_servers: Servers) -> Seaweed:
    """Make a bucket each."""
    return shared_servers.seaweed()


@pytest.fixture(scope="session")
def minio(shared_servers: Servers) -> Minio:
    """Make a bucket each. Skipped where it cannot be built."""
    if reason := missing():
        pytest.skip(reason)
    return shared_servers.minio()


@pytest.fixture(scope="session", params=["seaweed", "minio"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """The run's server of each kind, as the fixture of its name. MinIO: skipped where it cannot be built."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def site_store(request: pytest.FixtureRequest) -> S3Server:
    """What whole operations archive to: SeaweedFS from folders, MinIO from containers."""
    server: S3Server = request.getfixturevalue("seaweed" if BACKEND == "directory" else "minio")
    return server


def capabilities_of(server: S3Server) -> Capabilities:
    """What `init` must find out about it. MinIO deletes in spite of If-Match."""
    return Capabilities(conditional_delete=not isinstance(server, Minio), full_object_crc=True)


@asynccontextmanager
async def believing_nothing(store: ObjectStore, wait_seconds: float) -> AsyncIterator[None]:
    """As if the store ignored If-Match on DELETE: what nobody saw answered is waited out, so many seconds."""
    data, info = await store.get(IDENTITY_KEY) or pytest.fail("the bucket was never marked")
    identity = json.loads(data)
    identity["capabilities"]["conditional_delete"] = False
    identity["delete_wait_seconds"] = wait_seconds
    changed = await store.put_if(IDENTITY_KEY, json.dumps(identity).encode(), etag=info.etag)
    try:
        yield
    finally:
        await store.put_if(IDENTITY_KEY, data, etag=changed.etag)
