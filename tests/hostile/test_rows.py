"""Rows only grow: every hostile and fidelity row of commit 456c638, when the data plane was Python, is still there.

``rows-456c638.txt`` is what pytest collected then, parameters below their test. What has another name now is said here,
and why it is the same.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
ROWS = Path(__file__).with_name("rows-456c638.txt")
WALLS = "tests/hostile/test_walls.py::"
TABLE = "tests/hostile/test_table.py::test_it_ends_as_the_table_says"

RENAMED = {
    # The wall is `demanded` now; the same kernel must have it.
    "-required]": "-demanded]",
    # Such a link is left out and counted since whiteouts are restored; the table had called it corrupt before.
    "[hard link: to a device that was left out]": "[hard link: to a device that was left out is left out]",
    "[hard link: to a device that was left out-": "[hard link: to a device that was left out is left out-",
    # With Landlock and without it since then. Landlock alone is the archiver's, as below.
    "links_under_the_writers[small]": "links_under_the_writers[small-off]",
    "links_under_the_writers[large]": "links_under_the_writers[large-off]",
    "links_under_the_writers[long]": "links_under_the_writers[long-off]",
    "test_landlock_with_links_under_the_writers[a/new]": "test_beneath_with_links_under_the_writers[small-demanded]",
    "test_landlock_with_links_under_the_writers[a/victim]": (
        "test_beneath_with_links_under_the_writers[one that is there-demanded]"
    ),
}

BENEATH = (
    "archiver/src/beneath/tests.rs::an_unclean_name_is_refused_by_every_operation",
    "archiver/src/beneath/tests.rs::no_operation_goes_through_a_link",
    "archiver/src/beneath/tests.rs::a_link_at_the_end_is_not_followed",
)
LANDLOCK = ("archiver/tests/walls.rs::landlock_alone_keeps_all_inside",)
HARM = ("archiver/tests/walls.rs::without_walls_each_attempt_works",)

WITH_WALLS_DOWN = {
    "test_beneath_without_the_gate": BENEATH,
    "test_beneath_without_the_check_of_names": BENEATH,
    "test_beneath_with_links_first": BENEATH,
    "test_landlock_without_the_gate": LANDLOCK,
    "test_landlock_without_any_other_wall": LANDLOCK,
    "test_the_gate_alone_does_not_hold_against_links": HARM,
    "test_without_any_wall_these_cases_do_harm": HARM,
}
"""No wall of a program can be taken down from outside. Each such row's archive is still restored, with all walls and
without Landlock; what a wall holds alone is shown where the others are not in the way, in the archiver."""


def rows() -> list[str]:
    """Node ids as they were."""
    found: list[str] = []
    for line in ROWS.read_text().splitlines():
        if not line.startswith("  "):
            found.append(test := line)
            continue
        if found[-1] == test:
            found.pop()
        found.append(f"{test}[{line[2:]}]")
    return found


def today(row: str) -> list[str]:
    """What must be there for it."""
    for old, new in RENAMED.items():
        row = row.replace(old, new)
    test, _, case = row.removeprefix(WALLS).partition("[")
    if test not in WITH_WALLS_DOWN:
        return [row]
    return [f"{TABLE}[{case[:-1]}-{wall}]" for wall in ("demanded", "off") if case]


def collected() -> frozenset[str]:
    """What pytest finds now."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    found = subprocess.run([*command, "tests/hostile", "tests/fidelity"], cwd=TOP, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-2000:]
    return frozenset(found.stdout.splitlines())


@pytest.mark.slow
def test_no_row_is_lost() -> None:
    """By name; a row that is dropped, or renamed without a word here, fails this."""
    there = collected()
    assert [row for row in rows() if not there.issuperset(today(row))] == []


def test_the_list_is_whole() -> None:
    """As long as it was."""
    found = rows()
    assert len(found) == len(set(found)) == 2158


@pytest.mark.parametrize("name", sorted({name for names in WITH_WALLS_DOWN.values() for name in names}))
def test_what_shows_a_wall_alone_is_there(name: str) -> None:
    """In the archiver, as a test."""
    path, _, function = name.partition("::")
    assert re.search(rf"^ *#\[test\]\n *fn {function}\(", (TOP / path).read_text(), re.MULTILINE)


def test_every_name_that_changed_was_one() -> None:
    """Else the list of renamed ones would say what nobody needs."""
    assert [old for old in RENAMED if not any(old in row for row in rows())] == []
    names = {row.removeprefix(WALLS).partition("[")[0] for row in rows()}
    assert set(WITH_WALLS_DOWN) <= names
