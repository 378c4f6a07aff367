"""The S3 server of the session, and buckets and stores on it for single tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from activities.objectstore.client import S3Settings
from worker.dev.seaweed import Identity, Seaweed, free_ports

__all__ = ["Identity", "Seaweed", "free_ports", "new_bucket", "seaweed", "settings_of"]

READER = Identity("reader", ("Read", "List"))
"""May look, not write."""


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """One server for the whole session: make a bucket each, and start another where a test kills it."""
    server = Seaweed(tmp_path_factory.mktemp("seaweed") / "data", identities=[Identity("admin"), READER])
    server.start()
    yield server
    server.stop()


def new_bucket(server: Seaweed, *, versioned: bool = False, object_lock: bool = False) -> str:
    """A fresh, empty bucket; its name."""
    name = f"test-{secrets.token_hex(6)}"
    server.make_bucket(name, versioned=versioned, object_lock=object_lock)
    return name


def settings_of(
    server: Seaweed, bucket: str, *, endpoint_url: str | None = None, identity: Identity | None = None, **others: Any
) -> S3Settings:
    """Settings for a bucket of ``server``, past a proxy if its address is given."""
    who = identity or server.admin
    return S3Settings(
        bucket=bucket,
        endpoint_url=endpoint_url or server.endpoint_url,
        access_key=who.access_key,
        secret_key=who.secret_key,
        **{"addressing_style": "path", **others},
    )
