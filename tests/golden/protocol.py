"""What movers and their workflows say to one another, by the number of the protocol.

Movers of containers outlive a rollout. One that does not know a step, or reads another message than was written, must
not be adopted: whoever changes either raises ``MOVER_PROTOCOL``, then says ``python -m tests.golden.protocol``;
``--replace`` for a number that was never released.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import typing
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from temporalio import activity

from activities.mover.archive import ArchiveActivities
from activities.mover.restore import RestoreActivities
from workflows.messages import MOVER_PROTOCOL

FILE = Path(__file__).with_name("protocol.json")


def spoken() -> dict[str, str]:
    """Each step that a mover serves, with a digest of the messages that it takes and answers."""
    found = {}
    for each in (ArchiveActivities, RestoreActivities):
        for _, member in inspect.getmembers(each, inspect.isfunction):
            definition = activity._Definition.from_callable(member)
            if definition is not None and definition.name is not None:
                hints = typing.get_type_hints(member)
                messages = [_shape(TypeAdapter(hints[name]).json_schema()) for name in ("step", "return")]
                text = json.dumps(messages, sort_keys=True).encode()
                found[definition.name] = hashlib.sha256(text).hexdigest()[:16]
    return found


def _shape(schema: Any) -> Any:
    """What matters to a reader: not its words."""
    if isinstance(schema, dict):
        return {key: _shape(value) for key, value in schema.items() if key not in ("title", "description")}
    return [_shape(each) for each in schema] if isinstance(schema, list) else schema


def main() -> None:
    """Entry of the command."""
    golden = json.loads(FILE.read_text()) if FILE.exists() else {}
    number = str(MOVER_PROTOCOL)
    if golden.get(number, spoken()) != spoken() and "--replace" not in sys.argv:
        sys.exit(f"protocol {number} says something else; raise MOVER_PROTOCOL in workflows/messages.py")
    FILE.write_text(json.dumps({**golden, number: spoken()}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
