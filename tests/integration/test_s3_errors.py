"""What servers and networks say, as our codes; and what never appears in a message or a log."""

from __future__ import annotations

import asyncio
import logging
import secrets
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from activities.objectstore.base import ARCHIVE_ID, ObjectStore, UploadedPart
from activities.objectstore.client import S3Settings
from activities.objectstore.s3 import open_store
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.s3_faults import Hold, Reply, Silence
from tests.harness.refusals import code_of
from tests.harness.seaweed import (
    Hostile,
    Identity,
    Seaweed,
    free_ports,
    hostile_store,
    new_bucket,
    reader_of,
    settings_of,
)

PART = UploadedPart(1, 1, "0" * 32, bytes(8))
CALLS: dict[str, Callable[[ObjectStore], Awaitable[object]]] = {
    "head": lambda store: store.head("k"),
    "get": lambda store: store.get("k"),
    "put_if": lambda store: store.put_if("k", b"x", etag=None),
    "read": lambda store: anext(store.read("k", etag="0" * 32)),
    "delete": lambda store: store.delete("k"),
    "list_versions": lambda store: store.list_versions("k"),
    "list_keys": lambda store: store.list_keys(""),
    "is_versioned": lambda store: store.is_versioned(),
    "create_upload": lambda store: store.create_upload("k", {ARCHIVE_ID: "a"}),
    "upload_part": lambda store: store.upload_part("k", "0" * 32, 1, [b"x"]),
    "list_parts": lambda store: store.list_parts("k", "0" * 32),
    "complete_upload": lambda store: store.complete_upload("k", "0" * 32, [PART], archive_id="a"),
    "abort_upload": lambda store: store.abort_upload("k", "0" * 32),
    "list_uploads": lambda store: store.list_uploads("k"),
}
WRITES = ("put_if", "delete", "create_upload", "upload_part", "abort_upload")


@pytest.fixture(scope="module")
def bucket(seaweed: Seaweed) -> str:
    """A bucket for this file."""
    return new_bucket(seaweed)


@pytest.fixture
async def hostile(seaweed: Seaweed, bucket: str) -> AsyncIterator[Hostile]:
    """A store behind a proxy."""
    soon = timedelta(seconds=0.3)
    async with hostile_store(seaweed, bucket, read_timeout=soon) as hostile:
        yield hostile


@pytest.mark.parametrize("name", CALLS)
async def test_wrong_bucket(seaweed: Seaweed, name: str) -> None:
    """A bucket that does not exist is the wrong store, never an absent object."""
    async with open_store(settings_of(seaweed, "no-such-bucket")) as store:
        assert await code_of(CALLS[name](store)) == ErrorCode.WRONG_STORE


@pytest.mark.parametrize("name", CALLS)
async def test_wrong_secret(seaweed: Seaweed, bucket: str, name: str) -> None:
    """A wrong secret is told as such by every call."""
    wrong = Identity("wrong", access_key=seaweed.admin.access_key)
    async with open_store(settings_of(seaweed, bucket, identity=wrong)) as store:
        assert await code_of(CALLS[name](store)) == ErrorCode.ACCESS_DENIED


@pytest.mark.parametrize("name", WRITES)
async def test_rights_to_read_only(seaweed: Seaweed, bucket: str, name: str) -> None:
    """Credentials that may only read are refused by every write."""
    async with open_store(settings_of(seaweed, bucket, identity=reader_of(seaweed))) as store:
        assert await code_of(CALLS[name](store)) == ErrorCode.ACCESS_DENIED


@pytest.mark.parametrize("name", CALLS)
async def test_unreachable(bucket: str, name: str) -> None:
    """A store that is not there is unavailable, never empty."""
    settings = S3Settings(
        bucket=bucket, endpoint_url=f"http://127.0.0.1:{free_ports(1)[0]}", access_key="a", secret_key="b"
    )
    async with open_store(settings) as store:
        assert await code_of(CALLS[name](store)) == ErrorCode.STORE_UNAVAILABLE


@pytest.mark.parametrize("name", CALLS)
async def test_silent(hostile: Hostile, name: str) -> None:
    """A store that never answers is unavailable, on every call."""
    hostile.proxy.add(Silence(times=None), lambda exchange: True)
    assert await code_of(CALLS[name](hostile.store)) == ErrorCode.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (400, "BadDigest", ErrorCode.STORE_UNAVAILABLE),
        (400, "RequestTimeout", ErrorCode.STORE_UNAVAILABLE),
        (409, "OperationAborted", ErrorCode.STORE_UNAVAILABLE),
        (429, "TooManyRequests", ErrorCode.STORE_UNAVAILABLE),
        (500, "InternalError", ErrorCode.STORE_UNAVAILABLE),
        (502, None, ErrorCode.STORE_UNAVAILABLE),
        (503, "SlowDown", ErrorCode.STORE_UNAVAILABLE),
        (503, "NeverHeardOf", ErrorCode.STORE_UNAVAILABLE),
        (403, "AccessDenied", ErrorCode.ACCESS_DENIED),
        (403, "ExpiredToken", ErrorCode.ACCESS_DENIED),
        (403, "InvalidAccessKeyId", ErrorCode.ACCESS_DENIED),
        (403, "RequestTimeTooSkewed", ErrorCode.ACCESS_DENIED),
        (403, "SignatureDoesNotMatch", ErrorCode.ACCESS_DENIED),
        (403, "NeverHeardOf", ErrorCode.ACCESS_DENIED),
        (403, "InvalidObjectState", ErrorCode.ARCHIVE_LOCKED),
        (403, "QuotaExceeded", ErrorCode.NO_SPACE),
        (507, "XMinioStorageFull", ErrorCode.NO_SPACE),
        (507, None, ErrorCode.NO_SPACE),
        (400, "EntityTooLarge", ErrorCode.ARCHIVE_TOO_LARGE),
        (400, "AuthorizationHeaderMalformed", ErrorCode.WRONG_STORE),
        (400, "InvalidArgument", ErrorCode.UNSUPPORTED),
        (501, "NotImplemented", ErrorCode.UNSUPPORTED),
    ],
)
async def test_answers(hostile: Hostile, status: int, answer: str | None, code: ErrorCode) -> None:
    """Each answer has its code."""
    hostile.proxy.add(Reply(times=None, status=status, code=answer), lambda exchange: True)
    assert await code_of(hostile.store.create_upload("k", {})) == code


async def test_frozen_object(hostile: Hostile) -> None:
    """An object in a cold class is locked, and the condition of the read does not hide that."""
    hostile.proxy.add(Reply(times=None, status=403, code="InvalidObjectState"), lambda exchange: True)
    assert await code_of(hostile.store.get("k")) == ErrorCode.ARCHIVE_LOCKED


async def test_bucket_denied_although_it_exists(hostile: Hostile) -> None:
    """A store that denies a bucket which exists (as one does while it starts) is unavailable, not the wrong one."""
    hostile.proxy.add(Reply(times=None, status=404, code="NoSuchBucket"), lambda exchange: exchange.method != "HEAD")
    assert await code_of(hostile.store.put_if("k", b"x", etag=None)) == ErrorCode.STORE_UNAVAILABLE
    assert await code_of(hostile.store.create_upload("k", {})) == ErrorCode.STORE_UNAVAILABLE


async def test_locked_version(seaweed: Seaweed) -> None:
    """A version under retention or legal hold is locked; one that we may not delete otherwise is denied."""
    name = new_bucket(seaweed, object_lock=True)
    client = seaweed.client()
    until = datetime.now(UTC) + timedelta(seconds=60)
    async with open_store(settings_of(seaweed, name)) as store:
        kept = await store.put_if("kept", b"x", etag=None)
        held = await store.put_if("held", b"x", etag=None)
        retention = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
        client.put_object_retention(Bucket=name, Key="kept", VersionId=kept.version_id, Retention=retention)
        hold = {"Status": "ON"}
        client.put_object_legal_hold(Bucket=name, Key="held", VersionId=held.version_id, LegalHold=hold)
        client.close()
        assert await code_of(store.delete("kept", version_id=kept.version_id)) == ErrorCode.ARCHIVE_LOCKED
        assert await code_of(store.delete("held", version_id=held.version_id)) == ErrorCode.ARCHIVE_LOCKED
        free = await store.put_if("free", b"x", etag=None)
        async with open_store(settings_of(seaweed, name, identity=reader_of(seaweed))) as reader:
            assert await code_of(reader.delete("free", version_id=free.version_id)) == ErrorCode.ACCESS_DENIED


async def test_cancelled_call_is_cancelled(hostile: Hostile) -> None:
    """Cancelling a call is not turned into an error of the store."""
    held = hostile.proxy.add(Hold(), lambda exchange: True)
    call = asyncio.create_task(hostile.store.head("k"))
    await held.reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_credentials_never_appear(seaweed: Seaweed, bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    """No key, secret, token or signature is in an error, its causes or a log line, at any level."""
    caplog.set_level(logging.DEBUG)
    secret, token = secrets.token_hex(20), secrets.token_hex(30)
    texts: list[str] = []
    wrong = Identity("wrong", access_key=seaweed.admin.access_key, secret_key=secret)
    settings = settings_of(seaweed, bucket, identity=wrong, session_token=token)
    async with open_store(settings) as store:
        for call in CALLS.values():
            with pytest.raises(StorageError) as raised:
                await call(store)
            texts += [*traceback.format_exception(raised.value), repr(raised.value.details)]
    texts += [caplog.text, repr(settings)]
    assert len(texts) > len(CALLS)
    for text in texts:
        for forbidden in (secret, token, seaweed.admin.access_key, "Signature=", "X-Amz-Signature"):
            assert forbidden not in text


async def test_no_credentials_at_all(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the provider chain finds nothing, it is access that is missing, and retrying is no use."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    async with open_store(S3Settings(bucket="b", endpoint_url=seaweed.endpoint_url)) as store:
        assert await code_of(store.head("k")) == ErrorCode.ACCESS_DENIED


def test_credentials_in_the_address() -> None:
    """An address with user and password is refused, since addresses appear in messages."""
    with pytest.raises(StorageError) as raised:
        S3Settings(bucket="b", endpoint_url="http://user:pw@127.0.0.1:1")
    assert raised.value.code == ErrorCode.INVALID_INPUT
    assert "pw" not in str(raised.value)


def test_scaled_timeouts() -> None:
    """One factor shortens every wait, that of an upload too."""
    settings = S3Settings(bucket="b")
    scaled = settings.scaled(0.1)
    assert scaled.call_timeout < settings.call_timeout
    assert scaled.complete_timeout == settings.complete_timeout * 0.1
    assert scaled.upload_timeout(10**9) < settings.upload_timeout(10**9) * 0.2
