"""One connection to one bucket: settings, the configured client, and the one call through which all requests go.

A call is bounded in time (``timeouts``), sent twice at most, and its errors are ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

import aioboto3
import botocore.session
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.loaders import create_loader

from activities.objectstore import timeouts
from activities.objectstore.base import Capabilities
from activities.objectstore.errors import store_code, translating
from codehub_storage.errors import ErrorCode, StorageError

_MODELS = create_loader()
"""Of the service, as the library ships them: read once a process, not once a client, which takes 0.1 s."""


@dataclass(frozen=True)
class S3Settings:
    """Where the bucket is and how long to wait for it. Without keys the library's provider chain finds credentials.

    ``read_timeout``: the longest silence. ``slowest_upload``: bytes per second below which an upload is given up.
    ``max_pool``: connections; at least the number of requests that are made at once.
    """

    bucket: str
    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    verify: bool = True
    ca_bundle: str | None = None
    checksums: Literal["when_supported", "when_required"] = "when_supported"
    connect_timeout: timedelta = timeouts.CONNECT
    read_timeout: timedelta = timeouts.READ
    complete_timeout: timedelta = timeouts.COMPLETE
    slowest_upload: int = timeouts.SLOWEST_UPLOAD
    max_pool: int = 32

    def __post_init__(self) -> None:
        """``InvalidInput`` for an address that carries a user name or password: addresses end up in messages."""
        address = urlsplit(self.endpoint_url or "")
        if address.username is not None or address.password is not None:
            raise StorageError(ErrorCode.INVALID_INPUT, "the endpoint URL of the object store contains credentials")

    def scaled(self, factor: float) -> S3Settings:
        """The same with all timeouts multiplied."""
        return replace(
            self,
            connect_timeout=self.connect_timeout * factor,
            read_timeout=self.read_timeout * factor,
            complete_timeout=self.complete_timeout * factor,
            slowest_upload=max(1, round(self.slowest_upload / factor)),
        )

    @property
    def call_timeout(self) -> timedelta:
        """The longest that a call without a large body may take, its second attempt included."""
        return timeouts.ATTEMPTS * (self.connect_timeout + self.read_timeout) + timeouts.BACKOFF

    def upload_timeout(self, size_bytes: int) -> timedelta:
        """The longest that a call may take that sends ``size_bytes``."""
        return self.call_timeout + timedelta(seconds=size_bytes / self.slowest_upload)


class Connection:
    """An open client for one bucket."""

    def __init__(self, client: Any, settings: S3Settings, capabilities: Capabilities) -> None:
        self._client = client
        self.settings = settings
        self.capabilities = capabilities
        self.bucket = settings.bucket

    async def call(
        self, operation: str, *, key: str = "", timeout: timedelta | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """One request. Raises ``StorageError``; its ``store_code`` is the server's own code."""
        try:
            return await self._call(operation, key, timeout, parameters)
        except StorageError as error:
            if store_code(error) == "NoSuchBucket" and await self.has_bucket():
                raise StorageError(
                    ErrorCode.STORE_UNAVAILABLE,
                    f"{operation} of {key!r}: the store denies the bucket {self.bucket!r}, which exists",
                    details=error.details,
                ) from error
            raise

    async def has_bucket(self) -> bool:
        """Whether the bucket exists. Asked before an absent object is believed: HEAD does not distinguish the two."""
        try:
            await self._call("head_bucket", "", None, {})
        except StorageError as error:
            if store_code(error) in ("404", "NoSuchBucket"):
                return False
            raise
        return True

    async def check_bucket(self) -> None:
        """``WrongStore`` unless the bucket exists."""
        if not await self.has_bucket():
            raise StorageError(ErrorCode.WRONG_STORE, f"there is no bucket {self.bucket!r}")

    async def pages(
        self, operation: str, markers: Mapping[str, str], *, key: str = "", **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """The pages of a listing. ``markers``: request parameter by the field of the response that it is taken from.

        Ends where a server reports that there is more, but not from where (SeaweedFS, for uploads).
        """
        seen: list[dict[str, Any]] = []
        position: dict[str, Any] = {}
        while position not in seen:
            seen.append(position)
            page = await self.call(operation, key=key, **parameters, **position)
            yield page
            if not page.get("IsTruncated"):
                return
            position = {name: page[source] for source, name in markers.items() if page.get(source)}

    async def _call(
        self, operation: str, key: str, timeout: timedelta | None, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        named = {"Key": key, **parameters} if key else parameters
        limit = (timeout or self.settings.call_timeout).total_seconds()
        with translating(operation, self.bucket, key):
            async with asyncio.timeout(limit):
                answer: dict[str, Any] = await getattr(self._client, operation)(Bucket=self.bucket, **named)
                return answer


def read_models() -> None:
    """Read what every client needs. For a process that others are forked from: they then have it."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _MODELS)
    core.create_client("s3", region_name="us-east-1", aws_access_key_id="-", aws_secret_access_key="-")


@asynccontextmanager
async def connect(settings: S3Settings, capabilities: Capabilities) -> AsyncIterator[Connection]:
    """Opens a client and closes it with all its connections."""
    # At DEBUG these print signatures, session tokens and whole requests.
    for name in ("botocore", "aiobotocore", "aioboto3", "boto3"):
        logging.getLogger(name).setLevel(logging.INFO)
    core = get_session()
    core.register_component("data_loader", _MODELS)
    session = aioboto3.Session(
        botocore_session=core,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        aws_session_token=settings.session_token,
        region_name=settings.region,
    )
    with translating("open", settings.bucket):
        opening = session.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            verify=(settings.ca_bundle or True) if settings.verify else False,
            config=_config(settings, capabilities),
        )
        client = await opening.__aenter__()
    try:
        yield Connection(client, settings, capabilities)
    finally:
        await opening.__aexit__(None, None, None)


def _config(settings: S3Settings, capabilities: Capabilities) -> AioConfig:
    # `when_supported` would declare CRC32 for every upload; a store without our checksum gets none declared.
    checksums = settings.checksums if capabilities.full_object_crc else "when_required"
    # A checksum of the body is in a header, which is signed. To digest the body for the signature as well is one more
    # pass over it, here and at the store.
    is_body_signed = None if checksums == "when_required" else False
    return AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": settings.addressing_style, "payload_signing_enabled": is_body_signed},
        connect_timeout=settings.connect_timeout.total_seconds(),
        read_timeout=settings.read_timeout.total_seconds(),
        max_pool_connections=settings.max_pool,
        retries={"mode": "standard", "total_max_attempts": timeouts.ATTEMPTS},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )
