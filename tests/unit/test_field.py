"""What a run writes about the rows of tests/field.txt, and what is made of it: no row without a test that passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.field import Row, as_table, main, not_shown
from tests.harness.fieldrows import LISTED, REPORT, SPECIFICATION, listed, right_values
from tests.harness.specification import named_tests

TOP = Path(__file__).parents[2]
CONFTEST = """
from tests.harness.fieldrows import FieldRows
def pytest_configure(config):
    config.addinivalue_line("markers", "field(*rows): as ours")
    config.pluginmanager.register(FieldRows())
"""
MODULE = """
import pytest
pytestmark = pytest.mark.field("D1")

@pytest.fixture
def torn():
    yield
    assert False

@pytest.fixture
def absent():
    pytest.skip("not here")

@pytest.mark.field("D2", "D1")
def test_passes(): pass

@pytest.mark.parametrize("at", [1, pytest.param(2, marks=pytest.mark.field("D3"))])
def test_each(at): pass

@pytest.mark.asyncio
async def test_later(): pass

class TestInside:
    def test_fails(self): assert False

def test_torn(torn): pass
def test_absent(absent): pass

@pytest.mark.xfail(strict=True)
def test_known(): assert False
"""


ALL_NAMED = dict.fromkeys(named_tests(), "passed")
"""The row of the tests that docs/specification.md names, where all is well."""


def run(folder: Path, module: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """pytest on one module, with nothing of ours but the plugin; and where it was told to report."""
    report = folder / "reports/suite.json"
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(module)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    path = os.pathsep.join(map(str, (TOP, TOP / "client")))
    environment = {**os.environ, "PYTHONPATH": path, REPORT: str(report)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done, report


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "with workers"])
def test_a_run_writes_how_each_test_of_a_row_ended(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """By the markers of module, class, function and parameter; a failure in taking it down is one."""
    _, report = run(tmp_path, MODULE, *arguments)
    ends = {
        "test_it.py::test_passes": "passed",
        "test_it.py::test_each[1]": "passed",
        "test_it.py::test_each[2]": "passed",
        "test_it.py::test_later": "passed",
        "test_it.py::TestInside::test_fails": "failed",
        "test_it.py::test_torn": "failed",
        "test_it.py::test_absent": "skipped",
        "test_it.py::test_known": "skipped",
    }
    assert json.loads(report.read_text()) == {
        "D1": ends,
        "D2": {"test_it.py::test_passes": "passed"},
        "D3": {"test_it.py::test_each[2]": "passed"},
    }


@pytest.mark.parametrize(
    ("mark", "arguments"),
    [('"D99"', ("-n", "2")), ('"D1", "d2"', ()), ("", ())],
    ids=["unknown, with workers", "one of two unknown", "none"],
)
def test_a_marker_without_a_row_of_the_list_ends_the_run(tmp_path: Path, mark: str, arguments: tuple[str, ...]) -> None:
    """As an error of its module, before any test."""
    module = f"import pytest\n@pytest.mark.field({mark})\ndef test_it(): pass\n"
    done, _ = run(tmp_path, module, *arguments)
    assert done.returncode != 0
    assert "test_it.py::test_it is marked with" in done.stdout
    assert "passed" not in done.stdout


def written(folder: Path, suite: str, rows: Mapping[str, Mapping[str, str]]) -> None:
    """As a suite would."""
    (folder / f"{suite}.json").write_text(json.dumps(rows))


def test_rows_that_pass_suffice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In any suite; what is skipped in one may pass in another."""
    written(tmp_path, "one", {row: {f"t.py::{row}": "passed", "t.py::k8s": "skipped"} for row in listed()})
    written(tmp_path, "two", {**{row: {"t.py::k8s": "passed"} for row in listed()}, SPECIFICATION: ALL_NAMED})
    assert main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    right_value = right_values()["D10"]
    assert f"D10  {right_value}\n        2 passed in one, two\n            t.py::D10\n            t.py::k8s\n" in said
    assert "FAULT" not in said


@pytest.mark.parametrize(
    ("ends", "fault"),
    [
        ({}, "no test of it has passed"),
        ({"t.py::a": "failed", "t.py::b": "passed"}, "failed in one: t.py::a"),
        ({"t.py::a": "skipped", "t.py::b": "passed"}, "only skipped: t.py::a"),
        ({"t.py::a": "skipped"}, "no test of it has passed"),
    ],
)
def test_a_row_at_fault_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ends: Mapping[str, str], fault: str
) -> None:
    """Whatever the others say, and it is named."""
    rows = {row: {"t.py::a": "passed"} for row in listed()}
    written(tmp_path, "one", {**rows, "L10": ends, SPECIFICATION: ALL_NAMED})
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert f"FAULT   {fault}\n" in said.out
    assert said.err == f"1 of {len(listed())} rows are at fault: L10\n"


def test_a_run_writes_how_the_tests_of_the_specification_ended(tmp_path: Path) -> None:
    """By their names alone, whatever class and parameters; those of other names are not in that row."""
    named = sorted(named_tests())[0]
    path, _, function = named.partition("::")
    module = f"""
import pytest
class TestIt:
    @pytest.mark.parametrize("at", [1, 2])
    def {function}(self, at): assert at == 1
def test_of_another_name(): pass
"""
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(module)
    _, report = run(tmp_path, "", path)
    ends = {f"{path}::TestIt::{function}[1]": "passed", f"{path}::TestIt::{function}[2]": "failed"}
    assert json.loads(report.read_text()) == {SPECIFICATION: ends}


@pytest.mark.parametrize(
    ("one", "two", "found"),
    [
        ({"t.py::TestIt::test_x[a]": "passed"}, {}, []),
        ({"t.py::test_x": "skipped"}, {"t.py::test_x": "passed"}, []),
        ({"t.py::test_x[a]": "skipped", "t.py::test_x[b]": "passed"}, {}, []),
        ({"t.py::test_x": "passed"}, {"t.py::test_x": "failed"}, ["failed: t.py::test_x"]),
        ({"t.py::test_x": "skipped"}, {"t.py::test_x": "skipped"}, ["only skipped: t.py::test_x"]),
        ({"t.py::test_y": "passed"}, {}, ["did not run: t.py::test_x"]),
    ],
)
def test_a_test_of_the_specification_must_pass_somewhere_and_fail_nowhere(
    one: Mapping[str, str], two: Mapping[str, str], found: list[str]
) -> None:
    """In the suites of one run, taken together."""
    reports = {"one": {SPECIFICATION: one}, "two": {SPECIFICATION: two}}
    assert not_shown(["t.py::test_x"], reports) == found


def test_a_test_of_the_specification_that_did_not_run_fails_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though every row is fine; and it is named."""
    missing = sorted(ALL_NAMED)[0]
    ran = {test: end for test, end in ALL_NAMED.items() if test != missing}
    written(tmp_path, "one", {**{row: {"t.py::a": "passed"} for row in listed()}, SPECIFICATION: ran})
    assert main([str(tmp_path)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"1 of {len(ALL_NAMED)} tests of docs/specification.md show nothing:"
    assert second == f"    did not run: {missing}"


def test_each_row_says_in_a_sentence_what_is_right() -> None:
    """And no name stands there twice."""
    assert len(right_values()) == len(LISTED.read_text().splitlines())
    assert all(len(sentence.split()) > 4 for sentence in right_values().values())


def test_no_report_is_no_proof(tmp_path: Path) -> None:
    """Each row is at fault."""
    assert main([str(tmp_path)]) == 1


def test_the_table_names_each_test_once() -> None:
    """Its parameters are counted; faults are in bold."""
    row = Row("D1", "so it is", {"one": {"D1": {"t.py::a[1]": "passed", "t.py::a[2]": "passed", "t.py::b": "failed"}}})
    assert as_table([row]).splitlines()[2:] == ["| D1 | so it is | 2 | one | `t.py::a`<br>**failed in one: t.py::b** |"]
