"""The answers as JSON: every command has its models, every field its meaning, and docs/json.md says it all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from docgen.json_schemas import page
from docgen.pages import PAGES
from worker.cli.answers import ANSWERS, COMMON, State
from worker.cli.commands.list import STATES
from worker.cli.parser import commands_of

ROOT = Path(__file__).parents[3]
MODELS = sorted({*COMMON, *(model for models in ANSWERS.values() for model in models)}, key=lambda each: each.__name__)


def test_every_command_has_its_answers() -> None:
    """A new command without a model fails here."""
    assert set(ANSWERS) == set(commands_of())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_says_what_it_means(model: type[BaseModel]) -> None:
    """Those of the objects in it, too."""
    schema = model.model_json_schema(mode="serialization")
    assert [name for name, field in _fields(schema) if not field.get("description")] == []


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {}).items()


def test_the_parser_knows_the_states() -> None:
    """It names them by itself, to import nothing."""
    assert get_args(State) == STATES


def test_the_page_is_what_the_code_says() -> None:
    """`python -m docgen` writes it anew."""
    assert PAGES["json.md"] is page
    assert (ROOT / "docs/json.md").read_text() == page()
