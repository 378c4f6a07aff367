"""[H10] A COLD workspace belongs to no place: it restores wherever the bucket is shared, and at one place at a time.

Each place has a Temporal server of its own, so no workflow id keeps two runs of one workspace apart; the record does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from activities.state.fence import read_record, write_record
from activities.state.proof import read_manifest
from activities.state.record import LeftBehind, Record, VolumeState
from codehub_storage import ErrorCode, StorageError
from codehub_storage.keys import workflow_id
from tests.harness.commands import cli
from tests.harness.homes import archived, provisioned, read, record_of, uid_of, write
from tests.harness.refusals import refused
from tests.harness.s3server import S3Server
from tests.harness.scale import trials
from tests.harness.site import Site, open_site, other_place
from tests.harness.stops import paused_at, until
from tests.harness.temporal import temporal_in
from worker.dev.temporal import TemporalServer

pytestmark = pytest.mark.field("L10")

HERE = frozenset({ErrorCode.OPERATION_IN_PROGRESS, ErrorCode.WRONG_STORE, ErrorCode.NOT_YOURS})
"""What the one that did not win may be told."""


@pytest.fixture(scope="module")
def own_temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """The server of the other place."""
    with temporal_in(tmp_path_factory.mktemp("other-temporal")) as server:
        yield server


@pytest.fixture
async def places(
    tmp_path: Path, temporal_server: TemporalServer, own_temporal: TemporalServer, site_store: S3Server
) -> AsyncIterator[tuple[Site, Site]]:
    """Two places with one bucket, and a worker that can be armed at each."""
    async with (
        open_site(tmp_path / "one", temporal_server, site_store) as one,
        other_place(one, tmp_path / "two", own_temporal) as two,
    ):
        for site in (one, two):
            site.start_worker(CODEHUB_STORAGE_FAILPOINT=f"@{armed(site)}")
        yield one, two


def armed(site: Site) -> Path:
    """The file that arms the site's worker."""
    return site.folder / "failpoint"


async def volumes_by_doctor(site: Site) -> dict[str, str]:
    """What doctor finds about the volumes at a place."""
    doctor = json.loads((await cli(site, "doctor", "--json")).out)
    found: dict[str, str] = next(each for each in doctor["checks"] if each["check"] == "place.volumes")
    return found


async def put(site: Site, change: object) -> None:
    """Write a record past everything of ours."""
    assert isinstance(change, Record)
    found = await read_record(site.truth, change.workspace_id)
    assert found is not None
    await write_record(site.truth, change.model_copy(update={"revision": found[0].revision + 1}), found[1])


async def test_a_cold_workspace_restores_at_the_other_place_and_back(places: tuple[Site, Site]) -> None:
    """The record goes along, a finished archive leaves nothing behind, and the place that was left is refused."""
    one, two = places
    workspace, key = await archived(one)
    result = await (await two.storage.start_restore(key)).result()
    assert read(two, workspace) == "first"
    assert (result.leftovers, result.lost_volume_uid) == ((), None)
    record = await record_of(two, workspace)
    assert (record.place, record.left_behind) == (two.place, ())
    assert record.volume is not None
    assert record.volume.place == two.place
    for call in (one.storage.archive(one.key(workspace)), one.storage.provision(workspace), one.storage.restore(key)):
        assert (await refused(call)).code == ErrorCode.WRONG_STORE
    write(two, workspace, "second")
    assert await two.storage.archive(two.key(workspace)) == key
    await one.storage.restore(key)
    assert read(one, workspace) == "second"
    assert not two.volume(workspace).exists()


async def test_a_cold_workspace_is_purged_from_the_other_place(places: tuple[Site, Site]) -> None:
    """Its archive goes, and nothing is named as left."""
    one, two = places
    _, key = await archived(one)
    result = await (await two.storage.start_purge(None, key)).result()
    assert result.leftovers == ()
    assert await one.truth.head(key) is None


async def test_of_two_restores_at_once_one_wins(places: tuple[Site, Site]) -> None:
    """Again and again: one place has the home, the other is refused and has nothing; the loser wins it afterwards."""
    for _ in range(trials(4)):
        workspace, key = await archived(places[0])
        ends = await asyncio.gather(*(each.storage.restore(key) for each in places), return_exceptions=True)
        await check_one_winner(places, workspace, ends)


async def check_one_winner(places: tuple[Site, Site], workspace: str, ends: Sequence[str | BaseException]) -> None:
    """One answered a key and has the home; the other failed, has none, and is refused when it calls again."""
    winners = [site for site, end in zip(places, ends, strict=True) if isinstance(end, str)]
    failures = [end for end in ends if isinstance(end, BaseException)]
    assert len(winners) == 1, ends
    assert all(isinstance(each, StorageError) and each.code in HERE for each in failures), ends
    assert read(winners[0], workspace) == "first"
    (loser,) = [site for site in places if site not in winners]
    assert not loser.volume(workspace).exists()
    record = await record_of(loser, workspace)
    assert record.place == winners[0].place
    assert record.volume is not None
    assert record.volume.state == VolumeState.READY
    again = await refused(loser.storage.restore(f"{workspace}/home.tar.gz"))
    assert again.code == ErrorCode.WRONG_STORE
    assert again.details == {"uid": record.volume.uid, "place": winners[0].place}


@pytest.mark.parametrize("point", ["control.store.put_if.before", "control.store.put_if.after"])
async def test_a_claim_that_is_held_loses_or_wins_whole(places: tuple[Site, Site], tmp_path: Path, point: str) -> None:
    """Held before its PUT, the other place takes the workspace; held behind it, the other one is refused."""
    one, two = places
    workspace, key = await archived(one)
    gate = tmp_path / "gate"
    armed(one).write_text(f"{point}:1:once={tmp_path / 'once'}:pause={gate}")
    held = asyncio.create_task(one.storage.restore(key))
    await paused_at(gate)
    theirs = asyncio.create_task(two.storage.restore(key))
    await asyncio.wait([theirs])
    gate.touch()
    ends = await asyncio.gather(held, theirs, return_exceptions=True)
    await check_one_winner(places, workspace, ends)
    assert isinstance(ends[0], str) is point.endswith("after")


@pytest.mark.parametrize("visit", [1, 2, 3])
@pytest.mark.parametrize("side", ["before", "after"])
async def test_killed_at_each_write_of_the_record_it_goes_on(
    places: tuple[Site, Site], tmp_path: Path, side: str, visit: int
) -> None:
    """Claim, announcement, hand-out at the new place: a worker killed before or behind it costs time only."""
    one, two = places
    workspace, key = await archived(one)
    armed(two).write_text(f"control.store.put_if.{side}:{visit}:once={tmp_path / 'once'}")
    restoring = asyncio.create_task(two.storage.restore(key))

    async def is_killed() -> bool:
        return (tmp_path / "once").exists()

    await until(is_killed, "the worker was not killed")
    two.start_worker()
    await restoring
    assert read(two, workspace) == "first"
    record = await record_of(two, workspace)
    assert (record.place, record.left_behind) == (two.place, ())


@pytest.mark.parametrize("state", [VolumeState.READY, VolumeState.ARCHIVED])
async def test_work_stays_where_it_is_unless_its_loss_is_accepted(
    places: tuple[Site, Site], state: VolumeState
) -> None:
    """WrongStore names volume and place; told that uid, the other place goes on, and says in all ways what is left."""
    one, two = places
    workspace, key = await archived(one, text="archived")
    await one.storage.restore(key)
    write(one, workspace, "newer")
    record = await record_of(one, workspace)
    assert record.volume is not None
    uid = record.volume.uid
    manifest = await read_manifest(one.truth, key)
    assert manifest is not None
    proven = {"archive_id": manifest[0].archive_id, "fingerprint": "b3:" + "0" * 64}
    volume = record.volume.model_copy(update={"state": state, **proven})
    if state is VolumeState.ARCHIVED:
        await put(one, record.model_copy(update={"volume": volume}))
    for call in (
        two.storage.restore(key),
        two.storage.purge(None, key),
        two.storage.restore(key, old_place_is_dead=True),
        two.storage.restore(key, accept_loss=f"{workspace}-0123456789abcdef"),
    ):
        error = await refused(call)
        assert error.code == ErrorCode.WRONG_STORE
        assert error.details == {"uid": uid, "place": one.place}
    assert (await record_of(one, workspace)).place == one.place

    result = await (await two.storage.start_restore(key, accept_loss=uid)).result()
    assert read(two, workspace) == "archived"
    assert read(one, workspace) == "newer"
    left = LeftBehind(uid=uid, place=one.place)
    assert result.leftovers == (str(left),)
    assert result.lost_volume_uid == (uid if state is VolumeState.READY else None)
    assert (await record_of(two, workspace)).left_behind == (left,)

    check = await volumes_by_doctor(one)
    assert (check["state"], uid in check["text"]) == ("warning", True), check
    assert f"may still stand: volume {uid} at place {one.place}" in (await cli(two, "show", workspace)).out
    purged = await (await two.storage.start_purge(two.key(workspace), key)).result()
    assert purged.leftovers == (str(left),)


@pytest.mark.parametrize("by", ["restore", "purge"])
async def test_a_home_that_another_place_never_replaced_is_not_called_left_behind(
    places: tuple[Site, Site], by: str
) -> None:
    """The other place has the record and announced nothing: doctor says that it comes back, and so it does."""
    one, two = places
    workspace, key = await archived(one, text="archived")
    await one.storage.restore(key)
    write(one, workspace, "newer")
    uid = await uid_of(one, workspace)
    if by == "restore":
        failed = await refused(two.storage.restore(key, archive_id="0" * 32, accept_loss=uid))
        assert failed.code == ErrorCode.ARCHIVE_NOT_FOUND
    else:
        await (await two.storage.start_purge(None, key, accept_loss=uid)).result()
    record = await record_of(one, workspace)
    assert (record.place, record.volume_place, record.left_behind) == (two.place, one.place, ())

    check = await volumes_by_doctor(one)
    assert f"the volume is here, the record of {workspace} at place {two.place}" in check["text"]
    assert ("left behind" in check["text"], "by hand" in check["hint"]) == (False, False), check
    assert "takes such a record back" in check["hint"]
    assert await one.storage.archive(one.key(workspace)) == key
    assert (await record_of(one, workspace)).place == one.place
    await one.storage.restore(key)
    assert read(one, workspace) == "newer"


async def test_what_was_left_behind_goes_when_the_workspace_comes_back(places: tuple[Site, Site]) -> None:
    """It was given up: the next restore at its place deletes it, and nothing is left any more."""
    one, two = places
    workspace, key = await archived(one, text="archived")
    await one.storage.restore(key)
    write(one, workspace, "newer")
    await two.storage.restore(key, accept_loss=await uid_of(one, workspace))
    write(two, workspace, "other")
    await two.storage.archive(two.key(workspace))
    result = await (await one.storage.start_restore(key)).result()
    assert read(one, workspace) == "other"
    assert result.leftovers == ()
    assert (await record_of(one, workspace)).left_behind == ()


async def test_a_run_that_never_ended_holds_the_workspace_until_its_place_is_said_to_be_dead(
    places: tuple[Site, Site], tmp_path: Path
) -> None:
    """OperationInProgress names run and place; then the half-made volume stays behind and nobody is handed it."""
    one, two = places
    workspace, key = await archived(one)
    gate = tmp_path / "gate"
    armed(one).write_text(f"control.backend.create.after:1:once={tmp_path / 'once'}:pause={gate}")
    handle = await one.storage.start_restore(key)
    await paused_at(gate)
    half = await uid_of(one, workspace)
    error = await refused(two.storage.restore(key))
    assert error.code == ErrorCode.OPERATION_IN_PROGRESS
    assert error.retryable
    assert (error.details["run_id"], error.details["place"]) == (handle.run_id, one.place)
    result = await (await two.storage.start_restore(key, old_place_is_dead=True)).result()
    assert read(two, workspace) == "first"
    assert result.leftovers == (f"volume {half} at place {one.place}",)
    gate.touch()  # the old place was not dead at all
    assert (await refused(handle.result())).code in HERE
    assert read(two, workspace) == "first"
    assert (await record_of(two, workspace)).place == two.place


async def test_a_restore_that_fails_at_the_new_place_locks_nobody_out(places: tuple[Site, Site]) -> None:
    """The claim took the place and nothing else: here again or there, the workspace is still COLD."""
    one, two = places
    workspace, key = await archived(one)
    assert (await refused(two.storage.restore(key, archive_id="0" * 32))).code == ErrorCode.ARCHIVE_NOT_FOUND
    assert (await record_of(two, workspace)).place == two.place
    await one.storage.restore(key)
    assert read(one, workspace) == "first"
    assert (await record_of(one, workspace)).place == one.place


async def test_a_volume_that_stays_behind_sealed_is_named_by_who_archives_again(places: tuple[Site, Site]) -> None:
    """Sealed and not seen to be gone: the record leaves it, archive at the new place says where it may still stand."""
    one, two = places
    workspace, key = await archived(one)
    record = await record_of(one, workspace)
    assert record.volume is not None
    assert record.volume.gone
    await put(one, record.model_copy(update={"volume": record.volume.model_copy(update={"gone": False})}))
    left = f"volume {record.volume.uid} at place {one.place}"
    assert (await refused(two.storage.restore(key, archive_id="0" * 32))).code == ErrorCode.ARCHIVE_NOT_FOUND
    assert (await (await two.storage.start_archive(two.key(workspace))).result()).leftovers == (left,)
    assert (await (await two.storage.start_restore(key)).result()).leftovers == (left,)


async def test_an_open_run_of_another_place_is_not_cancelled_from_here(places: tuple[Site, Site]) -> None:
    """cancel asks the server of its own place: WrongStore, since an archive may not take the workspace."""
    one, two = places
    workspace, _ = await provisioned(one)
    assert (await refused(two.storage.cancel(workspace))).code == ErrorCode.WRONG_STORE
    assert read(one, workspace) == "first"
    assert await one.temporal.get_workflow_handle(workflow_id(workspace)).describe()
