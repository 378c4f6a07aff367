"""The pages: path under docs, and the function that returns its text, or the text between its marks.

They are committed: README.md and docs/cli.md lead to them, and a reader on the web builds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from docgen import errors, json_schemas, settings

PAGES: Mapping[str, Callable[[], str]] = {
    "errors.md": errors.table,
    "json.md": json_schemas.page,
    "settings.md": settings.tables,
}
