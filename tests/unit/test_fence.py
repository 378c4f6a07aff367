"""The fence: whose record it is, what is no record, and writers that come between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from activities.objectstore.base import ObjectInfo, PreconditionFailed
from activities.state.fence import RACES, Claimant, FencedRecord, read_record, write_record
from activities.state.record import Owner, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import record_key
from tests.fakes.memory_store import MemoryStore

WS = "ws1"
CLAIM = Claimant("here", "archive")
BARE = VolumeRecord(uid="u", state=VolumeState.ARCHIVED)
"""It became an archive that it does not name."""


def record(volume: VolumeRecord | None = None, **facts: object) -> Record:
    """A record of run-1, which has ended."""
    owner = Owner(run_id="run-1", operation="archive", signed_off=True)
    return Record(workspace_id=WS, place="here", owner=owner, volume=volume).model_copy(update=facts)


class Contended(MemoryStore):
    """Somebody else writes right before each of the next ``times`` conditional writes."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    async def put_if(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo:
        if self.times:
            self.times -= 1
            raise PreconditionFailed(key)
        return await super().put_if(key, data, etag=etag)


async def code_of(call: Awaitable[object]) -> ErrorCode:
    """How the call fails."""
    with pytest.raises(StorageError) as failed:
        await call
    return failed.value.code


def test_it_says_whose_it_is() -> None:
    """For messages, and for what a purge notes."""
    fenced = FencedRecord(MemoryStore(), WS, "run-1")
    assert (fenced.workspace_id, fenced.run_id) == (WS, "run-1")


async def test_a_workspace_without_a_record_is_nobodys() -> None:
    """Not even a run's that was never told otherwise."""
    with pytest.raises(StorageError, match="owned by nobody") as failed:
        await FencedRecord(MemoryStore(), WS, "run-1").check()
    assert failed.value.code == ErrorCode.NOT_YOURS


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{", ErrorCode.ARCHIVE_CORRUPT),
        (b"{}", ErrorCode.ARCHIVE_CORRUPT),
        (record().model_dump_json().encode() + b" " * (64 << 10), ErrorCode.ARCHIVE_CORRUPT),
        (record(workspace_id="ws2").model_dump_json().encode(), ErrorCode.ARCHIVE_CORRUPT),
        (
            record(VolumeRecord(uid="u", state=VolumeState.ARCHIVED)).model_dump_json().encode(),
            ErrorCode.ARCHIVE_CORRUPT,
        ),
        (record(format_version=2).model_dump_json().encode(), ErrorCode.UNSUPPORTED),
    ],
    ids=["torn", "empty", "long", "of another workspace", "without evidence", "of a later format"],
)
async def test_what_is_no_record_is_refused_and_kept(data: bytes, code: ErrorCode) -> None:
    """It is neither read, nor claimed over."""
    store = MemoryStore()
    await store.put_if(record_key(WS), data, etag=None)
    assert await code_of(read_record(store, WS)) == code
    assert await code_of(FencedRecord(store, WS, "run-2").claim(CLAIM)) == code
    found = await store.get(record_key(WS))
    assert found is not None
    assert found[0] == data


async def test_what_could_not_be_read_again_is_not_written() -> None:
    """A volume that goes without evidence is a mistake of ours, and stays out of the bucket."""
    store = MemoryStore()
    assert await code_of(write_record(store, record(BARE), None)) == ErrorCode.ARCHIVE_CORRUPT
    assert await store.head(record_key(WS)) is None


async def test_a_claim_that_another_one_overtakes_is_not_repeated() -> None:
    """[H1] It fails: a late claim of a dead run that looked again would take the record from the one that lives."""
    store = Contended()
    await write_record(store, record(), None)
    store.times = 1
    assert await code_of(FencedRecord(store, WS, "run-2").claim(CLAIM)) == ErrorCode.STORE_UNAVAILABLE
    assert store.times == 0
    found = await read_record(store, WS)
    assert found is not None
    assert found[0].owner.run_id == "run-1"


@pytest.mark.parametrize(("times", "gets_through"), [(1, True), (RACES - 1, True), (RACES, False)])
async def test_a_change_looks_again_so_many_times(times: int, gets_through: bool) -> None:
    """The edit sees the record as it is then; a store that refuses every time is at fault."""
    store = Contended()
    fenced = FencedRecord(store, WS, "run-1")
    await fenced.claim(CLAIM)
    store.times, seen = times, list[Record]()

    def edit(now: Record) -> Record:
        seen.append(now)
        return now.model_copy(update={"lost_volume_uid": "u9"})

    if gets_through:
        assert (await fenced.change(edit)).lost_volume_uid == "u9"
        assert len(seen) == times + 1
    else:
        assert await code_of(fenced.change(edit)) == ErrorCode.STORE_UNAVAILABLE
        assert (await fenced.check()).lost_volume_uid is None


async def test_a_change_of_nothing_writes_nothing() -> None:
    """The revision, by which writes are counted, stays."""
    fenced = FencedRecord(MemoryStore(), WS, "run-1")
    await fenced.claim(CLAIM)
    before = await fenced.check()
    assert await fenced.change(lambda now: now.model_copy()) == before
    assert (await fenced.check()).revision == before.revision


async def test_only_the_owner_signs_off() -> None:
    """A run that was overtaken does not end the one that has the workspace now."""
    store = MemoryStore()
    await FencedRecord(store, WS, "run-1").claim(CLAIM)
    await FencedRecord(store, WS, "run-2").claim(CLAIM)
    assert await code_of(FencedRecord(store, WS, "run-1").release()) == ErrorCode.NOT_YOURS
    assert await code_of(FencedRecord(store, "ws2", "run-1").release()) == ErrorCode.NOT_YOURS
    assert not (await FencedRecord(store, WS, "run-2").check()).owner.signed_off


@pytest.mark.parametrize(("epoch", "is_refused"), [(None, False), (1, False), (2, True)])
async def test_a_claim_is_for_one_epoch(epoch: int | None, is_refused: bool) -> None:
    """[H12] What was seen before the bucket was copied is not gone by afterwards."""
    store = MemoryStore()
    await FencedRecord(store, WS, "run-1").claim(CLAIM)
    check: Callable[[], Awaitable[Record]] = FencedRecord(store, WS, "run-1", epoch).check
    if is_refused:
        assert await code_of(check()) == ErrorCode.NOT_YOURS
    else:
        assert (await check()).owner.run_id == "run-1"


async def test_a_restore_is_what_brings_an_archived_home_on() -> None:
    """Provision would begin anew, so its hint names the restore where there is an archive."""
    store = MemoryStore()
    home = VolumeRecord(uid="u1", state=VolumeState.READY, place="there", archive_id="a1")
    await write_record(store, record(home), None)
    with pytest.raises(StorageError, match="there") as refused:
        await FencedRecord(store, WS, "run-2").claim(Claimant("here", "provision"))
    assert "codehub-storage restore ws1/home.tar.gz --accept-loss u1" in refused.value.hint
