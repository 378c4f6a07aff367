"""The table of docs/errors.md: what follows from each code, from ``codehub_storage.errors``."""

from __future__ import annotations

from codehub_storage.errors import FACTS, ErrorCode, StorageError
from worker.cli.exits import exit_of

_HEAD = "| code | retryable | by itself | exit status | hint |\n|---|---|---|---|---|"


def table() -> str:
    """A row for each code, which leads to its entry."""
    return "\n".join([_HEAD, *map(_row, FACTS)])


def _row(code: ErrorCode) -> str:
    facts = FACTS[code]
    cells = (
        f"[`{code.value}`](#{code.value.lower()})",
        _word(facts.retryable),
        _word(facts.transient),
        str(int(exit_of(StorageError(code, "")))),
        facts.hint,
    )
    return f"| {' | '.join(cells)} |"


def _word(truth: bool) -> str:
    return "yes" if truth else "no"
