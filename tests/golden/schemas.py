"""What crosses the wire or lies in the bucket, as JSON schemas: `python -m tests.golden.schemas` writes them anew.

The file shows a reviewer what a change does to them. What holds them is another: `tests.golden.freeze`.
"""

from __future__ import annotations

import inspect
import json
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from activities.dataplane import manifest
from activities.state import record
from codehub_storage import contracts
from codehub_storage.errors import FACTS
from workflows import messages

FILE = Path(__file__).with_name("schemas.json")


def schemas() -> dict[str, Any]:
    """The schema of every model and the values of every enumeration, by module and name, and the error codes."""
    found: dict[str, Any] = {}
    for module in (contracts, messages, record, manifest):
        for name, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, BaseModel) and member.__module__ == module.__name__:
                schema = member.model_json_schema()
                found[f"{module.__name__}.{name}"] = {
                    "properties": {field: _shape(shape) for field, shape in schema.get("properties", {}).items()},
                    "required": sorted(schema.get("required", [])),
                }
            elif issubclass(member, Enum) and member.__module__ == module.__name__:
                found[f"{module.__name__}.{name}"] = {"values": sorted(each.value for each in member)}
    found["errors"] = {code.value: facts._asdict() | {"hint": ""} for code, facts in FACTS.items()}
    return found


def _shape(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a field's schema what matters to a reader: not its words."""
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


if __name__ == "__main__":
    FILE.write_text(json.dumps(schemas(), indent=1, sort_keys=True) + "\n")
