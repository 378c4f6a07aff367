"""The table of codes is whole, and errors survive the wire."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError, FailureError

from codehub_storage.contracts import ArchiveInput
from codehub_storage.converter import DATA_CONVERTER, storage_error
from codehub_storage.errors import FACTS, ErrorCode, StorageError


def over_the_wire(error: BaseException) -> BaseException:
    """What the other side gets."""
    failure = Failure()
    converter, payloads = DATA_CONVERTER.failure_converter, DATA_CONVERTER.payload_converter
    converter.to_failure(error, payloads, failure)
    return converter.from_failure(failure, payloads)


def test_every_code_has_its_facts() -> None:
    """What is tried again by itself may be called again too."""
    assert set(FACTS) == set(ErrorCode)
    for facts in FACTS.values():
        assert facts.hint.endswith(".")
        assert facts.retryable or not facts.transient


@pytest.mark.parametrize(
    ("code", "may_help"),
    [
        (ErrorCode.STORE_UNAVAILABLE, True),
        (ErrorCode.BACKEND_UNAVAILABLE, True),
        (ErrorCode.NO_SPACE, True),
        (ErrorCode.VOLUME_UNREADABLE, True),
        (ErrorCode.VOLUME_IN_USE, True),
        (ErrorCode.PURGE_INCOMPLETE, True),
        (ErrorCode.ARCHIVE_CORRUPT, False),
        (ErrorCode.ARCHIVE_NOT_FOUND, False),
        (ErrorCode.LINEAGE_CONFLICT, False),
    ],
)
def test_the_caller_is_told_when_a_retry_can_help(code: ErrorCode, may_help: bool) -> None:
    """The failure rules that reconcilers rely on: what is out of reach may come back, corrupt data does not heal."""
    assert StorageError(code, "what happened").retryable is may_help


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_survives_the_wire(code: ErrorCode) -> None:
    """Code, message, hint and details arrive; only transient codes are tried again by the server."""
    sent = StorageError(code, "what happened", hint="what to do", details={"users": ["pid 7"]})
    arrived = over_the_wire(sent)
    assert isinstance(arrived, ApplicationError)
    assert arrived.non_retryable is not FACTS[code].transient
    found = storage_error(arrived)
    assert (found.code, found.message, found.hint, found.details) == (code, "what happened", "what to do", sent.details)


def test_what_cannot_be_decoded_is_invalid_input() -> None:
    """A validation error becomes InvalidInput, names the field, and does not repeat the value."""
    with pytest.raises(ValidationError) as refused:
        ArchiveInput.model_validate({"workspace_id": 7, "place": "SECRET"})
    found = storage_error(over_the_wire(refused.value))
    assert found.code == ErrorCode.INVALID_INPUT
    assert "workspace_id" in found.message
    assert "SECRET" not in found.message


def test_a_newer_code_is_unknown_not_lost() -> None:
    """A client that is older than the service still shows what it was told."""
    found = StorageError.from_type("SomethingNew", "text")
    assert (found.code, found.message) == (ErrorCode.UNKNOWN, "SomethingNew: text")


def test_a_bug_is_no_storage_error() -> None:
    """An exception that is not ours keeps its type over the wire."""
    arrived = over_the_wire(KeyError("x"))
    assert isinstance(arrived, FailureError)
    assert storage_error(arrived).code == ErrorCode.UNKNOWN
