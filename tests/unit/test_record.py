"""The record: what changes in one PUT, and who may be deleted."""

from __future__ import annotations

import pytest

from activities.fencing import FencedRecord, read_record
from activities.record import GIVEN_UP_KEPT, Owner, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore

WS = "ws1"


def record(volume: VolumeRecord | None = None) -> Record:
    """A record of run-1."""
    return Record(workspace_id=WS, place="here", owner=Owner(run_id="run-1", operation="archive"), volume=volume)


def test_a_replaced_uid_is_given_up_in_the_same_write() -> None:
    """[H3] Another uid, or none, and the old one stands among the given-up; the same uid does not."""
    first = record(VolumeRecord(uid="u1", state=VolumeState.READY))
    assert first.with_volume(VolumeRecord(uid="u1", state=VolumeState.DELETING)).given_up == ()
    assert first.with_volume(VolumeRecord(uid="u2", state=VolumeState.RESTORING)).given_up == ("u1",)
    assert first.with_volume(None).given_up == ("u1",)


def test_the_last_given_up_uids_are_kept() -> None:
    """The list is bounded, and it is the oldest that go."""
    now = record()
    for number in range(GIVEN_UP_KEPT + 3):
        now = now.with_volume(VolumeRecord(uid=f"u{number}", state=VolumeState.RESTORING))
    assert now.given_up == tuple(f"u{number}" for number in range(2, GIVEN_UP_KEPT + 2))


@pytest.mark.parametrize(
    ("state", "disposable"),
    [
        (VolumeState.RESTORING, True),
        (VolumeState.READY, False),
        (VolumeState.ARCHIVED, False),
        (VolumeState.DELETING, True),
    ],
)
def test_only_what_was_never_handed_out_or_is_sealed_may_be_deleted(state: VolumeState, disposable: bool) -> None:
    """[H2] And never a volume that the record does not know."""
    now = record(VolumeRecord(uid="u1", state=state))
    assert now.is_disposable("u1") is disposable
    assert not now.is_disposable("stranger")


async def test_of_two_runs_the_later_claim_wins_and_the_other_is_fenced() -> None:
    """[H1] After run-2's claim run-1 neither reads as the owner nor writes."""
    store = MemoryStore()
    one, two = FencedRecord(store, WS, "run-1"), FencedRecord(store, WS, "run-2")
    assert await one.claim("here", "archive") is None
    before = await two.claim("here", "restore")
    assert before is not None
    assert before.owner.run_id == "run-1"
    with pytest.raises(StorageError) as fenced:
        await one.change(lambda now: now.with_volume(None))
    assert fenced.value.code == ErrorCode.NOT_YOURS
    assert (await two.check()).owner.run_id == "run-2"


async def test_a_run_that_signed_off_writes_nothing_more() -> None:
    """A late attempt of a finished run is fenced like a stranger's."""
    fenced = FencedRecord(MemoryStore(), WS, "run-1")
    await fenced.claim("here", "archive")
    await fenced.sign_off()
    await fenced.sign_off()
    with pytest.raises(StorageError) as late:
        await fenced.check()
    assert late.value.code == ErrorCode.NOT_YOURS


async def test_no_two_contents_of_a_record_are_equal() -> None:
    """The revision grows with every PUT, so an ETag never comes back."""
    store = MemoryStore()
    fenced = FencedRecord(store, WS, "run-1")
    await fenced.claim("here", "archive")
    seen = set()
    for state in (VolumeState.READY, VolumeState.ARCHIVED, VolumeState.READY):
        await fenced.change(lambda now, state=state: now.with_volume(VolumeRecord(uid="u", state=state)))  # type: ignore[misc]
        found = await read_record(store, WS)
        assert found is not None
        seen.add(found[1])
    assert len(seen) == 3


async def test_a_workspace_of_another_place_is_not_touched() -> None:
    """WrongStore, and the record stays as it was."""
    store = MemoryStore()
    await FencedRecord(store, WS, "run-1").claim("here", "archive")
    with pytest.raises(StorageError) as wrong:
        await FencedRecord(store, WS, "run-2").claim("there", "archive")
    assert wrong.value.code == ErrorCode.WRONG_STORE
    assert (await FencedRecord(store, WS, "run-1").check()).place == "here"
