"""Where a mover keeps what it needs for as long as it lives."""

from __future__ import annotations


def scratch_prefix(pid: int) -> str:
    """How the temporary folder of the mover with this process id begins, so that one that was killed leaves none."""
    return f"codehub-mover-{pid}-"
