"""`python -m tests.field`: has each fault that was seen in the field a test that passes? Exits 1 where one has none.

The same is asked of each test that docs/specification.md names: it must have passed in one suite, and failed in none.
Reads what the suites of `make test-all` have written (``tests.harness.fieldrows``). ``--table``: as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.harness.fieldrows import SPECIFICATION, right_values
from tests.harness.specification import named_tests, plain_name

FOLDER = Path(__file__).parents[1] / ".field"
Reports = Mapping[str, Mapping[str, Mapping[str, str]]]
"""By suite, then by row, then by node id: how that test ended there."""


def read_reports(folder: Path) -> Reports:
    """Each suite is a file of its name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


class Row:
    """What all suites say of one row."""

    def __init__(self, name: str, right_value: str, reports: Reports) -> None:
        self.name = name
        self.right_value = right_value
        ends = [
            (suite, test, end) for suite, rows in reports.items() for test, end in sorted(rows.get(name, {}).items())
        ]
        self.passed = [(suite, test) for suite, test, end in ends if end == "passed"]
        self.suites = list(dict.fromkeys(suite for suite, _ in self.passed))
        tests_passed = {test for _, test in self.passed}
        self.tests = list(dict.fromkeys(test.partition("[")[0] for _, test in self.passed))
        self.faults = [f"failed in {suite}: {test}" for suite, test, end in ends if end == "failed"]
        skipped = {test for _, test, end in ends if end == "skipped"} - tests_passed
        self.faults += [f"only skipped: {test}" for test in sorted(skipped)]
        if not self.passed:
            self.faults.append("no test of it has passed")


def not_shown(named: Iterable[str], reports: Reports) -> list[str]:
    """Tests of docs/specification.md that show nothing: failed in a suite, or passed in none. With the reason."""
    ends: dict[str, set[str]] = {}
    for rows in reports.values():
        for test, end in rows.get(SPECIFICATION, {}).items():
            ends.setdefault(plain_name(test), set()).add(end)
    found = {test: ends.get(test, set()) for test in sorted(named)}
    return [f"{_reason(each)}: {test}" for test, each in found.items() if "failed" in each or "passed" not in each]


def _reason(ends: set[str]) -> str:
    if "failed" in ends:
        return "failed"
    return "only skipped" if ends else "did not run"


def as_text(rows: Iterable[Row]) -> str:
    """A paragraph for each row."""
    lines = []
    for row in rows:
        lines.append(f"{row.name:4} {row.right_value}")
        lines.append(f"     {len(row.passed):4} passed in {', '.join(row.suites) or 'no suite'}")
        lines += [f"            {test}" for test in row.tests]
        lines += [f"    FAULT   {fault}" for fault in row.faults]
    return "\n".join(lines)


def as_table(rows: Iterable[Row]) -> str:
    """A Markdown table with a line for each row."""
    lines = ["| row | right is | passed | suites | tests |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [f"`{test}`" for test in row.tests] + [f"**{fault}**" for fault in row.faults]
        facts = (row.name, row.right_value, str(len(row.passed)), ", ".join(row.suites), "<br>".join(cells))
        lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print what there is; the exit code says whether it suffices."""
    parser = argparse.ArgumentParser(prog="python -m tests.field", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where the reports are")
    parser.add_argument("--table", action="store_true", help="Markdown")
    options = parser.parse_args(arguments)
    reports = read_reports(options.folder)
    rows = [Row(name, right_value, reports) for name, right_value in right_values().items()]
    print(as_table(rows) if options.table else as_text(rows))
    at_fault = [row.name for row in rows if row.faults]
    if at_fault:
        print(f"{len(at_fault)} of {len(rows)} rows are at fault: {' '.join(at_fault)}", file=sys.stderr)
    named = named_tests()
    missing = not_shown(named, reports)
    if missing:
        print(f"{len(missing)} of {len(named)} tests of docs/specification.md show nothing:", file=sys.stderr)
    for line in missing:
        print(f"    {line}", file=sys.stderr)
    return 1 if at_fault or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
