"""Hostile archives given to the archiver by hand: each is refused, and not by its walls."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from activities.dataplane.archiver import program
from tests.fakes.memory_store import MemoryStore
from tests.harness.canary import Canary
from tests.hostile.case import Case
from tests.hostile.table import CASES

_FAILED = 3


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_extract_refuses_it(case: Case, tmp_path: Path) -> None:
    """None of them states what it holds, so none gets as far as a name: nothing is written, inside or outside."""
    canary = Canary(tmp_path)
    store = MemoryStore()
    info, _ = await case.archive(canary).place(store)
    found = await store.get(info.key)
    assert found is not None
    file = tmp_path / "given.tar.gz"
    file.write_bytes(found[0])
    done = extract(file, canary.volume)
    assert done.returncode == _FAILED, done.stdout
    assert done.stderr.startswith("codehub-archive: ")
    assert done.stdout == ""
    assert list(canary.volume.iterdir()) == []
    assert canary.changes() == {}


def extract(file: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """As a person types it."""
    command = [program(), "extract", "--wall", "off", str(file), str(directory)]
    return subprocess.run(command, env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
