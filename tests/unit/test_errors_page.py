"""docs/errors.md says what the code says, and names a test that really raises each code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codehub_storage.errors import FACTS, ErrorCode

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"\| `(\w+)` \| (yes|no) \| (yes|no) \| (.+) \| `(tests/[\w/]+\.py)` \|")
ROWS = {row[1]: row for row in ROW.finditer((ROOT / "docs/errors.md").read_text())}


def test_every_code_has_its_row_and_no_other() -> None:
    """The page and the closed list name the same codes."""
    assert set(ROWS) == {code.value for code in ErrorCode}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_row_says_what_the_code_says(code: ErrorCode) -> None:
    """Retryable and transient as in the table of facts; the named test compares with this very code."""
    row, facts = ROWS[code.value], FACTS[code]
    assert (row[2] == "yes", row[3] == "yes") == (facts.retryable, facts.transient)
    assert f"ErrorCode.{code.name}" in (ROOT / row[5]).read_text()
