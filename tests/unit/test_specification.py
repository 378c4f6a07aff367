"""docs/specification.md names code and tests that exist; and how it is read.

That the named tests passed is asked after a whole run, by ``python -m tests.field``.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.harness.specification import PAGE, Point, named_tests, plain_name, points

TOP = Path(__file__).parents[2]
POINTS = points(PAGE.read_text())
EXAMPLE = """
# A page
### A1. First demand
Text with `a.word` and `tests/field.txt`.
- Done by: `workflows.archive`, `docker-compose.yml`, `archiver/src/walk.rs`
- Shown by: `tests/unit/test_one.py::test_this`, `tests/unit/test_one.py::test_this`
## Another section
Its introduction names `tests/unit/test_no.py::test_nothing`.
### A2. Second demand
- Shown by: `tests/unit/test_two.py::test_that`
"""


def test_the_page_is_read_point_by_point() -> None:
    """Each name once, and what stands before the first point of a section belongs to none."""
    first, second = points(EXAMPLE)
    tests = ("tests/unit/test_one.py::test_this",)
    assert first == Point(
        "A1", "First demand", ("workflows.archive",), ("docker-compose.yml", "archiver/src/walk.rs"), tests
    )
    assert second == Point("A2", "Second demand", (), (), ("tests/unit/test_two.py::test_that",))
    assert named_tests(EXAMPLE) == {*first.tests, *second.tests}


@pytest.mark.parametrize(
    "nodeid", ["tests/a.py::test_x", "tests/a.py::test_x[1-a::b]", "tests/a.py::TestIt::test_x[a]"]
)
def test_a_test_is_named_without_class_and_parameters(nodeid: str) -> None:
    """As the page names it."""
    assert plain_name(nodeid) == "tests/a.py::test_x"


def test_no_name_is_given_twice_and_every_demand_is_there() -> None:
    """The owner's demands have these names; a point that is dropped is seen."""
    counts = {"I": 6, "K": 4, "R": 5, "A": 7, "P": 4, "V": 2, "T": 6}
    expected = [f"{letter}{number}" for letter, count in counts.items() for number in range(1, count + 1)]
    assert [point.name for point in POINTS] == expected


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_point_says_what_does_it_and_what_shows_it(point: Point) -> None:
    """At least one of each, and all of them exist."""
    assert point.symbols or point.files
    assert [name for name in point.symbols if not exists(name)] == []
    assert [name for name in point.files if not (TOP / name).is_file()] == []
    assert point.tests
    assert [test for test in point.tests if test not in collected_from(test.partition("::")[0])] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("workflows.archive", True),
        ("workflows.archive.ArchiveWorkflow.run", True),
        ("workflows.archive.ArchiveWorkflow.walk", False),
        ("workflows.sync", False),
    ],
)
def test_a_name_of_nothing_is_seen(name: str, expected: bool) -> None:
    """Be it a module or something in one."""
    assert exists(name) is expected


def test_a_test_that_is_not_there_is_seen() -> None:
    """A file may be missing, and so may a function; nested functions and helpers are no tests."""
    this = "tests/unit/test_specification.py"
    assert f"{this}::test_a_test_that_is_not_there_is_seen" in collected_from(this)
    assert f"{this}::exists" not in collected_from(this)
    assert collected_from("tests/unit/test_of_nothing.py") == frozenset()


def exists(name: str) -> bool:
    """True for a module, and for an attribute of one or of a class in it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@cache
def collected_from(path: str) -> frozenset[str]:
    """What pytest would collect from a file: functions of the module and of its classes."""
    file = TOP / path
    tree = ast.parse(file.read_text()) if file.is_file() else ast.Module([], [])
    return frozenset(f"{path}::{function.name}" for function in _functions(tree))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for body in bodies:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node
