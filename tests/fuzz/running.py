"""So many examples of one target, and a bound on the memory that they take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from tests.fuzz.seeds import strategy

MEMORY = 256 << 20


def run(target: str, examples: int, work: Callable[[bytes], None]) -> None:
    """Raises what ``work`` raises, for the smallest bytes that could be found, or for a peak of memory."""

    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy(target))
    def is_kept(data: bytes) -> None:
        work(data)

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory("VmRSS")
    is_kept()
    assert _memory("VmHWM") - before < MEMORY


def _memory(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10
