"""Contracts, messages, record, manifest and error codes only grow."""

from __future__ import annotations

import json

import pytest

from tests.golden.schemas import FILE, schemas

GOLDEN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_nothing_that_others_have_stored_is_renamed_retyped_or_removed(name: str) -> None:
    """Every field of the golden file is still there, as it was, and no new one is required."""
    now = schemas()[name]
    if name == "errors":
        assert {code: now[code] for code in GOLDEN[name]} == GOLDEN[name]
        return
    assert {field: now["properties"][field] for field in GOLDEN[name]["properties"]} == GOLDEN[name]["properties"]
    assert now["required"] == GOLDEN[name]["required"]


def test_the_golden_file_is_up_to_date() -> None:
    """What was added stands in it too: `python -m tests.golden.schemas`."""
    assert schemas() == GOLDEN
