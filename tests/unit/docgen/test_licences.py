"""Which crates may be used."""

from __future__ import annotations

from typing import Any

import pytest

from docgen.licences import CRATES_IO, is_allowed, main


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT/Apache-2.0", True),
        ("GPL-3.0-only OR MIT", True),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR Zlib) AND (GPL-2.0-only OR LGPL-3.0-only)", False),
        ("MIT WITH other-exception", False),
        *((broken, False) for broken in (None, "", "MIT MIT", "(MIT", "MIT OR", "MIT)", "MIT WITH")),
    ],
)
def test_expressions(expression: str | None, allowed: bool) -> None:
    """What is none is not allowed."""
    assert is_allowed(expression) is allowed


def _package(**values: Any) -> dict[str, Any]:
    return {"name": "a", "version": "1", "license": "MIT", "repository": None, "source": CRATES_IO, **values}


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({}, ""),
        ({"source": None}, ""),
        ({"license": "GPL-3.0-only"}, "the licence"),
        ({"license": None}, "the licence"),
        ({"source": "git+https://example.org/a"}, "comes from"),
    ],
)
def test_packages(capsys: pytest.CaptureFixture[str], values: dict[str, Any], wrong: str) -> None:
    """Each is listed; a licence or a source that is not allowed is said, and a failure."""
    assert main({"packages": [_package(**values)]}) == bool(wrong)
    said = capsys.readouterr()
    assert said.out.startswith("a 1\t")
    assert wrong in said.err
    assert bool(said.err) == bool(wrong)
