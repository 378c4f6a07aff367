"""docs/fidelity.md has a row for each case, says of us what the tests prove, and explains every difference."""

from __future__ import annotations

from tests.fidelity.case import NO, YES
from tests.fidelity.cases import CASES
from tests.fidelity.page import OTHERS, PAGE, noted, rows

ROWS = rows(PAGE.read_text())


def test_its_rows_are_the_cases() -> None:
    """In order, with our own cell as the case has it, and one of each other tool; to write them: `make fidelity`."""
    assert [row[:2] for row in ROWS] == [[case.title, case.ours] for case in CASES]
    assert len({case.title for case in CASES}) == len(CASES)
    for row in ROWS:
        assert len(row) == 2 + len(OTHERS)
        assert set(row[2:]) <= {YES, NO, "fails"}


def test_every_difference_has_its_note() -> None:
    """And no note is about a row that is the same for all, or that is gone."""
    assert noted(PAGE.read_text()) == {row[0] for row in ROWS if set(row[1:]) != {YES}}
