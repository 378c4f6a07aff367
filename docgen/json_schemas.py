"""docs/json.md: what each command prints with `--json`, from the models in ``worker.cli.answers``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from worker.cli.answers import ANSWERS, COMMON, MAY_BE_ABSENT

Definitions = dict[str, Mapping[str, Any]]
"""Schemas of what answers refer to, by name."""

_REF = "#/$defs/"
_INTRODUCTION = """\
# Answers as JSON

With `--json` a command prints exactly one JSON object on stdout, whatever happens. Keys are never renamed, retyped or
removed; later versions may add some. Times are RFC 3339 text, sizes are bytes, durations are seconds. A key that
says *may be absent* stands there only where it has something to tell; all others are always there.

This page is written from the code (`python -m docgen`); a test validates what every command really prints.
"""


def page() -> str:
    """The page."""
    known: Definitions = {}
    parts = [_INTRODUCTION, *_commands(known), "## Any command\n"]
    parts += [_section(model, known, "###") for model in COMMON]
    parts.append("## Objects in the answers\n")
    for name in sorted(known):
        if "properties" in known[name]:
            parts.append(_table(f"### {name}", str(known[name].get("description", "")), known[name], known))
    return "\n".join(parts).rstrip() + "\n"


def _commands(known: Definitions) -> Iterator[str]:
    """A section for each answer, under the commands that print it."""
    told: set[tuple[type[BaseModel], ...]] = set()
    for models in ANSWERS.values():
        if models in told:
            continue
        told.add(models)
        names = [f"`{name}`" for name, others in ANSWERS.items() if others == models]
        yield f"## {', '.join(names)}\n"
        if not models:
            yield "No answer: they end only when told to. A failure prints [an error](#failed), as with all.\n"
        for model in models:
            yield _section(model, known, "###" if len(models) > 1 else "")


def _section(model: type[BaseModel], known: Definitions, level: str) -> str:
    """One answer. What it refers to becomes known."""
    schema = model.model_json_schema(mode="serialization")
    known.update(schema.get("$defs", {}))
    return _table(f"{level} {model.__name__}" if level else "", inspect.getdoc(model) or "", schema, known)


def _table(heading: str, text: str, schema: Mapping[str, Any], known: Definitions) -> str:
    rows = [f"| `{name}` | {_type(field, known)} | {_meaning(field)} |" for name, field in schema["properties"].items()]
    head = [*([heading, ""] if heading else []), _first_paragraph(text), ""]
    return "\n".join([*head, "| field | type | meaning |", "|---|---|---|", *rows, ""])


def _meaning(field: Mapping[str, Any]) -> str:
    words = str(field.get("description", "")).replace("|", "\\|")
    return f"{words}; may be absent" if field.get(MAY_BE_ABSENT) else words


def _type(field: Mapping[str, Any], known: Definitions) -> str:
    """A field's type in words, with a link where it is an object."""
    if "$ref" in field:
        name = str(field["$ref"]).removeprefix(_REF)
        return _type_of_definition(name, known)
    if "anyOf" in field:
        kinds = sorted((_type(each, known) for each in field["anyOf"]), key=lambda kind: kind == "null")
        return " or ".join(kind for kind in kinds if kind != "null" or not field.get(MAY_BE_ABSENT))
    if "const" in field:
        return f"`{str(field['const']).lower()}`"
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    match field.get("type"):
        case "array":
            return f"list of {_type(field.get('items', {}), known)}"
        case "object":
            return f"map of text to {_type(field.get('additionalProperties', {}), known)}"
        case "string":
            return "text"
        case None:
            return "any"
        case kind:
            return str(kind)


def _type_of_definition(name: str, known: Definitions) -> str:
    found = known.get(name, {})
    if "enum" in found:
        return _type(found, known)
    return "any" if name == "JsonValue" else f"[{name}](#{name.lower()})"


def _first_paragraph(text: str) -> str:
    """Of a docstring, as Markdown."""
    return re.sub(r"``([^`]*)``", r"`\1`", " ".join(text.partition("\n\n")[0].split()))
