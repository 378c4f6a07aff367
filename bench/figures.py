"""From single results to medians, spreads and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OURS = "ours"
WHOLE = "operation"
SLOWEST_PEER = "gzip-aws"
SLOW_PEERS = (SLOWEST_PEER, "pigz-aws")
"""Bound by their compression alone, and so measured once."""
NOT_PEERS = frozenset({OURS, WHOLE})
SINK_PEER = "pigz1-rclone"
FLOOR_OF = {"archive": "tar, igzip -1", "restore": "igzip -d, tar x"}
"""By operation, what programs in C take of a processor who do no more than they must."""
_DELETION = "delete_volume"
DATA_STEPS = frozenset(
    {"scan_volume", "copy_segments", "copy_tail", "complete_archive", "verify_archive"}
    | {"prepare_restore", "restore_segments", "finish_restore"}
)


@dataclass(frozen=True)
class Result:
    """One operation of one contender in one round. ``phases``: seconds of its parts, where it tells them."""

    tree: str
    contender: str
    operation: str
    round: int
    wall_seconds: float
    cpu_seconds: float
    pss_bytes: int
    stored_bytes: int
    objects: int
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])


def spread(results: Sequence[Result], contender: str, operation: str, what: str) -> Spread | None:
    """Of the field ``what`` over all rounds; ``None`` where nothing was measured."""
    found = [getattr(each, what) for each in results if (each.contender, each.operation) == (contender, operation)]
    return Spread.of(found) if found else None


def ratio_to_best(results: Sequence[Result], operation: str, what: str, ours: str = "") -> float | None:
    """Our median by that of the peer with the least; ``None`` without either. ``ours``: another operation of ours."""
    mine = spread(results, OURS, ours or operation, what)
    peers = {each.contender for each in results} - NOT_PEERS
    theirs = [found.median for peer in peers if (found := spread(results, peer, operation, what))]
    return None if mine is None or not theirs else _ratio(mine.median, min(theirs))


def ratio_of(
    results: Sequence[Result], left: tuple[str, str], right: tuple[str, str], what: str = "wall_seconds"
) -> float | None:
    """Median of one (contender, operation) by that of another; ``None`` without either."""
    one, other = (spread(results, *each, what) for each in (left, right))
    return None if one is None or other is None else _ratio(one.median, other.median)


def temporal_share(results: Sequence[Result]) -> float | None:
    """The part of the whole operations' time in which no step moved or proved bytes; the deletion counts in neither."""
    whole = [each for each in results if each.contender == WHOLE]
    data = sum(seconds for each in whole for name, seconds in each.phases.items() if name in DATA_STEPS)
    total = sum(each.wall_seconds - each.phases.get(_DELETION, 0) for each in whole)
    return round(1 - data / total, 3) if total else None


def above_floor(results: Sequence[Result], sink: Sequence[Result], entries: int, operation: str) -> float | None:
    """Microseconds of a processor for each entry that we take and the floor does not; ``None`` without either."""
    mine = spread(results, OURS, operation, "cpu_seconds")
    floor = spread(sink, FLOOR_OF[operation], operation, "cpu_seconds")
    return None if not mine or not floor or not entries else round((mine.median - floor.median) / entries * 1e6, 1)


def headline(results: Sequence[Result], sink: Sequence[Result] = (), entries: int = 0) -> dict[str, Any]:
    """The ratios by which a change is judged; ``null`` for what was not measured.

    ``sink``: what was sent there, and the floors. ``entries``: of the tree.
    """
    memory = [each.pss_bytes for each in results if each.contender in NOT_PEERS]
    return {
        "archive_wall_vs_best_peer": ratio_to_best(results, "archive", "wall_seconds"),
        "archive_cpu_vs_best_peer": ratio_to_best(results, "archive", "cpu_seconds"),
        "restore_wall_vs_best_peer": ratio_to_best(results, "restore", "wall_seconds"),
        "restore_cpu_vs_best_peer": ratio_to_best(results, "restore", "cpu_seconds"),
        "verify_wall_vs_best_peers_restore": ratio_to_best(results, "restore", "wall_seconds", ours="verify"),
        "sink_wall_vs_pigz1_rclone": ratio_of(sink, (OURS, "archive"), (SINK_PEER, "archive")),
        "stored_vs_gzip": ratio_of(results, (OURS, "archive"), (SLOWEST_PEER, "archive"), "stored_bytes"),
        **{
            f"{operation}_us_above_floor_by_entry": above_floor(results, sink, entries, operation)
            for operation in FLOOR_OF
        },
        "peak_rss_mib": round(max(memory) / (1 << 20)) if memory else None,
        "temporal_share": temporal_share(results),
        "verify_vs_restore": ratio_of(results, (OURS, "verify"), (OURS, "restore")),
        "archive_wall_vs_gzip_aws": ratio_of(results, (OURS, "archive"), (SLOWEST_PEER, "archive")),
    }


def _ratio(mine: float, theirs: float) -> float:
    return round(mine / theirs, 3)
