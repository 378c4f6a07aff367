"""Texts for people: sizes, durations, tables, and the list of settings."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

_UNITS = ("KiB", "MiB", "GiB", "TiB")
_INDENT = "      "


def size(count: float) -> str:
    """Bytes in the unit that a person would choose."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in _UNITS:
        count /= 1024
        if count < 1024 or unit == _UNITS[-1]:
            break
    return f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Such as 3.2 s, 4 min 05 s, 2 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def settings_help() -> str:
    """Every setting with its default, from the one place that knows them."""
    from worker.settings import Settings, variable

    lines = ["settings:"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None or field.default_factory else f" (default: {field.default})"
        text = f"{field.description}{default}"
        lines += [f"  {variable(name)}", textwrap.indent(textwrap.fill(text, 100), _INDENT)]
    lines.append("Temporal's own: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS..., TEMPORAL_CONFIG_FILE.")
    return "\n".join(lines) + "\n"
