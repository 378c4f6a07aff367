"""Links into Temporal's web UI."""

from __future__ import annotations

from worker.cli.weblinks import run_link


def test_a_link_names_the_run() -> None:
    """The slash of a workflow id is part of a name there, not of the path."""
    assert run_link("http://ui", "default", "storage/ws1", "r1") == (
        "http://ui/namespaces/default/workflows/storage%2Fws1/r1/history"
    )
