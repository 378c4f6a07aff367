"""docs/fidelity.md as a table: what the script writes, and what the test reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fidelity.cases import CASES

PAGE = Path(__file__).parents[2] / "docs/fidelity.md"
OTHERS = ("`tar czf`", "`tar --xattrs --acls`", "`tar`, all options", "`restic`", "`docker cp -a`")
_BEGIN, _END = "<!-- begin: written by `make fidelity` -->\n", "<!-- end -->\n"
_HEAD = ("", "codehub-storage", *OTHERS)
_ROW = re.compile(r"\| (.+) \|")


def replaced(page: str, cells: Mapping[str, Sequence[str]], versions: str) -> str:
    """The page with another table: ``cells`` are those of ``OTHERS``, by the title of the row."""
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    lines += [_line([case.title, case.ours, *cells[case.title]]) for case in CASES]
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    return before + _BEGIN + "".join(lines) + f"\nWith {versions}.\n" + _END + after


def rows(page: str) -> list[list[str]]:
    """The table's rows, title first."""
    table = page.split(_BEGIN)[1].split(_END)[0]
    found = [row[1].split(" | ") for row in _ROW.finditer(table)]
    return found[2:]


def noted(page: str) -> set[str]:
    """Titles of the rows that have a note: the bold words at the start of an item, separated by semicolons."""
    return {title for item in re.finditer(r"^- \*\*(.+?)\*\*", page, re.MULTILINE) for title in item[1].split("; ")}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
