"""The record: what changes in one PUT, and who may be deleted."""

from __future__ import annotations

from typing import Any

import pytest

from activities.backends.base import VolumeView
from activities.control.cleanup import doubted, lost
from activities.state.fence import Claimant, FencedRecord, read_record, write_record
from activities.state.record import GIVEN_UP_KEPT, LeftBehind, Owner, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.commands import typed

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
    assert await one.claim(Claimant("here", "archive")) is None
    before = await two.claim(Claimant("here", "restore"))
    assert before is not None
    assert before.owner.run_id == "run-1"
    with pytest.raises(StorageError) as fenced:
        await one.change(lambda now: now.with_volume(None))
    assert fenced.value.code == ErrorCode.NOT_YOURS
    assert (await two.check()).owner.run_id == "run-2"


async def test_a_run_that_signed_off_writes_nothing_more() -> None:
    """A late attempt of a finished run is fenced like a stranger's."""
    fenced = FencedRecord(MemoryStore(), WS, "run-1")
    await fenced.claim(Claimant("here", "archive"))
    await fenced.release()
    await fenced.release()
    with pytest.raises(StorageError) as late:
        await fenced.check()
    assert late.value.code == ErrorCode.NOT_YOURS


async def test_no_two_contents_of_a_record_are_equal() -> None:
    """The revision grows with every PUT, so an ETag never comes back."""
    store = MemoryStore()
    fenced = FencedRecord(store, WS, "run-1")
    await fenced.claim(Claimant("here", "archive"))
    seen = set()
    for state in (VolumeState.READY, VolumeState.ARCHIVED, VolumeState.READY):
        await fenced.change(lambda now, state=state: now.with_volume(volume("u", state)))  # type: ignore[misc]
        found = await read_record(store, WS)
        assert found is not None
        seen.add(found[1])
    assert len(seen) == 3


async def test_a_workspace_of_another_place_is_not_touched() -> None:
    """WrongStore, and the record stays as it was."""
    store = MemoryStore()
    await FencedRecord(store, WS, "run-1").claim(Claimant("here", "archive"))
    with pytest.raises(StorageError) as wrong:
        await FencedRecord(store, WS, "run-2").claim(Claimant("there", "archive"))
    assert wrong.value.code == ErrorCode.WRONG_STORE
    assert (await FencedRecord(store, WS, "run-1").check()).place == "here"


def volume(uid: str, state: VolumeState, **more: Any) -> VolumeRecord:
    """At the record's place, unless ``more`` says otherwise."""
    is_archived = state in (VolumeState.ARCHIVED, VolumeState.DELETING)
    evidence = {"archive_id": "a1", "fingerprint": "b3:" + "f" * 64} if is_archived else {}
    return VolumeRecord(**{"uid": uid, "state": state, "place": "here", **evidence, **more})


@pytest.mark.field("D10")
def test_a_lost_volume_is_remembered_until_somebody_was_told() -> None:
    """It is not given up, and a run that fails on the way to the next one does not cover it up."""
    announced = record(volume("u1", VolumeState.READY)).with_volume(volume("u2", VolumeState.RESTORING), lost=True)
    assert announced.given_up == ()
    undone = announced.with_volume(None)
    assert undone.given_up == ("u2",)
    assert undone.missing is not None
    assert undone.missing.uid == "u1"
    again = undone.with_volume(volume("u3", VolumeState.RESTORING)).handed_out("u3")
    assert (again.lost_volume_uid, again.missing) == ("u1", again.volume)
    assert again.with_no_loss().lost_volume_uid is None
    assert undone.purged().missing is None


@pytest.mark.field("L10")
def test_a_volume_is_left_behind_by_the_write_that_replaces_it() -> None:
    """Given up and noted with its place; not if it was gone, or here; dropped when it is clear."""
    moved = record(volume("u1", VolumeState.DELETING, place="there"))
    announced = moved.with_volume(volume("u2", VolumeState.RESTORING))
    assert announced.given_up == ("u1",)
    assert announced.left_behind == (LeftBehind(uid="u1", place="there"),)
    assert announced.found_clear() == announced
    assert announced.model_copy(update={"place": "there"}).found_clear().left_behind == ()
    gone = record(volume("u1", VolumeState.DELETING, place="there", gone=True)).with_volume(None)
    assert (gone.given_up, gone.left_behind) == (("u1",), ())
    assert record(volume("u1", VolumeState.DELETING)).with_volume(None).left_behind == ()


ELSEWHERE = [
    (None, True, None),
    (VolumeState.RESTORING, True, None),
    (VolumeState.DELETING, True, None),
    (VolumeState.READY, True, ErrorCode.WRONG_STORE),
    (VolumeState.ARCHIVED, True, ErrorCode.WRONG_STORE),
    (None, False, ErrorCode.OPERATION_IN_PROGRESS),
    (VolumeState.RESTORING, False, ErrorCode.OPERATION_IN_PROGRESS),
    (VolumeState.READY, False, ErrorCode.WRONG_STORE),
]


@pytest.mark.field("L10")
@pytest.mark.parametrize("operation", ["restore", "purge", "archive", "provision"])
@pytest.mark.parametrize(("state", "signed_off", "code"), ELSEWHERE)
async def test_what_another_place_may_take(
    state: VolumeState | None, signed_off: bool, code: ErrorCode | None, operation: str
) -> None:
    """State first, then the owner; only restore and purge, and provision where there is nothing; and what the caller
    answers for is let through."""
    store = MemoryStore()
    theirs = record(volume("u1", state) if state else None)
    theirs = theirs.model_copy(update={"owner": theirs.owner.model_copy(update={"signed_off": signed_off})})
    await write_record(store, theirs, None)
    may_take = operation in ("restore", "purge") or (operation == "provision" and state is None)
    code = code if may_take else ErrorCode.WRONG_STORE
    fenced = FencedRecord(store, WS, "run-2")
    if code is not None:
        with pytest.raises(StorageError) as refused:
            await fenced.claim(Claimant("there", operation))
        assert refused.value.code == code
        found = await read_record(store, WS)
        assert found is not None
        assert found[0] == theirs
    if may_take:
        await fenced.claim(Claimant("there", operation, accept_loss="u1", old_place_is_dead=True))
        now = await fenced.check()
        assert (now.place, now.volume_place) == ("there", "here" if state else "there")
        assert await fenced.claim(Claimant("there", operation)) == now  # its own claim, whose answer was lost


@pytest.mark.field("L10")
async def test_half_made_under_an_older_epoch_is_not_claimed() -> None:
    """The store was copied since: the claim writes nothing until the uid is named; of this epoch it is as ever."""
    store = MemoryStore()
    await write_record(store, record(VolumeRecord(uid="u1", state=VolumeState.RESTORING)), None)
    fenced = FencedRecord(store, WS, "run-2")
    with pytest.raises(StorageError) as refused:
        await fenced.claim(Claimant("here", "restore", epoch=2))
    assert refused.value.code == ErrorCode.VOLUME_CONFLICT
    await fenced.claim(Claimant("here", "restore", epoch=2, accept_loss="u1"))
    assert (await fenced.check()).owner.epoch == 2
    with pytest.raises(StorageError) as older:
        await FencedRecord(store, WS, "run-2", 3).check()
    assert older.value.code == ErrorCode.NOT_YOURS  # its claim was for the bucket of before


VOLUME = "ws_ws1_home"
RESTORE = "codehub-storage restore ws1/home.tar.gz"


async def check_taken_from_a_dead_place(before: Record, operation: str) -> None:
    """What the hint says lets the operation through, whatever becomes of that restore."""
    store = MemoryStore()
    await write_record(store, before, None)
    taking = FencedRecord(store, WS, "run-2")
    await taking.claim(Claimant("there", "restore", old_place_is_dead=True))
    await taking.release()
    await FencedRecord(store, WS, "run-3").claim(Claimant("there", operation))


@pytest.mark.field("L10")
@pytest.mark.parametrize("operation", ["restore", "purge", "archive", "provision"])
async def test_each_refused_claim_says_what_to_type(operation: str) -> None:
    """Whole commands of this workspace, that the command line takes; also of an operation that has no such option."""
    begins = "codehub-storage provision ws1" if operation == "provision" else RESTORE

    async def hinted(before: Record, claimant: Claimant) -> list[str]:
        store = MemoryStore()
        await write_record(store, before, None)
        with pytest.raises(StorageError) as refused:
            await FencedRecord(store, WS, "run-2").claim(claimant)
        return typed(refused.value.hint)

    away = record(volume("u1", VolumeState.READY, place="there"))
    assert await hinted(away, Claimant("here", operation)) == [f"{begins} --accept-loss u1"]
    assert await hinted(away, Claimant("there", operation)) == [f"{RESTORE} --old-place-is-dead"]
    await check_taken_from_a_dead_place(away, operation)
    half = record(volume("u1", VolumeState.RESTORING))
    told = await hinted(half, Claimant("here", operation, epoch=2, home_store_key=VOLUME))
    assert told == [f"codehub-storage adopt {VOLUME}", f"{begins} --accept-loss u1"]


@pytest.mark.field("L10")
@pytest.mark.field("D10")
def test_what_is_said_of_a_volume_in_doubt_can_be_typed() -> None:
    """Whole commands of this workspace, be its volume in doubt or lost."""
    told = typed(doubted(VolumeView(VOLUME, "u1"), "why").hint)
    assert told == [f"codehub-storage adopt {VOLUME}", f"{RESTORE} --accept-loss u1"]
    home = volume("u1", VolumeState.READY)
    assert typed(lost(record(home), home).hint) == ["codehub-storage provision ws1 --accept-loss u1"]


@pytest.mark.field("L10")
async def test_a_finished_archive_signs_off_with_what_is_gone() -> None:
    """In the one PUT; not for a volume that was handed out, nor for another uid."""
    for state, uid, gone in (
        (VolumeState.DELETING, "u1", True),
        (VolumeState.ARCHIVED, "u1", True),
        (VolumeState.READY, "u1", False),
        (VolumeState.DELETING, "u2", False),
    ):
        store = MemoryStore()
        fenced = FencedRecord(store, WS, "run-1")
        await fenced.claim(Claimant("here", "archive"))
        now = await fenced.change(lambda each, state=state: each.with_volume(volume("u1", state)))  # type: ignore[misc]
        await fenced.release(uid)
        found = await read_record(store, WS)
        assert found is not None
        assert found[0].volume is not None
        assert found[0].volume.gone is gone
        assert found[0].revision == now.revision + 1


@pytest.mark.field("D10")
def test_a_loss_is_told_while_the_next_home_is_made() -> None:
    """A restore that was cut off has told nobody."""
    lost = record(volume("u1", VolumeState.READY)).with_volume(volume("u2", VolumeState.RESTORING), lost=True)
    assert lost.missing is not None
    assert lost.missing.uid == "u1"


@pytest.mark.field("D9")
def test_what_was_half_made_when_the_bucket_was_copied_is_in_doubt() -> None:
    """It may have been handed out since, so nobody clears it; within one epoch it is rubbish."""
    for epoch, is_doubted in ((1, True), (2, False)):
        found = record(volume("u1", VolumeState.RESTORING, epoch=epoch))
        found = found.model_copy(update={"owner": found.owner.model_copy(update={"epoch": 2})})
        assert found.is_doubted("u1") is is_doubted
        assert found.is_disposable("u1") is not is_doubted
        assert not found.is_doubted("u2")


@pytest.mark.field("D9")
def test_the_archive_of_a_home_that_was_given_up_is_remembered() -> None:
    """With the epoch in which it was named, until a home is handed out, or all is purged."""
    given_up = record(volume("u1", VolumeState.RESTORING, archive_id="a1", epoch=3)).with_volume(None)
    assert given_up.named_archive == ("a1", 3)
    again = given_up.with_volume(volume("u2", VolumeState.RESTORING))
    assert again.handed_out("u2").with_volume(None).named_archive[0] is None
    assert given_up.purged().named_archive[0] is None


async def test_a_purge_of_before_places_were_noted_is_still_a_record() -> None:
    """It sealed a volume that was never archived, and did not note itself: every later run can claim over it."""
    store = MemoryStore()
    bare = record(VolumeRecord(uid="u1", state=VolumeState.DELETING))
    bare = bare.model_copy(update={"owner": bare.owner.model_copy(update={"operation": "purge", "signed_off": True})})
    await write_record(store, bare, None)
    fenced = FencedRecord(store, WS, "run-2")
    await fenced.claim(Claimant("here", "restore"))
    claimed = await fenced.check()
    assert claimed.volume is not None
    assert (claimed.volume.place, claimed.volume.purged_by) == ("here", "run-1")


@pytest.mark.parametrize("state", VolumeState)
def test_what_is_being_deleted_becomes_nothing_else(state: VolumeState) -> None:
    """[H3] Nor does another volume than the record's, nor one of a record that has none."""
    for now in (record(volume("u1", VolumeState.DELETING)), record(volume("u2", VolumeState.READY)), record()):
        with pytest.raises(StorageError) as refused:
            now.with_state("u1", state, "a1", fingerprint="b3:" + "f" * 64)
        assert refused.value.code == ErrorCode.NOT_YOURS


def test_a_volume_is_handed_out_once() -> None:
    """Ready again is the same record, moment and all; of another volume it is refused."""
    first = record(volume("u1", VolumeState.RESTORING, made_by="run-1")).handed_out("u1")
    assert first.volume is not None
    assert (first.volume.state, first.volume.made_by) == (VolumeState.READY, None)
    assert first.volume.handed_out_at is not None
    assert first.handed_out("u1") is first
    with pytest.raises(StorageError):
        first.handed_out("u2")


def test_what_is_archived_is_known_by_its_archive() -> None:
    """With the epoch of the run that said so."""
    ready = record(volume("u1", VolumeState.READY))
    now = ready.with_state("u1", VolumeState.ARCHIVED, "a2", fingerprint="b3:" + "e" * 64)
    assert now.named_archive == ("a2", 1)


def test_a_seal_is_for_the_records_volume_alone() -> None:
    """Another uid, or none there, and nothing is sealed."""
    for now in (record(volume("u2", VolumeState.READY)), record()):
        with pytest.raises(StorageError) as refused:
            now.sealed("u1", purged_by="run-1")
        assert refused.value.code == ErrorCode.NOT_YOURS


def test_a_seal_keeps_its_first_evidence() -> None:
    """A purge that finds a volume sealed by an archive does not put its own name in the place of that."""
    purged = record(volume("u1", VolumeState.READY)).sealed("u1", purged_by="run-1")
    assert purged.volume is not None
    assert (purged.volume.state, purged.volume.purged_by) == (VolumeState.DELETING, "run-1")
    again = record(volume("u1", VolumeState.DELETING)).sealed("u1", purged_by="run-1")
    assert again.volume is not None
    assert (again.volume.archive_id, again.volume.purged_by) == ("a1", None)


def test_a_volume_that_is_worth_nothing_is_given_up() -> None:
    """The record's own leaves the record; of another one only the uid is noted, and the list stays bounded."""
    now = record(volume("u1", VolumeState.RESTORING))
    assert (now.with_given_up("u1").volume, now.with_given_up("u1").given_up) == (None, ("u1",))
    for number in range(GIVEN_UP_KEPT + 1):
        now = now.with_given_up(f"x{number}")
    assert now.volume is not None
    assert now.given_up == tuple(f"x{number}" for number in range(1, GIVEN_UP_KEPT + 1))
    assert now.is_disposable("x1")


def test_a_volume_that_was_left_is_named_with_its_place() -> None:
    """As purge tells it, for who must go there."""
    assert str(LeftBehind(uid="u1", place="there")) == "volume u1 at place there"
