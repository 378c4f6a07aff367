"""What a run found, as a file: the report is made of it, and may be made of it again."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.figures import Result
from bench.lineup import versions
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

    def save(self, path: Path) -> None:
        """As JSON, a line for each result."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Run:
        """What ``save`` wrote."""
        found: dict[str, Any] = json.loads(path.read_text())
        for name in ("results", "sink"):
            found[name] = [Result(**each) for each in found[name]]
        found["sizes"] = {name: (entries, total) for name, (entries, total) in found["sizes"].items()}
        return cls(**found)


def describe_machine() -> str:
    """What matters of it, and nothing that names it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    kernel = ".".join(platform.release().split(".")[:2])
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {system}, Linux {kernel}, Python {python}"
