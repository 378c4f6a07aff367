"""Marks by fixtures: what `make test` leaves out, nobody has to remember."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.harness.marks import mark_by_fixtures


@dataclass
class FakeItem:
    """What the marking sees of a test."""

    fixturenames: list[str]
    marks: set[str] = field(default_factory=set)

    def add_marker(self, name: str) -> None:
        self.marks.add(name)


@pytest.mark.parametrize(
    ("fixtures", "marks"),
    [
        ([], set()),
        (["tmp_path", "owner"], set()),
        (["tmp_path", "temporal_server"], {"server"}),
        (["common_site", "common_ground", "site_store", "temporal_server"], {"server"}),
        (["own_temporal"], {"server", "own_servers"}),
        (["seaweed", "own_stack_folder"], {"server", "own_servers"}),
        (["time_skipping"], {"server", "own_servers"}),
    ],
)
def test_a_test_is_marked_by_what_it_asks_for(fixtures: list[str], marks: set[str]) -> None:
    """By a server of the run, by one of its own, or not at all."""
    item = FakeItem(fixtures)
    mark_by_fixtures([item])  # type: ignore[list-item]
    assert item.marks == marks


def test_this_one_needs_no_server(request: pytest.FixtureRequest) -> None:
    """The marks stand on the tests of the run itself."""
    assert {"server", "own_servers"}.isdisjoint(mark.name for mark in request.node.iter_markers())
