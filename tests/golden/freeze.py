"""What was frozen when a version was released, and what must hold of it: contracts only grow.

`python -m tests.golden.freeze VERSION` freezes what the code says now as `released/VERSION.json`, once. It is a step of
a release (CONTRIBUTING.md); nothing else writes there, and a file that exists is never written again. A field may be
added; none may be renamed, retyped or removed: older clients, open runs and stored objects have it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.golden.protocol import spoken
from tests.golden.schemas import schemas
from workflows.messages import MOVER_PROTOCOL

TOP = Path(__file__).parents[2]
FOLDER = Path(__file__).with_name("released")
FIRST = "0.1.0"
"""The first version that is released. A later one in pyproject.toml says that this one was."""

_VERSION = r"v?(\d+\.\d+\.\d+)"
_HEADING = re.compile(rf"^## \[?{_VERSION}\b(?!.*unreleased)", re.IGNORECASE | re.MULTILINE)


def today() -> dict[str, Any]:
    """What a release freezes: schemas and codes, and the steps that a mover of this protocol serves."""
    return {"schemas": schemas(), "protocol": {str(MOVER_PROTOCOL): spoken()}}


def frozen(folder: Path = FOLDER) -> list[str]:
    """The versions that were frozen, the oldest first."""
    return sorted((path.stem for path in folder.glob("*.json")), key=_numbers)


def read(version: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What was frozen of a version."""
    found: dict[str, Any] = json.loads((folder / f"{version}.json").read_text())
    return found


def freeze(version: str, folder: Path = FOLDER) -> Path:
    """Write what the code says now. ``FileExistsError`` if that version was frozen, ``ValueError`` if it is older."""
    if not re.fullmatch(_VERSION, version) or version.startswith("v"):
        raise ValueError(f"{version} is no version such as {FIRST}")
    newer = [each for each in frozen(folder) if _numbers(each) > _numbers(version)]
    if newer:
        raise ValueError(f"{newer[-1]} was released, so {version} is no next one")
    folder.mkdir(exist_ok=True)
    path = folder / f"{version}.json"
    with path.open("x") as file:
        file.write(json.dumps(today(), indent=1, sort_keys=True) + "\n")
    return path


def released(changelog: str, tags: list[str], version: str) -> set[str]:
    """The versions that were released: with a section of the changelog or a tag, and the first if we are beyond it."""
    tagged = [match[1] for match in (re.fullmatch(_VERSION, tag) for tag in tags) if match]
    return {*_HEADING.findall(changelog), *tagged, *([FIRST] if _numbers(version) > _numbers(FIRST) else [])}


def project_version() -> str:
    """The one that the code is, or becomes."""
    return str(tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"])


def tags() -> list[str]:
    """Those of this clone; none outside of one."""
    try:
        listed = subprocess.run(["git", "-C", TOP, "tag"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:  # no git here
        return []
    return listed.stdout.split()


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What holds of ``old`` and no longer of ``new``, each in words; nothing if it only grew."""
    found = [*_schema_breaks(old["schemas"], new["schemas"])]
    for number, steps in old["protocol"].items():
        if new["protocol"].get(number, steps) != steps:
            found.append(f"movers of protocol {number} are asked for something else")
    return found


def _schema_breaks(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for name, was in old.items():
        now = new.get(name)
        if now is None:
            yield f"{name} is gone"
        elif name == "errors":
            yield from (f"the code {code} is gone or other" for code, facts in was.items() if now.get(code) != facts)
        elif "values" in was:
            yield from (f"{name}: {value!r} is gone" for value in was["values"] if value not in now.get("values", ()))
        else:
            yield from (f"{name}.{each}" for each in _model_breaks(was, now))


def _model_breaks(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    fields, later = was["properties"], now.get("properties", {})
    for field, shape in fields.items():
        if field not in later:
            yield f"{field} is gone"
        elif not _is_same(shape, later[field]):
            yield f"{field} has another type: {json.dumps(shape)} is {json.dumps(later[field])}"
    for field in now.get("required", []):
        if field not in was["required"]:
            yield f"{field} is required" + ("" if field in fields else ", and new: what is stored has none")
    for field in was["required"]:
        if field in later and field not in now.get("required", []):
            yield f"{field} is not required any more: older readers miss it"


def _is_same(was: dict[str, Any], now: dict[str, Any]) -> bool:
    """True also where the default is a model that grew."""
    before, after = was.get("default"), now.get("default")
    if isinstance(before, dict) and isinstance(after, dict):
        grew = {key: value for key, value in after.items() if key in before}
        return _is_same({**was, "default": None}, {**now, "default": None}) and grew == before
    return was == now


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main() -> None:
    """Entry of the command."""
    [version] = sys.argv[1:] or sys.exit("python -m tests.golden.freeze VERSION")
    if version != project_version():
        sys.exit(f"pyproject.toml has the version {project_version()}, not {version}")
    try:
        print(freeze(version).relative_to(TOP))
    except FileExistsError:
        sys.exit(f"{version} was frozen, and stays as it is")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
