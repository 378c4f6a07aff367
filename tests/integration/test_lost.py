"""[H11] A home that vanished is told as lost, by whoever is asked, and nothing is ever put in its place unasked."""

from __future__ import annotations

import json

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata

from codehub_storage import ErrorCode, StorageError
from codehub_storage.keys import archive_key, manifest_key, workflow_id
from tests.harness.commands import cli, typed
from tests.harness.habitats import BACKEND
from tests.harness.homes import archived, provisioned, read, record_of, uid_of, write
from tests.harness.site import Site
from tests.harness.stops import world_of

pytestmark = pytest.mark.field("D10")


async def lost(site: Site, call: object, uid: str) -> StorageError:
    """The call fails as it must for this volume."""
    with pytest.raises(StorageError) as failed:
        await call  # type: ignore[misc]
    error = failed.value
    assert error.code == ErrorCode.VOLUME_LOST, error
    assert not error.retryable
    assert error.details["uid"] == uid
    assert uid in error.message
    (command,) = typed(error.hint)
    assert command.endswith(f" --accept-loss {uid}")
    return error


async def test_a_lost_home_is_told_until_somebody_accepts_it(common_site: Site) -> None:
    """provision, archive and cancel answer VolumeLost and change nothing; only that very uid begins anew."""
    site = common_site
    workspace, volume = await provisioned(site)
    uid = await uid_of(site, workspace)
    site.habitat.lose(workspace)
    error = await lost(site, site.storage.provision(workspace), uid)
    record = await record_of(site, workspace)
    assert record.volume is not None
    assert error.details["handed_out_at"] == record.volume.handed_out_at is not None
    await lost(site, site.storage.archive(volume), uid)
    await lost(site, site.storage.cancel(workspace), uid)
    await lost(site, site.storage.provision(workspace, accept_loss=f"{workspace}-0123456789abcdef"), uid)
    assert not site.volume(workspace).exists()
    assert (await record_of(site, workspace)).volume == record.volume

    result = await (await site.storage.start_provision(workspace, accept_loss=uid)).result()
    assert result.lost_volume_uid == uid
    assert result.volume_uid != uid
    assert site.volume(workspace).is_dir()
    assert await site.storage.provision(workspace) == volume


async def test_restore_goes_on_and_tells_what_was_lost(common_site: Site) -> None:
    """The last archive comes back; what was lost stands in the result, in the run's details and in the log."""
    site = common_site
    workspace, key = await archived(site, text="archived")
    volume = await site.storage.restore(key)
    write(site, workspace, "newer")
    uid = await uid_of(site, workspace)
    site.habitat.lose(workspace)
    await lost(site, site.storage.archive(volume), uid)
    handle = await site.storage.start_restore(key)
    result = await handle.result()
    assert (result.lost_volume_uid, result.moved) == (uid, True)
    assert read(site, workspace) == "archived"
    run = site.temporal.get_workflow_handle(workflow_id(workspace), run_id=handle.run_id)
    told = await run.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert f"Lost: volume {uid}" in told.current_details
    assert f"lost: volume {uid}" in site.logs()
    # Whoever asks next is told too, until a restore begins after an archive that told it.
    assert (await (await site.storage.start_restore(key)).result()).lost_volume_uid == uid
    assert (await (await site.storage.start_archive(volume)).result()).lost_volume_uid == uid
    await site.storage.restore(key)
    assert (await (await site.storage.start_restore(key)).result()).lost_volume_uid is None


async def test_a_lost_volume_that_comes_back_is_in_the_way_and_kept(common_site: Site) -> None:
    """Restored meanwhile and archived again, a lost volume that is brought back is nobody's rubbish."""
    if BACKEND != "directory":
        pytest.skip("a folder is what can be moved away and back")
    site = common_site
    workspace, key = await archived(site, text="archived")
    volume = await site.storage.restore(key)
    write(site, workspace, "newer")
    away = site.root / "rescued"
    site.volume(workspace).rename(away)
    await site.storage.restore(key)
    assert await site.storage.archive(volume) == key
    away.rename(site.volume(workspace))
    with pytest.raises(StorageError) as refused:
        await site.storage.restore(key)
    assert refused.value.code == ErrorCode.VOLUME_CONFLICT
    assert read(site, workspace) == "newer"


async def test_an_archive_that_went_away_is_no_empty_home(common_site: Site) -> None:
    """COLD, and object and manifest are gone: an empty volume must not stand in for the home, nor cover that up."""
    site = common_site
    workspace, key = await archived(site)
    uid = await uid_of(site, workspace)
    for each in (key, manifest_key(key)):
        await site.truth.delete(each)
    error = await lost(site, site.storage.provision(workspace), uid)
    assert "archive" in error.message
    result = await (await site.storage.start_provision(workspace, accept_loss=uid)).result()
    assert result.lost_volume_uid == uid


async def test_a_purge_forgets_a_lost_volume_only_when_it_is_named(common_site: Site) -> None:
    """The archive alone: the loss stays in the record and is named as left. Both: a tombstone, and it is told."""
    site = common_site
    workspace, key = await archived(site)
    volume = await site.storage.restore(key)
    uid = await uid_of(site, workspace)
    site.habitat.lose(workspace)
    result = await (await site.storage.start_purge(None, key)).result()
    assert uid in str(result.leftovers)
    await lost(site, site.storage.provision(workspace), uid)
    result = await (await site.storage.start_purge(volume, key)).result()
    assert result.lost_volume_uid == uid
    assert (await record_of(site, workspace)).volume is None
    assert await site.storage.provision(workspace) == volume


async def test_list_show_and_doctor_say_lost(common_site: Site) -> None:
    """Each names it, and what stands is told as seen; a place out of reach is not called lost."""
    site = common_site
    workspace, _ = await provisioned(site)
    there, _ = await provisioned(site)
    uid = await uid_of(site, workspace)
    site.habitat.lose(workspace)

    async def rows(**environment: str) -> dict[str, tuple[str, bool | None]]:
        listed = (await cli(site, "list", "--json", **environment)).object()["workspaces"]
        return {each["workspace_id"]: (each["state"], each["volume_seen"]) for each in listed}

    found = await rows()
    assert (found[workspace], found[there]) == (("lost", False), ("warm", True))
    shown = await cli(site, "show", workspace, "--json")
    assert shown.object()["volume_lost"] is True
    assert f"LOST: volume {uid}" in (await cli(site, "show", workspace)).out
    assert not (await cli(site, "show", there, "--json")).object()["volume_lost"]
    doctor = json.loads((await cli(site, "doctor", "--json")).out)
    check = next(each for each in doctor["checks"] if each["check"] == "place.volumes")
    assert check["state"] == "warning", check
    assert uid in check["text"]
    assert there not in check["text"]
    if BACKEND == "directory":
        with site.habitat.elsewhere():
            assert (await rows())[workspace] == ("warm", None)
    before = await world_of(site, workspace)
    assert before.record is not None
    result = await (await site.storage.start_provision(workspace, accept_loss=uid)).result()
    assert result.volume_uid
    assert (await rows())[workspace] == ("warm", True)
    assert await site.truth.head(archive_key(workspace)) is None
