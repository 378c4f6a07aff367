"""Pages that are written from the code are as they would be written now."""

from __future__ import annotations

from pathlib import Path

import pytest

from docgen.__main__ import DOCS
from docgen.pages import PAGES
from docgen.settings import GROUPS, tables
from docgen.writing import BEGIN, END, renewed, stale
from worker.settings import Settings, variable


def test_no_page_is_stale() -> None:
    """`python -m docgen` writes them anew."""
    assert list(stale(DOCS, PAGES)) == []


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    """Twice, and the rest of the page stays; without marks all of it is written."""
    page = f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    once = renewed(page, "new\n")
    assert once == renewed(once, "new\n") == f"before\n\n{BEGIN}\n\nnew\n\n{END}\n\nafter\n"
    assert renewed("old\n", "new\n") == "new\n"


def test_a_mark_without_its_end_is_refused() -> None:
    """It would swallow the rest of the page."""
    with pytest.raises(ValueError, match="without"):
        renewed(f"before\n{BEGIN}\nafter\n", "new")


def test_what_is_missing_or_differs_is_stale(tmp_path: Path) -> None:
    """With the text as it would be."""
    (tmp_path / "same.md").write_text("same\n")
    (tmp_path / "other.md").write_text("old\n")
    pages = {"same.md": lambda: "same\n", "other.md": lambda: "new\n", "missing.md": lambda: "new\n"}
    assert stale(tmp_path, pages) == {"other.md": "new\n", "missing.md": "new\n"}


def test_every_setting_is_told_once() -> None:
    """With its description; a new one that fits no group stands under the last heading."""
    text = tables()
    for name, field in Settings.model_fields.items():
        assert text.count(f"| `{variable(name)}` |") == 1, name
        assert str(field.description) in text


def test_no_group_is_out_of_date() -> None:
    """Each beginning is that of a setting."""
    begins = [each for group in GROUPS.values() for each in group]
    assert [each for each in begins if not any(name.startswith(each) for name in Settings.model_fields)] == []
