"""The S3 server of a run, and a bucket for each turn: a deleted bucket gives its room back, deleted objects may not."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.s3server import S3Server
from worker.dev.seaweed import Identity, Seaweed, plain_client

SHARED_MEMORY = Path("/dev/shm")
"""Where stores keep their data and restores go, so that no disk is measured."""
SERVER = "seaweed"
"""Its name in the report."""


@dataclass(frozen=True)
class Place:
    """A bucket, its address and who may use it. ``variables``: what clients must be told of this server."""

    endpoint_url: str
    identity: Identity
    bucket: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """What every tool of AWS's kind understands."""
        return {
            "AWS_ACCESS_KEY_ID": self.identity.access_key,
            "AWS_SECRET_ACCESS_KEY": self.identity.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            **self.variables,
        }


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in memory, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="codehub-storage-bench-", dir=SHARED_MEMORY) as folder:
        yield Path(folder)


@contextmanager
def store_server(folder: Path) -> Iterator[S3Server]:
    """The store that all are measured on, with its data in ``folder``."""
    server = Seaweed(folder / SERVER)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def new_place(server: S3Server, relay_url: str | None = None) -> Iterator[Place]:
    """A fresh bucket, emptied and deleted at the end. ``relay_url``: the address that clients are told instead."""
    place = Place(relay_url or server.endpoint_url, server.admin, f"bench-{secrets.token_hex(4)}")
    server.make_bucket(place.bucket)
    try:
        yield place
    finally:
        with contextlib.closing(server.client()) as client:
            for page in _pages(client, place.bucket):
                doomed = [{"Key": each["Key"]} for each in page]
                client.delete_objects(Bucket=place.bucket, Delete={"Objects": doomed, "Quiet": True})
            client.delete_bucket(Bucket=place.bucket)


def stored(place: Place) -> tuple[int, int]:
    """Objects in the bucket, and their bytes, as a listing tells."""
    with contextlib.closing(plain_client(place.identity, place.endpoint_url)) as client:
        sizes = [each["Size"] for page in _pages(client, place.bucket) for each in page]
    return len(sizes), sum(sizes)


def _pages(client: Any, bucket: str) -> Iterator[list[Any]]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if page.get("Contents"):
            yield page["Contents"]
