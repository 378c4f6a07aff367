"""What one row of docs/fidelity.md is: a small tree, and what of it is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from activities.dataplane.plan import PlanLimits
from tests.harness.archives import TINY

YES, NO = "yes", "no"
COUNTED = "left out, counted"

Make = Callable[[bytes], None]


@dataclass(frozen=True)
class Case:
    """``make`` fills an empty folder; it may lean on root's rights.

    ``aspects``: by which of ``looking.ASPECTS`` others are judged in this row; we are by all of them, in each row.
    ``ours``: what the page says of us. ``skipped``: what our archive counts as left out, and ``absent``: those names.
    ``lost``: the one aspect that we do not keep. ``limits``: how our archive of it is cut. ``beyond_path_max``: it has
    names that rsync cannot open.
    """

    title: str
    aspects: tuple[str, ...]
    make: Make
    ours: str = YES
    skipped: Mapping[str, int] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    lost: str | None = None
    limits: PlanLimits = TINY
    beyond_path_max: bool = False


def write(path: bytes, data: bytes = b"data\n") -> None:
    """A file with a time of its own, so that nothing equals by chance."""
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, ns=(0, 1_500_000_000_000_000_000 + len(data)))
