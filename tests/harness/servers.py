"""The S3 servers that we are tested on. A test that takes ``s3_server`` runs once on each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from activities.objectstore.base import Capabilities, ObjectStore
from activities.objectstore.identity import IDENTITY_KEY
from tests.harness.habitats import BACKEND
from tests.harness.minio import Minio
from tests.harness.s3server import S3Server

__all__ = ["S3Server", "believing_nothing", "capabilities_of", "s3_server", "site_store"]


@pytest.fixture(scope="session", params=["seaweed", "minio"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """The session's server of each kind, as the fixture of its name. MinIO: skipped where it cannot be built."""
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
