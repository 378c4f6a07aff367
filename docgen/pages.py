"""The pages: path under docs, and the function that answers its text, or what stands between its marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from docgen import errors, settings

PAGES: Mapping[str, Callable[[], str]] = {
    "errors.md": errors.table,
    "settings.md": settings.tables,
}
