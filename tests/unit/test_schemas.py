"""Contracts, messages, record, manifest and error codes only grow: what a release had, every later one has."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.golden import freeze
from tests.golden.freeze import breaks
from tests.golden.schemas import FILE, schemas

Contracts = dict[str, Any]

MADE_UP: Contracts = {
    "schemas": {
        "models.Order": {
            "properties": {
                "id": {"type": "string"},
                "size": {"type": "integer", "default": 0},
                "address": {"$ref": "#/$defs/Address", "default": {"city": ""}},
            },
            "required": ["id"],
        },
        "models.State": {"values": ["open", "shut"]},
        "errors": {"NotFound": {"hint": "", "retryable": False}},
    },
    "protocol": {"3": {"step": "digest"}},
}


def changed(change: Callable[[Contracts], object]) -> Contracts:
    """The made-up contracts after a change."""
    found = copy.deepcopy(MADE_UP)
    change(found)
    return found


def order(contracts: Contracts) -> Contracts:
    """The model in them."""
    found: Contracts = contracts["schemas"]["models.Order"]
    return found


def test_what_the_last_release_had_is_still_there() -> None:
    """Until a version is released none is frozen, and there is nothing to compare with."""
    versions = freeze.frozen()
    if not versions:
        changelog = (freeze.TOP / "CHANGELOG.md").read_text()
        assert freeze.released(changelog, freeze.tags(), freeze.project_version()) == set()
        return
    assert breaks(freeze.read(versions[-1]), freeze.today()) == []


def test_every_release_is_frozen() -> None:
    """And no other version is: `python -m tests.golden.freeze` belongs to a release."""
    changelog = (freeze.TOP / "CHANGELOG.md").read_text()
    assert set(freeze.frozen()) == freeze.released(changelog, freeze.tags(), freeze.project_version())


def test_the_golden_file_is_up_to_date() -> None:
    """A reviewer reads in it what changed since the last commit: `python -m tests.golden.schemas`."""
    assert schemas() == json.loads(FILE.read_text())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it["schemas"].pop("models.Order"), "models.Order is gone"),
        (lambda it: order(it)["properties"].pop("size"), "models.Order.size is gone"),
        (lambda it: order(it)["properties"].update(size={"type": "string", "default": ""}), "size has another type"),
        (lambda it: order(it)["properties"]["size"].update(default=1), "size has another type"),
        (lambda it: order(it)["properties"]["id"].update(maxLength=8), "id has another type"),
        (lambda it: order(it)["properties"]["address"].update(default={}), "address has another type"),
        (lambda it: order(it)["properties"]["address"].update(default={"city": "x"}), "address has another type"),
        (
            lambda it: (order(it)["properties"].update(more={"type": "string"}), order(it)["required"].append("more")),
            "more is required, and new",
        ),
        (lambda it: order(it)["required"].append("size"), "size is required"),
        (lambda it: order(it)["required"].remove("id"), "id is not required any more"),
        (lambda it: it["schemas"]["models.State"]["values"].remove("shut"), "models.State: 'shut' is gone"),
        (lambda it: it["schemas"]["errors"].pop("NotFound"), "NotFound is gone or other"),
        (lambda it: it["schemas"]["errors"]["NotFound"].update(retryable=True), "NotFound is gone or other"),
        (lambda it: it["protocol"]["3"].update(step="other"), "protocol 3"),
        (lambda it: it["protocol"]["3"].update(more="digest"), "protocol 3"),
    ],
)
def test_a_break_is_seen(change: Callable[[Contracts], object], said: str) -> None:
    """What is gone, retyped, newly required, or required no more; and a protocol that keeps its number."""
    [found] = breaks(MADE_UP, changed(change))
    assert said in found


@pytest.mark.parametrize(
    "change",
    [
        lambda it: None,
        lambda it: it["schemas"].update({"models.New": {"properties": {"id": {}}, "required": ["id"]}}),
        lambda it: order(it)["properties"].update(more={"type": "string", "default": ""}),
        lambda it: order(it)["properties"]["address"].update(default={"city": "", "street": ""}),
        lambda it: it["schemas"]["models.State"]["values"].append("half open"),
        lambda it: it["schemas"]["errors"].update(TooMany={"hint": "", "retryable": True}),
        lambda it: it.update(protocol={"4": {"step": "other"}}),
    ],
)
def test_growth_is_no_break(change: Callable[[Contracts], object]) -> None:
    """New models, fields with a default, values, codes, and a protocol of another number."""
    assert breaks(MADE_UP, changed(change)) == []


def test_a_version_is_frozen_once(tmp_path: Path) -> None:
    """It is what the code says now, and stays; an older one than the last is refused."""
    path = freeze.freeze("0.2.0", tmp_path)
    assert freeze.read("0.2.0", tmp_path) == json.loads(json.dumps(freeze.today()))
    content = path.read_bytes()
    with pytest.raises(FileExistsError):
        freeze.freeze("0.2.0", tmp_path)
    with pytest.raises(ValueError, match="was released"):
        freeze.freeze("0.1.9", tmp_path)
    with pytest.raises(ValueError, match="no version"):
        freeze.freeze("v0.3.0", tmp_path)
    assert path.read_bytes() == content
    freeze.freeze("0.10.0", tmp_path)
    assert freeze.frozen(tmp_path) == ["0.2.0", "0.10.0"]


@pytest.mark.parametrize(
    ("changelog", "tags", "version", "expected"),
    [
        ("# Changelog\n\n## Unreleased\n", [], "0.1.0", set()),
        ("## 0.1.0 - unreleased\n", ["nightly", "0.1.0-rc1"], "0.1.0", set()),
        ("## [0.1.0] - 2027-01-01\n", [], "0.1.0", {"0.1.0"}),
        ("## Unreleased\n\n## 0.2.0\n\n## 0.1.0\n", [], "0.2.0", {"0.1.0", "0.2.0"}),
        ("## Unreleased\n", ["v0.1.0"], "0.1.0", {"0.1.0"}),
        ("## Unreleased\n", [], "0.2.0", {"0.1.0"}),
    ],
)
def test_what_says_that_a_version_is_released(
    changelog: str, tags: list[str], version: str, expected: set[str]
) -> None:
    """A section of the changelog, a tag, or that the code is beyond the first version."""
    assert freeze.released(changelog, tags, version) == expected
