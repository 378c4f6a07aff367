"""How many trials a randomised test makes: few in the suite, as many as one says in `make faults N=...`."""

from __future__ import annotations

import os


def trials(default: int) -> int:
    """``N`` of `make faults`, else ``default``."""
    return int(os.environ.get("STORAGE_TESTS_N") or default)
