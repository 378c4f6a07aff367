"""Faults that were seen in the field: which rows of tests/field.txt a run has tests for, and how these ended.

``@pytest.mark.field("D1")`` says that a test shows the right value of that row. The tests that docs/specification.md
names are reported too, under a row of their own. ``python -m tests.field`` reads what the runs of all suites have
written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.harness.specification import named_tests, plain_name

LISTED = Path(__file__).parents[1] / "field.txt"
REPORT = "STORAGE_TESTS_FIELD_REPORT"
"""The file that a run writes: for each row its tests, by node id, each with ``passed``, ``failed`` or ``skipped``."""
SPECIFICATION = "specification"
"""The row of the tests that docs/specification.md names; no marker can name it."""
_KEY = "field"
Collected = pytest.Item | pytest.Collector | list[pytest.Item | pytest.Collector] | None


def right_values() -> dict[str, str]:
    """What is right for each row that must have a passing test, in the order of the list."""
    lines = (line.partition(" ") for line in LISTED.read_text().splitlines())
    return {row: sentence.strip() for row, _, sentence in lines}


def listed() -> list[str]:
    """The names of these rows."""
    return list(right_values())


class FieldRows:
    """A plugin. A marker that names no row of the list is an error of the module in which it stands."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, str]] = {}
        self._named = named_tests()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pycollect_makeitem(self, collector: pytest.Collector) -> Generator[None, Collected, Collected]:
        """Have each report bear the rows of its test: those of xdist's workers reach the session by their reports."""
        made = yield
        for item in made if isinstance(made, list) else [made]:
            if isinstance(item, pytest.Item):
                item.user_properties += [(_KEY, row) for row in _rows_of(item, collector)]
        return made

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The worst of a test's phases counts: one that fails as it is taken down has not passed."""
        if report.when != "call" and report.passed:
            return
        rows = [str(value) for key, value in report.user_properties if key == _KEY]
        if plain_name(report.nodeid) in self._named:
            rows.append(SPECIFICATION)
        for row in rows:
            tests = self._rows.setdefault(row, {})
            if tests.get(report.nodeid) != "failed":
                tests[report.nodeid] = report.outcome

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write what this run has found, even if that is nothing, where it was asked for."""
        path = os.environ.get(REPORT)
        if path and not hasattr(session.config, "workerinput"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(json.dumps(self._rows, indent=1, sort_keys=True))


def _rows_of(item: pytest.Item, collector: pytest.Collector) -> list[str]:
    known, found = listed(), list[str]()
    for mark in item.iter_markers("field"):
        unknown = [row for row in mark.args if row not in known]
        if unknown or not mark.args:
            raise collector.CollectError(f"{item.nodeid} is marked with {unknown or 'no row'}, see {LISTED.name}")
        found += mark.args
    return list(dict.fromkeys(found))
