"""What a failure says of the home: for each operation and code one sentence, and none that promises too much."""

from __future__ import annotations

import itertools

import pytest

from codehub_storage.contracts import Operation
from codehub_storage.errors import ErrorCode
from worker.cli.safety import what_is_safe

ALL = list(itertools.product(Operation, ErrorCode))


@pytest.mark.parametrize(("operation", "code"), ALL, ids=lambda each: each.value)
def test_a_failure_is_told_by_whether_anything_was_started(operation: Operation, code: ErrorCode) -> None:
    """Of a run it says what that did, else that there is none, or whose goes on. It stands behind a label."""
    run, none = (what_is_safe(operation, code, started=started) for started in (True, False))
    assert "nothing was started" not in run
    assert ("goes on" if code == ErrorCode.OPERATION_IN_PROGRESS else "nothing was started") in none
    assert not run.endswith(".")


def test_only_who_has_seen_the_volume_calls_it_intact() -> None:
    """An archive may be called again when its volume is gone, and then fail of the store; a purge removes it itself."""
    for code in (ErrorCode.STORE_UNAVAILABLE, ErrorCode.ARCHIVE_UNPROVEN, ErrorCode.VOLUME_NOT_FOUND):
        assert "intact" not in what_is_safe(Operation.ARCHIVE, code, started=True)
    for code in ErrorCode:
        assert "intact" not in what_is_safe(Operation.PURGE, code, started=True)


def test_what_was_not_started_touched_nothing() -> None:
    """Also where the code would say more of a run."""
    assert what_is_safe(Operation.ARCHIVE, ErrorCode.BACKEND_UNAVAILABLE, started=False) == "nothing was started"
    assert "goes on" in what_is_safe(Operation.ARCHIVE, ErrorCode.OPERATION_IN_PROGRESS, started=False)
