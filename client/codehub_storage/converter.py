"""How contracts and errors cross Temporal: pydantic JSON, and one place that turns ``StorageError`` into a failure.

Client, worker, mover and replayer share this converter. An error that is no ``StorageError`` stays what it is: a bug.
"""

from __future__ import annotations

import dataclasses

from pydantic import ValidationError
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError, FailureError, TimeoutError, is_cancelled_exception

from codehub_storage.errors import ErrorCode, StorageError

_CODES = frozenset(code.value for code in ErrorCode)


class StorageFailureConverter(DefaultFailureConverter):
    """A code travels as the type of an application failure, hint and details as its details."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Fill ``failure``. What cannot be decoded or is not valid becomes ``InvalidInput``."""
        if isinstance(exception, ValidationError):
            exception = StorageError(ErrorCode.INVALID_INPUT, describe_validation(exception))
        if isinstance(exception, StorageError):
            cause = exception.__cause__
            exception = to_application_error(exception)
            exception.__cause__ = cause
        super().to_failure(exception, payload_converter, failure)


DATA_CONVERTER = dataclasses.replace(pydantic_data_converter, failure_converter_class=StorageFailureConverter)


def to_application_error(error: StorageError) -> ApplicationError:
    """The failure made from ``error``; only transient codes are tried again by a step itself."""
    return ApplicationError(
        error.message,
        {"hint": error.hint, **error.details},
        type=error.code.value,
        non_retryable=not error.transient,
    )


def describe_validation(error: ValidationError) -> str:
    """The faults of an input on one line, without the values (they may be anything)."""
    faults = (f"{'.'.join(map(str, fault['loc'])) or 'input'}: {fault['msg']}" for fault in error.errors())
    return "; ".join(faults)


def storage_error(error: BaseException, otherwise: ErrorCode = ErrorCode.UNKNOWN) -> StorageError:
    """The ``StorageError`` inside a Temporal failure.

    A time-out carries the failure of its last attempt; where that has none of our codes, the code is ``otherwise``.
    """
    current: BaseException | None = error
    timed_out = False
    while current is not None:
        if isinstance(current, StorageError):
            return current
        if isinstance(current, ApplicationError) and current.type in _CODES:
            details = dict(current.details[0]) if current.details and isinstance(current.details[0], dict) else {}
            hint = details.pop("hint", None)
            found = StorageError(ErrorCode(current.type), current.message, hint=hint, details=details)
            found.__cause__ = error
            return found
        timed_out = timed_out or isinstance(current, TimeoutError)
        current = current.cause if isinstance(current, FailureError) else current.__cause__
    if is_cancelled_exception(error):
        return StorageError(ErrorCode.CANCELLED, "the operation was cancelled")
    what = "a step did not answer in time" if timed_out else str(error)
    result = StorageError(otherwise, what)
    result.__cause__ = error
    return result
