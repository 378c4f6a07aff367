"""docs/errors.md tells of each code what an operator needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codehub_storage.errors import FACTS, ErrorCode

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/errors.md").read_text()
ENTRIES = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PARTS = ("**Safe:** ", "**What happened:** ", "**What to do:** ")


def test_every_code_has_its_entry_and_no_other() -> None:
    """In the order of the closed list, and so of the table above them, which is generated."""
    assert list(ENTRIES) == [code.value for code in FACTS] == [code.value for code in ErrorCode]


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_entry_says_what_is_safe_what_happened_and_what_to_do(code: ErrorCode) -> None:
    """All three, in this order: who reads it has a failure before him, and wants to know first what is lost."""
    places = [ENTRIES[code.value].find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)


def test_commands_in_the_entries_exist() -> None:
    """What an operator is told to type, the parser knows."""
    from worker.cli.parser import build_parser

    typed = {line.split("#")[0].split()[1] for line in PAGE.splitlines() if line.startswith("codehub-storage ")}
    commands = build_parser().format_help()
    assert typed
    assert [each for each in sorted(typed) if not re.search(rf"^    {each} ", commands, re.MULTILINE)] == []
