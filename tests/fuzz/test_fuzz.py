"""Every target for a bounded number of examples, about a minute in all; `make fuzz` goes on for as long as one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.running import run
from tests.fuzz.targets import TARGETS

FOUND = sorted((Path(__file__).parent / "cases").glob("*/*.bin"))
BECAME = {"gate": "segment", "header": "tail", "stream": "foreign-object"}
"""Cases of readers that have no target here any more, which the crate's own tests read, too; what takes their bytes."""
EXAMPLES = 100
"""Of each target: every one starts several programs."""

pytestmark = pytest.mark.timeout(600)  # what spins shall not hold the suite for longer


@pytest.mark.parametrize("case", FOUND, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_what_was_found_once_stays_mended(case: Path) -> None:
    """Bytes that broke a promise; their folder names the target."""
    TARGETS[BECAME.get(case.parent.name, case.parent.name)](case.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_no_promise_is_broken(target: str) -> None:
    """Typed errors only, nothing outside changed, memory bounded, whatever the bytes are."""
    run(target, EXAMPLES, TARGETS[target])
