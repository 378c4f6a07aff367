"""The trees of `make bench-scale`, and what is told of a result."""

from __future__ import annotations

from pathlib import Path

from bench.figures import Result
from bench.homes import size_of
from bench.scale import make_growing, make_million, make_sparse, told


def test_a_thousand_to_a_folder(tmp_path: Path) -> None:
    """As many files as are asked for."""
    make_million(tmp_path, 1001)
    assert size_of(tmp_path)[0] == 1001 + 2
    assert sorted(len(list(folder.iterdir())) for folder in tmp_path.iterdir()) == [1, 1000]


def test_growth_is_in_proportion(tmp_path: Path) -> None:
    """Twice the parts, twice the bytes, of other content."""
    once, twice = tmp_path / "1", tmp_path / "2"
    for times, folder in ((1, once), (2, twice)):
        folder.mkdir()
        make_growing(folder, times)
    assert size_of(twice)[1] == 2 * size_of(once)[1] == 50_000_000
    assert (twice / "part-000/file-0000").read_bytes() != (twice / "part-001/file-0000").read_bytes()


def test_sparse_is_sparse(tmp_path: Path) -> None:
    """Its length is what is asked for, its blocks a fiftieth of that."""
    make_sparse(tmp_path, 200 << 20)
    status = (tmp_path / "sparse").stat()
    assert status.st_size == 200 << 20
    assert status.st_blocks * 512 < 6 << 20


def test_cost_by_gigabyte() -> None:
    """Decimal gigabytes."""
    found = told(Result("t", "ours", "archive", 0, 4.0, 6.0, 3 << 20, 10**6, 1), 5, 2 * 10**9)
    assert found["cpu_seconds_by_gigabyte"] == 3.0
    assert (found["entries"], found["pss_mib"], found["stored_megabytes"]) == (5, 3, 1.0)
