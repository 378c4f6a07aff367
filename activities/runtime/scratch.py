"""Where a mover keeps what it needs for as long as it lives."""

from __future__ import annotations


def scratch_prefix(pid: int) -> str:
    """How the name of a mover's temporary directory begins, by process id. So that of a killed mover can be found and
    removed."""
    return f"codehub-mover-{pid}-"
