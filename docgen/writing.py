"""Puts what is made into a page: between its marks, or, in a page without any, as the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

BEGIN = "<!-- written by `python -m docgen`: begin -->"
END = "<!-- written by `python -m docgen`: end -->"


def renewed(old: str, made: str) -> str:
    """The page with ``made`` in it. Blank lines keep Markdown from taking a mark for a part of a table."""
    if BEGIN not in old:
        return made
    before, _, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{BEGIN} without {END}")
    return f"{before}{BEGIN}\n\n{made.strip()}\n\n{END}{after}"


def stale(docs: Path, pages: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """Pages that are not as they would be written now, and how they would be."""
    found = {}
    for name, make in pages.items():
        old = (docs / name).read_text(encoding="utf-8") if (docs / name).exists() else ""
        new = renewed(old, make())
        if new != old:
            found[name] = new
    return found
