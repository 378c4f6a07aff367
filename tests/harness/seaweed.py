"""Buckets and stores on an S3 server for single tests."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from activities.objectstore.base import Capabilities
from activities.objectstore.client import S3Settings
from activities.objectstore.s3 import S3Store, open_store
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.s3server import S3Server
from worker.dev.seaweed import Identity, Seaweed, free_ports

__all__ = [
    "Hostile",
    "Identity",
    "Seaweed",
    "free_ports",
    "hostile_store",
    "new_bucket",
    "reader_of",
    "settings_of",
]


def reader_of(server: Seaweed) -> Identity:
    """Who may look at the buckets of the run's server, not write."""
    [_, reader] = server.identities
    return reader


def new_bucket(server: S3Server, *, versioned: bool = False, object_lock: bool = False) -> str:
    """A fresh, empty bucket; its name."""
    name = f"test-{secrets.token_hex(6)}"
    server.make_bucket(name, versioned=versioned, object_lock=object_lock)
    return name


def settings_of(
    server: S3Server, bucket: str, *, endpoint_url: str | None = None, identity: Identity | None = None, **others: Any
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


@dataclass(frozen=True)
class Hostile:
    """``store`` reaches the server past ``proxy``, with short timeouts; ``truth`` reaches it directly."""

    store: S3Store
    proxy: S3Proxy
    truth: S3Store


@asynccontextmanager
async def hostile_store(
    server: S3Server, bucket: str, *, capabilities: Capabilities | None = None, **others: Any
) -> AsyncIterator[Hostile]:
    """A store behind a proxy of its own. ``others`` are settings."""
    short: dict[str, Any] = {"connect_timeout": timedelta(seconds=2), "read_timeout": timedelta(seconds=2), **others}
    async with (
        S3Proxy(server.ports[0]) as proxy,
        open_store(settings_of(server, bucket, endpoint_url=proxy.endpoint_url, **short), capabilities) as store,
        open_store(settings_of(server, bucket)) as truth,
    ):
        yield Hostile(store, proxy, truth)
