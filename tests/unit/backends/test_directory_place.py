"""The root as a place: absent is believed only where the identity says that this is the place."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from activities.backends.base import MoverSpec
from activities.backends.directory.backend import DirectoryBackend
from activities.backends.wait_policy import WaitPolicy
from activities.dataplane.fingerprint import change_fingerprint
from activities.state.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.records import RecordFile

WS = "ws1"


def backend(root: Path) -> DirectoryBackend:
    """A worker's backend that starts no mover."""
    return DirectoryBackend(
        root, mover_entry="nowhere:main", walk=change_fingerprint, wait_policy=WaitPolicy(1, 1), preload=()
    )


@pytest.fixture
def record(tmp_path: Path) -> RecordFile:
    """A record that has announced ``u1``."""
    record = RecordFile(tmp_path / "record.json", WS)
    record.volume("u1", VolumeState.RESTORING)
    return record


async def refuse_all(there: DirectoryBackend, record: RecordFile) -> None:
    """Every method that looks or acts answers ``WrongStore``."""
    spec = MoverSpec(WS, "u1", "run-1", "mover/x/1", True)
    for call in (
        there.create(WS, "u1", restored_from=None, spec={}, fence=record.fence),
        there.inspect(WS, fence=record.fence),
        there.delete(WS, "u1", fence=record.fence, deletion=None),
        there.attach(spec, fence=record.fence),
        there.detach(WS, "u1", run_id=None, fence=record.fence),
    ):
        with pytest.raises(StorageError) as error:
            await call
        assert error.value.code is ErrorCode.WRONG_STORE


@pytest.mark.parametrize("exists", [False, True])
async def test_not_mounted(tmp_path: Path, record: RecordFile, exists: bool) -> None:
    """No root, or an empty one: no identity, nothing is believed gone, and nothing is made."""
    root = tmp_path / "volumes"
    if exists:
        root.mkdir()
    assert await backend(root).identity() is None
    await refuse_all(backend(root), record)
    assert root.exists() == exists
    assert not exists or os.listdir(root) == []


async def test_another_disk(tmp_path: Path, record: RecordFile) -> None:
    """A root that turns into another place under a running worker is refused by that worker."""
    root = tmp_path / "volumes"
    there = backend(root)
    await there.mark("place-1", adopt=False)
    assert await there.inspect(WS, fence=record.fence) is None
    root.rename(tmp_path / "elsewhere")
    await backend(root).mark("place-2", adopt=False)
    await refuse_all(there, record)


async def test_a_damaged_identity(tmp_path: Path, record: RecordFile) -> None:
    """Neither absent nor right: refused."""
    root = tmp_path / "volumes"
    await backend(root).mark("place-1", adopt=False)
    (root / ".codehub/place.json").write_text("{")
    await refuse_all(backend(root), record)


async def test_mark_refuses_what_is_not_empty(tmp_path: Path) -> None:
    """A folder with something in it is marked only on purpose, and keeps it."""
    (tmp_path / "precious").touch()
    with pytest.raises(StorageError, match="precious") as error:
        await backend(tmp_path).mark("place-1", adopt=False)
    assert error.value.code is ErrorCode.WRONG_STORE
    assert os.listdir(tmp_path) == ["precious"]
    assert await backend(tmp_path).mark("place-1", adopt=True) == "place-1"
    assert (tmp_path / "precious").exists()


async def test_two_marks_at_once(tmp_path: Path) -> None:
    """One wins, and both answer its identity."""
    answers = await asyncio.gather(*(backend(tmp_path).mark(f"place-{number}", adopt=False) for number in range(8)))
    assert set(answers) == {await backend(tmp_path).identity()}
    assert sorted(os.listdir(tmp_path / ".codehub")) == ["locks", "logs", "making", "place.json", "trash", "volumes"]
