"""Compares JSON with a schema as pydantic writes it. As strict as docs/json.md: no key more, none less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from worker.cli.answers import MAY_BE_ABSENT

Schema = Mapping[str, Any]
_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_REF = "#/$defs/"


def differences(value: Any, schema: Schema) -> list[str]:
    """What of ``value`` is not as ``schema`` says, by its place."""
    return list(_compare(value, schema, schema.get("$defs", {}), "$"))


def _compare(value: Any, schema: Schema, known: Schema, at: str) -> Iterator[str]:
    if "$ref" in schema:
        yield from _compare(value, known[str(schema["$ref"]).removeprefix(_REF)], known, at)
        return
    if "anyOf" in schema:
        each = [list(_compare(value, one, known, at)) for one in schema["anyOf"]]
        yield from min(each, key=len)
        return
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    kind = schema.get("type")
    if kind is None:
        return
    if not _is(value, kind):
        yield f"{at}: {value!r} is no {kind}"
    elif kind == "array":
        for number, one in enumerate(value):
            yield from _compare(one, schema.get("items", {}), known, f"{at}[{number}]")
    elif kind == "object" and "properties" in schema:
        yield from _compare_fields(value, schema["properties"], known, at)
    elif kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        for name, one in value.items():
            yield from _compare(one, schema["additionalProperties"], known, f"{at}.{name}")


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _compare_fields(value: Schema, fields: Schema, known: Schema, at: str) -> Iterator[str]:
    always = {name for name, field in fields.items() if not field.get(MAY_BE_ABSENT)}
    for name in sorted(value.keys() - fields.keys()):
        yield f"{at}.{name}: not in the schema"
    for name in sorted(always - value.keys()):
        yield f"{at}.{name}: absent"
    for name in value.keys() & fields.keys():
        yield from _compare(value[name], fields[name], known, f"{at}.{name}")
