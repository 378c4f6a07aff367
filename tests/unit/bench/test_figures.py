"""The benchmark's own arithmetic."""

from __future__ import annotations

from dataclasses import replace

from bench.figures import FLOOR_OF, WHOLE, Result, Spread, headline, ratio_of, ratio_to_best, spread, temporal_share

_BLANK = Result("home", "ours", "archive", 0, 1.0, 1.0, 1 << 20, 10, 1)


def result(contender: str, operation: str, wall: float, cpu: float = 1.0, pss_mib: int = 1) -> Result:
    """One of them."""
    return replace(
        _BLANK, contender=contender, operation=operation, wall_seconds=wall, cpu_seconds=cpu, pss_bytes=pss_mib << 20
    )


RESULTS = [
    *(result("ours", "archive", wall, cpu=2, pss_mib=100) for wall in (9, 4, 5)),
    *(result("restic", "archive", wall, cpu=8) for wall in (10, 11, 30)),
    *(result("gzip-aws", "archive", wall, cpu=5) for wall in (50, 50)),
    result("ours", "verify", 2, pss_mib=150),
    result("ours", "restore", 4, pss_mib=120),
    result("restic", "restore", 8),
    result("gzip-aws", "restore", 6),
    replace(
        result(WHOLE, "archive", 12),
        phases={"claim": 0.5, "scan_volume": 1.0, "copy_segments": 5.0, "verify_archive": 3.0, "delete_volume": 2.0},
    ),
]


def test_spread_has_median_least_and_most() -> None:
    """Of an even number the median is between the two in the middle."""
    assert spread(RESULTS, "ours", "archive", "wall_seconds") == Spread(5, 4, 9)
    assert Spread.of([1, 4]) == Spread(2.5, 1, 4)
    assert spread(RESULTS, "kopia", "archive", "wall_seconds") is None


def test_ratio_goes_by_the_best_peer_of_each_figure() -> None:
    """One peer may be the fastest and another take the least CPU."""
    assert ratio_to_best(RESULTS, "archive", "wall_seconds") == round(5 / 11, 3)
    assert ratio_to_best(RESULTS, "archive", "cpu_seconds") == round(2 / 5, 3)
    assert ratio_to_best(RESULTS, "restore", "wall_seconds") == round(4 / 6, 3)


def test_ratio_without_one_side_is_none() -> None:
    """A run of ours alone ends well."""
    alone = [each for each in RESULTS if each.contender == "ours"]
    assert ratio_to_best(alone, "archive", "wall_seconds") is None
    assert ratio_of(alone, ("ours", "archive"), ("gzip-aws", "archive")) is None


def test_headline() -> None:
    """The keys are relied on by whoever reads the last line."""
    sink = [
        result("ours", "archive", 2),
        result("pigz1-rclone", "archive", 4),
        result(FLOOR_OF["archive"], "archive", 1, cpu=0.5),
    ]
    assert headline(RESULTS, sink, entries=100) == {
        "archive_wall_vs_best_peer": 0.455,
        "archive_cpu_vs_best_peer": 0.4,
        "restore_cpu_vs_best_peer": 1.0,
        "verify_wall_vs_best_peers_restore": 0.333,
        "sink_wall_vs_pigz1_rclone": 0.5,
        "stored_vs_gzip": 1.0,
        "archive_us_above_floor_by_entry": 15000.0,
        "restore_us_above_floor_by_entry": None,
        "restore_wall_vs_best_peer": 0.667,
        "peak_rss_mib": 150,
        "temporal_share": 0.1,
        "verify_vs_restore": 0.5,
        "archive_wall_vs_gzip_aws": 0.1,
    }


def test_headline_of_nothing() -> None:
    """Not measured is null, not zero."""
    assert set(headline([]).values()) == {None}


def test_temporal_share_leaves_the_deletion_out() -> None:
    """Of 12 seconds 2 deleted and 9 moved or proved bytes."""
    assert temporal_share(RESULTS) == 0.1
    assert temporal_share([each for each in RESULTS if each.contender != WHOLE]) is None
