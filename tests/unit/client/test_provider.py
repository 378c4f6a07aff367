"""The docstrings of ``StorageProvider`` name the codes that each call may raise."""

from __future__ import annotations

import inspect
import re

import pytest

from codehub_storage.contracts import Operation
from codehub_storage.errors import ErrorCode
from codehub_storage.provider import StorageProvider
from tests.unit.test_errors_page import ENTRIES
from worker.cli import safety

CALLS = [each.value for each in Operation]


def codes_of(documented: object) -> set[str]:
    """What stands under `Raises: StorageError`."""
    text = inspect.getdoc(documented) or ""
    _, heading, raised = text.partition("Raises:\n    StorageError: ")
    assert heading, text
    return {word for word in re.findall(r"``(\w+)``", raised) if word[0].isupper()}


COMMON = codes_of(StorageProvider)
NAMED = {call: codes_of(getattr(StorageProvider, call)) for call in CALLS}


@pytest.mark.parametrize("call", CALLS)
def test_every_name_is_a_code_with_an_entry(call: str) -> None:
    """docs/errors.md has an entry for each; a name that is misspelled or gone fails here."""
    assert sorted((COMMON | NAMED[call]) - ENTRIES.keys()) == []


def test_every_code_is_named_somewhere() -> None:
    """A new code is told to those who call."""
    assert COMMON.union(*NAMED.values()) == {code.value for code in ErrorCode}


@pytest.mark.parametrize("operation", list(Operation))
def test_what_the_command_line_tells_of_an_operation_is_named(operation: Operation) -> None:
    """Of each such code it says what is safe then."""
    assert {code.value for code in safety._BY_OPERATION[operation]} <= COMMON | NAMED[operation.value]
