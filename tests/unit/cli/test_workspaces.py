"""`list` reads many workspaces a few at a time, and tells a state of each."""

from __future__ import annotations

import asyncio

import pytest

from activities.dataplane.manifest import Manifest
from activities.objectstore.base import ObjectInfo
from activities.objectstore.client import S3Settings
from activities.state.record import Owner, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import record_key
from tests.fakes.memory_store import MemoryStore
from worker.cli import workspaces
from worker.cli.format import age
from worker.cli.workspaces import Sides, Stored

MANY = 500


class CountingStore(MemoryStore):
    """Knows how many reads were under way at once; from ``fails_at`` on it no longer answers."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        super().__init__()
        self.now = self.most = self.reads = 0
        self._fails_at = fails_at

    async def get(self, key: str, *, version_id: str | None = None) -> tuple[bytes, ObjectInfo] | None:
        self.now, self.reads = self.now + 1, self.reads + 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if self._fails_at is not None and self.reads >= self._fails_at:
            raise StorageError(ErrorCode.STORE_UNAVAILABLE, "no answer")
        return await super().get(key, version_id=version_id)


def record(name: str, *, signed_off: bool = True, volume: VolumeRecord | None = None) -> Record:
    """Of a workspace."""
    owner = Owner(run_id="r", operation="archive", signed_off=signed_off)
    return Record(workspace_id=name, place="default", owner=owner, volume=volume)


async def filled(store: CountingStore) -> dict[str, Stored]:
    """Many workspaces with a record each, as a listing of the bucket finds them."""
    for number in range(MANY):
        name = f"ws{number}"
        await MemoryStore.put_if(store, record_key(name), record(name).model_dump_json().encode(), etag=None)
    return workspaces._by_workspace(await store.list_keys(""))


async def test_so_many_at_a_time() -> None:
    """All are read, and never more at once than the bound."""
    store = CountingStore()
    stored = await filled(store)
    await workspaces._read_all(store, stored, lambda seen, total: None)
    assert len(stored) == MANY
    assert all(each.record is not None for each in stored.values())
    assert 1 < store.most <= workspaces._AT_A_TIME <= S3Settings("b").max_pool


async def test_a_store_that_stops_answering_is_not_asked_for_the_rest() -> None:
    """Each would wait for its time-out. What was read before is told."""
    store = CountingStore(fails_at=100)
    stored = await filled(store)
    await workspaces._read_all(store, stored, lambda seen, total: None)
    assert store.reads <= 100 + workspaces._AT_A_TIME
    assert 99 - workspaces._AT_A_TIME <= sum(each.problem is None for each in stored.values()) < MANY


def test_keys_of_others_are_no_workspaces() -> None:
    """Only names that a key of ours can have."""
    keys = ["ws1/home.state", "ws1/home.tar.gz", ".codehub/store.json", "archives/ws2.tar.gz", "archives/UP.tar.gz"]
    keys += ["other/file", "ws3/home.tar.gz.bak", "archives/home.state", "a/b/home.state"]
    found = {name: set(each.keys) for name, each in workspaces._by_workspace(keys).items()}
    assert found == {"ws1": {"state", "tar.gz"}, "ws2": {"foreign"}}


def volume(state: VolumeState, archive_id: str | None = None) -> VolumeRecord:
    """Of a record."""
    return VolumeRecord(uid="u", state=state, archive_id=archive_id)


OBJECT = ObjectInfo("k", 1, "e")


@pytest.mark.parametrize(
    ("of", "stored", "state"),
    [
        (volume(VolumeState.READY), Stored(), "warm"),
        (volume(VolumeState.READY, "a"), Stored(object=OBJECT, proven=True), "both"),
        (volume(VolumeState.READY), Stored(object=OBJECT), "warm"),
        (volume(VolumeState.ARCHIVED, "a"), Stored(object=OBJECT, proven=True), "both"),
        (volume(VolumeState.DELETING, "a"), Stored(object=OBJECT, proven=True), "cold"),
        (volume(VolumeState.DELETING, "a"), Stored(object=OBJECT), "unproven"),
        (volume(VolumeState.DELETING, "a"), Stored(), "lost"),
        (volume(VolumeState.RESTORING), Stored(object=OBJECT, proven=True), "unfinished"),
        (None, Stored(), "empty"),
        (None, Stored(object=OBJECT, proven=True), "cold"),
        (None, Stored(problem=StorageError(ErrorCode.ARCHIVE_CORRUPT, "x")), "unknown"),
    ],
)
def test_states(of: VolumeRecord | None, stored: Stored, state: str) -> None:
    """From record and archive, while no run is open."""
    stored.record = record("ws1", volume=of)
    assert workspaces._state(stored, None, Sides({}, {}, [])) == state


def test_who_has_not_signed_off() -> None:
    """Without an open run it ended before its end; without Temporal that is not known, so it counts as moving."""
    stored = Stored(record=record("ws1", signed_off=False))
    assert workspaces._state(stored, None, Sides({}, {}, [])) == "unfinished"
    assert workspaces._state(stored, None, Sides({}, None, [])) == "moving"
    assert workspaces._state(Stored(), None, Sides(None, {}, [])) == "unknown"


@pytest.mark.parametrize(
    ("text", "year"), [("2026-11-27T16:00:00+00:00", 2026), ("2026-11-27", 2026), ("yesterday", 1970), ("", 1970)]
)
def test_a_manifest_s_time_may_be_no_time(text: str, year: int) -> None:
    """Who can write to the bucket chooses it; the store's own time then stands in."""
    info = ObjectInfo("k", 1, "e", modified_at=86_400.0)
    found = workspaces._time_of(Stored(object=info, proven=True, manifest=Manifest(created_at=text)))
    assert found is not None
    assert (found.year, found.tzinfo is not None) == (year, True)


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (7_620, "2 h 07 min"), (100_000, "1 d 3 h"), (-5, "0.0 s")]
)
def test_ages(seconds: float, text: str) -> None:
    """In the unit that a person would choose; a clock that is ahead is no age."""
    assert age(seconds) == text
