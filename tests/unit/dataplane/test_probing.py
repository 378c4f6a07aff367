"""What the archiver says of this machine, for `doctor`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from activities.dataplane import archiver
from activities.dataplane.probing import probe
from tests.harness.trees import IS_ROOT

STANDIN = f"""#!{sys.executable}
import json, select
gone = bool(select.select([0], [], [], 0.5)[0])
print(json.dumps({{"landlock_abi": 0 if gone else 7, "openat2": True}}))
"""


async def test_its_input_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that ends the program takes us for gone, and may end before its answer."""
    file = tmp_path / "standin"
    file.write_text(STANDIN)
    file.chmod(0o755)
    monkeypatch.setattr(archiver, "program", lambda: str(file))
    assert (await probe()).landlock_abi == 7


async def test_many_at_once(tmp_path: Path) -> None:
    """On one directory, where they leave nothing; without one nothing is said of it."""
    found = await asyncio.gather(*(probe(tmp_path) for _ in range(8)))
    assert len(set(found)) == 1
    assert found[0].openat2
    assert found[0].abilities is not None
    assert found[0].abilities.owners is IS_ROOT
    assert list(tmp_path.iterdir()) == []
    assert (await probe()).abilities is None
