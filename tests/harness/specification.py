"""docs/specification.md as data: its points, the tests that it names for each, and what it says does the work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs/specification.md"

_HEADING = re.compile(r"^### ([A-Z]\d+)\. (.+)$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")
_SYMBOL = re.compile(r"`((?:activities|codehub_storage|worker|workflows)(?:\.\w+)+)`")
_FILE = re.compile(r"`((?:\w[\w.-]*/)*\w[\w.-]*\.(?:py|rs|yml|toml))`")


@dataclass(frozen=True)
class Point:
    """One demand. ``symbols`` are dotted names of our packages, ``files`` paths of the repository."""

    name: str
    title: str
    symbols: tuple[str, ...]
    files: tuple[str, ...]
    tests: tuple[str, ...]


def points(page: str) -> list[Point]:
    """The points of a page, in its order. A point is a heading of the third level that begins with its name."""
    found = list(_HEADING.finditer(page))
    ends = [match.start() for match in found[1:]] + [len(page)]
    return [_point(match, page[match.end() : end]) for match, end in zip(found, ends, strict=True)]


def _point(match: re.Match[str], body: str) -> Point:
    body = body.partition("\n## ")[0]  # the next section's introduction belongs to no point
    return Point(match[1], match[2], _all(_SYMBOL, body), _all(_FILE, body), _all(_TEST, body))


def _all(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(pattern.findall(text)))


def named_tests(page: str | None = None) -> frozenset[str]:
    """Every test that a point names, as ``path::function``. Without ``page``: of the repository's own page."""
    text = PAGE.read_text(encoding="utf-8") if page is None else page
    return frozenset(test for point in points(text) for test in point.tests)


def plain_name(nodeid: str) -> str:
    """A node id of pytest as the page names it: without class and without parameters."""
    path, _, rest = nodeid.partition("::")
    return f"{path}::{rest.partition('[')[0].rpartition('::')[2]}"
