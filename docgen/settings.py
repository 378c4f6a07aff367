"""The tables of docs/settings.md: every setting with its default and what it means, from ``worker.settings``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Literal, get_args, get_origin

from pydantic import ByteSize, SecretStr
from pydantic.fields import FieldInfo

from worker.settings import Settings, variable

REST = "Everything else"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "The place": ("data_dir", "place", "backend", "volume_root", "workspace_label"),
    "The object store": ("bucket", "s3_", "settle", "retention"),
    "Docker": ("docker_",),
    "Movers in containers": ("mover_image", "mover_memory", "mover_temporal_address", "mover_s3_endpoint"),
    "Kubernetes": ("k8s_",),
    "Movers": ("max_movers", "mover_concurrency", "segment_bytes", "budget_bytes", "allow_devices"),
}
"""How the names of the settings under each heading begin. What is in no group is under ``REST``."""


def tables() -> str:
    """A table for each group."""
    grouped: dict[str, list[str]] = {heading: [] for heading in (*GROUPS, REST)}
    for name, field in Settings.model_fields.items():
        grouped[_group(name)].append(_row(name, field))
    parts = [f"## {heading}\n\n{_HEAD}\n" + "\n".join(rows) for heading, rows in grouped.items() if rows]
    return "\n\n".join(parts)


_HEAD = "| variable | default | means |\n|---|---|---|"


def _group(name: str) -> str:
    return next((heading for heading, begins in GROUPS.items() if name.startswith(begins)), REST)


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{variable(name)}` | {_default(name, field)} | {' '.join(_meaning(field))} |"


def _default(name: str, field: FieldInfo) -> str:
    if name == "data_dir":
        return "`~/.local/share/codehub-storage`"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, ByteSize):
        default = default.human_readable().replace(".0", "")
    return f"`{default}`" if default not in (None, {}) else ""


def _meaning(field: FieldInfo) -> Iterator[str]:
    yield str(field.description).replace("|", "\\|")
    choices = _choices(field.annotation)
    if choices:
        yield f"One of {', '.join(f'`{each}`' for each in choices)}."
    if SecretStr in get_args(field.annotation):
        yield "A secret."


def _choices(kind: object) -> tuple[str, ...]:
    """The values of a setting that takes one of a few."""
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(each.value for each in kind)
    return get_args(kind) if get_origin(kind) is Literal else ()
