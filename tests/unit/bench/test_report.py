"""The report of a run, from results that were stored."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from bench.figures import WHOLE, Result
from bench.report import BEGIN, END, write_report
from bench.results import Run

RUN = Run(
    date="2026-01-01",
    machine="2 cores",
    server="seaweed",
    rounds=2,
    versions={"tar": "tar 1.34"},
    sizes={"small": (520, 10_000_000)},
    results=[
        Result("small", "ours", "archive", 0, 2.0, 1.0, 64 << 20, 3_800_000, 1, {"scan": 0.5}),
        Result("small", "ours", "archive", 1, 4.0, 1.0, 65 << 20, 3_800_000, 1, {"scan": 0.5}),
        Result("small", WHOLE, "archive", 0, 5.0, 2.0, 70 << 20, 3_800_000, 2, {"scan_volume": 1.5, "claim": 0.02}),
        Result("small", "restic", "archive", 0, 6.0, 3.0, 50 << 20, 4_000_000, 9),
    ],
    requests={"small": {"ours": {"archive": 4}}},
    sink=[Result("small", "tar, read", "archive", 0, 0.1, 0.1, 1 << 20, 0, 0)],
)


def test_report_replaces_what_is_between_the_marks(tmp_path: Path) -> None:
    """Twice, and the rest of the page stays."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_report(RUN, page)
    once = page.read_text()
    write_report(RUN, page)
    assert page.read_text() == once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once


def test_report_has_each_figure(tmp_path: Path) -> None:
    """Median with spread, ratio, memory, bytes and requests in a row; steps, floors and the last line as well."""
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}")
    write_report(RUN, page)
    text = page.read_text()
    ours = "| ours, data plane | archive | 3.00 (2.00 to 4.00) |  | 1.00 (1.00 to 1.00) | 65 | 3.8 | 4 |"
    assert ours in text
    assert "| restic | archive | 6.00 (6.00 to 6.00) | 0.50 | 3.00 (3.00 to 3.00) | 50 | 4.0 |  |" in text
    assert "scan_volume 1.50" in text
    assert "| tar, read | 0.10" in text
    assert '"archive_wall_vs_best_peer": 0.5' in text


def test_plot_is_well_formed(tmp_path: Path) -> None:
    """A bar for each contender, and two of the legend."""
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}")
    write_report(RUN, page)
    plot = ElementTree.parse(tmp_path / "page" / "small.svg")
    assert len(plot.findall(".//{http://www.w3.org/2000/svg}rect")) == 3 + 2


def test_run_is_stored_whole(tmp_path: Path) -> None:
    """What is loaded is what was saved."""
    RUN.save(tmp_path / "results.json")
    assert Run.load(tmp_path / "results.json") == RUN
