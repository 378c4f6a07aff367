"""The pages: path under docs, and the function that answers its text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from docgen import json_schemas

PAGES: Mapping[str, Callable[[], str]] = {
    "json.md": json_schemas.page,
}
