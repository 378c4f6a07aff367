"""Errors of an S3 server or its client library, translated one by one into our own codes, and nowhere else.

Messages name operation, key and the server's code. They never carry more of the server's or the library's text: such
text may quote a request, its signature, or the output of a program that hands out credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
    TokenRetrievalError,
)

from codehub_storage.errors import ErrorCode, StorageError

ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
NO_SUCH_ID = frozenset({"400", "BadRequest", "InvalidArgument", "InvalidVersionId"})
"""How stores refuse a version id that is none of theirs, and more that is wrong with a request."""

CONFLICT = frozenset({"PreconditionFailed", "412"})
NO_UPLOAD = frozenset({"NoSuchUpload"})
BAD_PARTS = frozenset({"InvalidPart", "InvalidPartOrder", "BadDigest", "XAmzContentChecksumMismatch"})

_BY_CODE: Mapping[str, ErrorCode] = {
    **dict.fromkeys(
        ("NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed", "301"),
        ErrorCode.WRONG_STORE,
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccountProblem",
            "AllAccessDisabled",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidToken",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "401",
            "403",
        ),
        ErrorCode.ACCESS_DENIED,
    ),
    "InvalidObjectState": ErrorCode.ARCHIVE_LOCKED,
    **dict.fromkeys(
        ("QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"),
        ErrorCode.NO_SPACE,
    ),
    "EntityTooLarge": ErrorCode.ARCHIVE_TOO_LARGE,
    **dict.fromkeys(("InvalidRange", "416"), ErrorCode.ARCHIVE_CORRUPT),
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "404"), ErrorCode.ARCHIVE_NOT_FOUND),
    **dict.fromkeys(
        (
            # Damaged on the way: the same bytes are sent again.
            "BadDigest",
            "IncompleteBody",
            "InvalidDigest",
            "XAmzContentChecksumMismatch",
            "XAmzContentSHA256Mismatch",
            # Not now.
            "ConditionalRequestConflict",
            "InternalError",
            "OperationAborted",
            "RequestTimeout",
            "ServiceUnavailable",
            "SlowDown",
            "SlowDownRead",
            "SlowDownWrite",
            "Throttling",
            "TooManyRequests",
            "409",
            "429",
        ),
        ErrorCode.STORE_UNAVAILABLE,
    ),
    "NotImplemented": ErrorCode.UNSUPPORTED,
}
_NO_CREDENTIALS = (CredentialRetrievalError, NoCredentialsError, PartialCredentialsError, TokenRetrievalError)
_CLOCK_HINT = "The clocks of this machine and of the object store differ too much; set them right."
_REGION_HINT = "The bucket is in another region, or does not exist: check its name and the region."
_TLS_HINT = "The store's certificate was refused: check the URL, the clock and the CA bundle."


@contextmanager
def translating(operation: str, bucket: str, key: str = "") -> Iterator[None]:
    """Raises a ``StorageError`` from whatever the client library raises inside; the two signals pass."""
    what = f"{operation} of {key!r} in bucket {bucket!r}" if key else f"{operation} of bucket {bucket!r}"
    try:
        yield
    except ClientError as error:
        raise _answered(what, error) from error
    except _NO_CREDENTIALS as error:
        # Not chained: the text of this cause may hold what a credential program printed.
        message = f"{what}: no credentials ({type(error).__name__})"
        raise StorageError(ErrorCode.ACCESS_DENIED, message) from None
    except (NoRegionError, ParamValidationError, ValueError) as error:
        raise StorageError(ErrorCode.INVALID_INPUT, f"{what}: {type(error).__name__}") from error
    except FlexibleChecksumError as error:
        message = f"{what}: the bytes do not have the stored checksum"
        raise StorageError(ErrorCode.ARCHIVE_CORRUPT, message) from error
    except SSLError as error:
        message = f"{what}: no trusted connection"
        raise StorageError(ErrorCode.STORE_UNAVAILABLE, message, hint=_TLS_HINT) from error
    except TimeoutError as error:
        raise StorageError(ErrorCode.STORE_UNAVAILABLE, f"{what}: no answer in time") from error
    except (BotoCoreError, aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as error:
        raise StorageError(ErrorCode.STORE_UNAVAILABLE, f"{what}: {type(error).__name__}") from error


def store_code(error: StorageError) -> str:
    """The server's own code behind ``error``; empty where there was no response."""
    return str(error.details.get("store_code", ""))


def unanswered(operation: str, key: str, why: str) -> StorageError:
    """The error for a response that looks like success and is none."""
    return StorageError(ErrorCode.STORE_UNAVAILABLE, f"{operation} of {key!r}: {why}")


def _answered(what: str, error: ClientError) -> StorageError:
    response: Mapping[str, Any] = error.response
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    details = {"store_code": code, "status": status}
    return StorageError(_code_of(code, status), f"{what}: {code or status}", hint=_hint_of(code), details=details)


def _code_of(code: str, status: int) -> ErrorCode:
    if code in _BY_CODE:
        return _BY_CODE[code]
    if str(status) in _BY_CODE:
        return _BY_CODE[str(status)]
    # An <Error> in a response 200 has no useful status; its unknown code may be anything, so try again.
    if (status >= 500 and status != 501) or status < 300:
        return ErrorCode.STORE_UNAVAILABLE
    return ErrorCode.UNSUPPORTED


def _hint_of(code: str) -> str | None:
    if code == "RequestTimeTooSkewed":
        return _CLOCK_HINT
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "301"):
        return _REGION_HINT
    return None
