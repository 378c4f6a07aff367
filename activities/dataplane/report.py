"""What a restore tells of itself, step by step and as a whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class RestoreReport:
    """``bytes`` of file content; ``skipped`` counts by kind what could not be carried."""

    files: int = 0
    bytes: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, other: RestoreReport) -> None:
        """Take in what another step did."""
        self.files += other.files
        self.bytes += other.bytes
        self.skipped += other.skipped
