"""What may be cleared away before an operation begins, and whom it must not touch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from activities.backends.base import Presence, VolumeUser, VolumeView
from activities.control.cleanup import Cleanup, describe_loss
from activities.control.services import Services
from activities.state.fence import Claimant, FencedRecord
from activities.state.proof import ArchiveState
from activities.state.record import Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key
from tests.fakes.memory_backend import KEY, MemoryBackend
from tests.fakes.memory_store import MemoryStore

WS = "ws1"
EVIDENCE = {"archive_id": "a1", "fingerprint": "b3:" + "f" * 64}


class Ground:
    """A workspace that run-1 has claimed, and the volume that stands there."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.backend = MemoryBackend()
        self.clearing = Cleanup(Services(self.store, self.backend, "here"))
        self.fenced = FencedRecord(self.store, WS, "run-1")

    async def begin(self, uid: str | None = None, state: VolumeState | None = None, **facts: Any) -> Record:
        """``uid`` stands there and, if ``state`` is given, in the record."""
        await self.fenced.claim(Claimant("here", "archive"))
        self.backend.volume = VolumeView(KEY, uid) if uid else None
        volume = VolumeRecord(**{"uid": uid or "gone", "state": state, "place": "here", **facts}) if state else None
        return await self.fenced.change(lambda now: now.with_volume(volume))

    def as_seen_without_users(self) -> VolumeView:
        """What stands there, for who does not ask for its users."""
        assert self.backend.volume is not None
        return replace(self.backend.volume, users=None)


@pytest.fixture
def ground() -> Ground:
    """Nothing is there yet."""
    return Ground()


async def code_of(call: Any) -> ErrorCode:
    """How the call fails."""
    with pytest.raises(StorageError) as failed:
        await call
    return failed.value.code


async def test_where_nothing_is_nothing_is_done(ground: Ground) -> None:
    """The record is answered as it is."""
    record = await ground.begin()
    assert await ground.clearing.settled(ground.fenced) == (None, record)
    assert await ground.clearing.settled_for_archive(ground.fenced) == (None, record)
    assert ground.backend.done == []


@pytest.mark.parametrize("state", [VolumeState.READY, VolumeState.ARCHIVED])
async def test_a_home_that_was_handed_out_stays(ground: Ground, state: VolumeState) -> None:
    """[H2] Whoever looks."""
    await ground.begin("u1", state, **EVIDENCE)
    view, _ = await ground.clearing.settled(ground.fenced)
    assert view == ground.as_seen_without_users()
    view, _ = await ground.clearing.settled_for_archive(ground.fenced)
    assert view is ground.backend.volume is not None
    assert ground.backend.done == []


async def test_a_volume_that_is_not_ours_stays(ground: Ground) -> None:
    """It has no uid, so no record can say that it is rubbish."""
    await ground.begin()
    ground.backend.volume = VolumeView(KEY, None)
    view, _ = await ground.clearing.settled(ground.fenced)
    assert view == ground.as_seen_without_users()
    assert ground.backend.done == []


async def test_what_nobody_was_handed_goes_with_its_mover(ground: Ground) -> None:
    """The mover first, which may still write; and it is looked at again after."""
    await ground.begin("u1", VolumeState.RESTORING, made_by="run-0")
    view, _ = await ground.clearing.settled(ground.fenced)
    assert view is None
    assert ground.backend.done == ["detach u1", "delete u1"]


async def test_it_is_cleared_until_it_is_gone(ground: Ground) -> None:
    """A backend that shows the volume again is asked again."""
    await ground.begin("u1", VolumeState.RESTORING, made_by="run-0")
    ground.backend.stays = 1
    assert (await ground.clearing.settled(ground.fenced))[0] is None
    assert ground.backend.done == ["detach u1", "delete u1"] * 2


async def test_the_one_to_keep_is_kept(ground: Ground) -> None:
    """A restore that goes on with its own half-made volume does not clear it."""
    await ground.begin("u1", VolumeState.RESTORING, made_by="run-1")
    view, _ = await ground.clearing.settled(ground.fenced, keep="u1")
    assert view == ground.as_seen_without_users()
    assert ground.backend.done == []


async def test_a_late_look_clears_nothing(ground: Ground) -> None:
    """[H1] Its own run has announced the volume since: that attempt is over, and so is its right to clear."""
    await ground.begin("u1", VolumeState.RESTORING, made_by="run-1")
    assert await code_of(ground.clearing.settled(ground.fenced)) == ErrorCode.NOT_YOURS
    assert ground.backend.done == []


async def test_a_run_that_was_overtaken_clears_nothing(ground: Ground) -> None:
    """The fence is read before each step, also between the mover's end and the deletion."""
    await ground.begin("u1", VolumeState.RESTORING, made_by="run-0")
    other = FencedRecord(ground.store, WS, "run-2")
    ground.backend.at["delete"] = lambda: other.claim(Claimant("here", "restore"))
    assert await code_of(ground.clearing.settled(ground.fenced)) == ErrorCode.NOT_YOURS
    assert ground.backend.done == ["detach u1"]


async def test_what_is_being_deleted_is_waited_for(ground: Ground) -> None:
    """Elsewhere: the answer is to come again."""
    await ground.begin("u1", VolumeState.READY)
    ground.backend.volume = VolumeView(KEY, "u1", presence=Presence.TERMINATING)
    assert await code_of(ground.clearing.settled(ground.fenced)) == ErrorCode.BACKEND_UNAVAILABLE


async def test_an_archive_finds_a_half_made_volume_there(ground: Ground) -> None:
    """It is the caller's to refuse; one that was given up goes."""
    await ground.begin("u1", VolumeState.RESTORING, made_by="run-0")
    assert (await ground.clearing.settled_for_archive(ground.fenced))[0] is not None
    await ground.fenced.change(lambda now: now.with_volume(None))
    assert (await ground.clearing.settled_for_archive(ground.fenced))[0] is None


@pytest.mark.parametrize("has_trace", [True, False])
async def test_a_sealed_volume_is_finished_as_a_commit(ground: Ground, has_trace: bool) -> None:
    """Where there is any trace of an archive it stays for that; where there is none a purge had sealed it."""
    await ground.begin("u1", VolumeState.DELETING, **EVIDENCE)
    if has_trace:
        ground.store.place(archive_key(WS), b"bytes", etag="e", metadata={})
    view, _ = await ground.clearing.settled_for_archive(ground.fenced)
    assert (view is not None) is has_trace
    assert ground.backend.done == ([] if has_trace else ["detach u1", "delete u1"])


@pytest.mark.parametrize(
    ("facts", "standing"),
    [
        ({"state": VolumeState.READY}, ArchiveState.PROVEN),
        ({"state": VolumeState.DELETING, "gone": True, **EVIDENCE}, ArchiveState.PROVEN),
        ({"state": VolumeState.DELETING, "place": "there", **EVIDENCE}, ArchiveState.PROVEN),
        ({"state": VolumeState.DELETING, **EVIDENCE}, ArchiveState.ELSE),
        ({"state": VolumeState.DELETING, "purged_by": "run-0"}, ArchiveState.NOTHING),
        ({"state": VolumeState.DELETING, "purged_by": "run-0", "archive_id": "a1"}, ArchiveState.NOTHING),
    ],
)
async def test_a_seal_asks_for_its_archive(ground: Ground, facts: dict[str, Any], standing: ArchiveState) -> None:
    """Only one of this place whose deletion was not seen to its end, and only for an archive that it became."""
    record = await ground.begin("u1", **facts)
    ground.store.place(archive_key(WS), b"bytes", etag="e", metadata={})  # of which no manifest tells
    assert await ground.clearing.sealed(record) is standing


async def test_a_record_without_a_volume_has_no_archive(ground: Ground) -> None:
    """Whatever is stored."""
    record = await ground.begin()
    assert await ground.clearing.sealed(record) is ArchiveState.PROVEN
    assert await ground.clearing.archive_state(record) is ArchiveState.NOTHING


STOPPED = VolumeUser("dev", stopped=True, ours=True)


@pytest.mark.parametrize(
    ("users", "remove", "is_free"),
    [
        ((), False, True),
        ((STOPPED,), True, True),
        ((STOPPED,), False, False),
        ((STOPPED, VolumeUser("run")), True, False),
        ((replace(STOPPED, ours=False),), True, False),
        ((replace(STOPPED, stopped=False),), True, False),
    ],
)
async def test_who_may_be_removed(ground: Ground, users: tuple[VolumeUser, ...], remove: bool, is_free: bool) -> None:
    """Stopped ones of this workspace, all of them, where the caller said so. The others are named."""
    await ground.begin("u1", VolumeState.READY)
    view = VolumeView(KEY, "u1", users=users)
    ground.backend.volume = view
    if is_free:
        await ground.clearing.check_unused(ground.fenced, view, remove_stopped=remove)
        assert ground.backend.volume.users == ()
        return
    with pytest.raises(StorageError) as held:
        await ground.clearing.check_unused(ground.fenced, view, remove_stopped=remove)
    assert held.value.code == ErrorCode.VOLUME_IN_USE
    assert held.value.details["users"] == [user.name for user in users]
    assert held.value.details["stopped"] is all(user.stopped for user in users)
    assert ground.backend.done == []


async def test_who_comes_while_others_are_removed_is_seen(ground: Ground) -> None:
    """It is looked again after; a volume that went away meanwhile has no users."""
    await ground.begin("u1", VolumeState.READY)
    view = VolumeView(KEY, "u1", users=(STOPPED,))
    ground.backend.volume = replace(view, users=(STOPPED, VolumeUser("late")))
    check = ground.clearing.check_unused
    assert await code_of(check(ground.fenced, view, remove_stopped=True)) == ErrorCode.VOLUME_IN_USE
    ground.backend.volume = None
    await check(ground.fenced, view, remove_stopped=True)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"state": VolumeState.READY, "handed_out_at": "2026-01-01"}, "(handed out at 2026-01-01) is not there"),
        ({"state": VolumeState.ARCHIVED, **EVIDENCE}, "became archive a1, which is gone from the bucket"),
        ({"state": VolumeState.READY, "place": "there"}, "was left behind at place 'there'"),
        ({"state": VolumeState.READY, "place": None}, "is not there, and nobody of ours deleted it"),
    ],
)
async def test_a_loss_is_told_as_it_was(ground: Ground, facts: dict[str, Any], says: str) -> None:
    """As far as the record knows."""
    record = await ground.begin("u1", **facts)
    assert record.volume is not None
    assert says in describe_loss(record, record.volume)
