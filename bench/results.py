"""What a run found, as a file: the report is made of it, and may be made of it again."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.figures import Result, headline
from bench.peers import versions
from bench.store import SERVER


@dataclass
class Run:
    """``sizes``: entries and bytes by tree. ``requests``: by tree, contender and operation. ``sink``: of what was sent
    there, and the floors."""

    date: str
    machine: str
    server: str
    rounds: int
    versions: dict[str, str]
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    requests: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    sink: list[Result] = field(default_factory=list)

    @classmethod
    def begin(cls, rounds: int) -> Run:
        """Today, here."""
        return cls(f"{datetime.now(UTC):%Y-%m-%d}", describe_machine(), SERVER, rounds, versions())

    def headline(self, tree: str) -> dict[str, Any]:
        """Of one tree."""
        results, sink = ([each for each in found if each.tree == tree] for found in (self.results, self.sink))
        return headline(results, sink, self.sizes.get(tree, (0, 0))[0])

    def save(self, path: Path) -> None:
        """As JSON, a line for each result."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(TypeAdapter(Run).dump_json(self, indent=1) + b"\n")

    @classmethod
    def load(cls, path: Path) -> Run:
        """What ``save`` wrote."""
        return TypeAdapter(Run).validate_json(path.read_bytes())


def describe_machine() -> str:
    """What matters of it, and nothing that names it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    kernel = ".".join(platform.release().split(".")[:2])
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {system}, Linux {kernel}, Python {python}"
