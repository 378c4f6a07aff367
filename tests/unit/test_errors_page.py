"""docs/errors.md tells of each code what an operator needs; and a test somewhere really raises each code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codehub_storage.errors import FACTS, ErrorCode

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/errors.md").read_text()
ENTRIES = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PARTS = ("**Safe:** ", "**What happened:** ", "**What to do:** ")
RAISED_IN = {
    ErrorCode.OPERATION_IN_PROGRESS: "integration/test_client.py",
    ErrorCode.INVALID_INPUT: "integration/test_client.py",
    ErrorCode.NOT_YOURS: "unit/test_record.py",
    ErrorCode.WRONG_STORE: "integration/test_wrong_place.py",
    ErrorCode.STORE_UNAVAILABLE: "integration/test_s3_lost_answers.py",
    ErrorCode.ACCESS_DENIED: "integration/test_s3_errors.py",
    ErrorCode.VOLUME_NOT_FOUND: "integration/test_transitions.py",
    ErrorCode.VOLUME_LOST: "integration/test_lost.py",
    ErrorCode.VOLUME_IN_USE: "integration/test_purge.py",
    ErrorCode.VOLUME_UNREADABLE: "fidelity/test_unreadable.py",
    ErrorCode.VOLUME_CHANGED: "unit/dataplane/test_copy.py",
    ErrorCode.VOLUME_CONFLICT: "integration/test_lineage.py",
    ErrorCode.LINEAGE_CONFLICT: "integration/test_lineage.py",
    ErrorCode.ARCHIVE_NOT_FOUND: "integration/test_retention.py",
    ErrorCode.ARCHIVE_UNPROVEN: "integration/test_codes.py",
    ErrorCode.ARCHIVE_CORRUPT: "integration/test_codes.py",
    ErrorCode.ARCHIVE_TOO_LARGE: "unit/dataplane/test_plan.py",
    ErrorCode.ARCHIVE_LOCKED: "integration/test_s3_errors.py",
    ErrorCode.NO_SPACE: "local/test_restore_own.py",
    ErrorCode.BACKEND_UNAVAILABLE: "integration/test_client.py",
    ErrorCode.MOVER_FAILED: "contract/test_volume_backend.py",
    ErrorCode.UNSUPPORTED: "integration/test_s3_identity.py",
    ErrorCode.PURGE_INCOMPLETE: "integration/test_codes.py",
    ErrorCode.CANCELLED: "integration/test_codes.py",
    ErrorCode.UNKNOWN: "unit/client/test_errors.py",
}


def test_every_code_has_its_entry_and_no_other() -> None:
    """In the order of the closed list, and so of the table above them, which is generated."""
    assert list(ENTRIES) == [code.value for code in FACTS] == [code.value for code in ErrorCode]


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_entry_says_what_is_safe_what_happened_and_what_to_do(code: ErrorCode) -> None:
    """All three, in this order: who reads it has a failure before him, and wants to know first what is lost."""
    places = [ENTRIES[code.value].find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)


def test_commands_in_the_entries_exist() -> None:
    """What an operator is told to type, the parser knows."""
    from worker.cli.parser import build_parser

    typed = {line.split("#")[0].split()[1] for line in PAGE.splitlines() if line.startswith("codehub-storage ")}
    commands = build_parser().format_help()
    assert typed
    assert [each for each in sorted(typed) if not re.search(rf"^    {each} ", commands, re.MULTILINE)] == []


@pytest.mark.parametrize("code", list(ErrorCode))
def test_each_code_is_really_raised(code: ErrorCode) -> None:
    """The named test compares with this very code."""
    assert f"ErrorCode.{code.name}" in (ROOT / "tests" / RAISED_IN[code]).read_text()
