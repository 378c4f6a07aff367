"""A bucket that was copied rolls its records back: what they call half-made may be somebody's home since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.fencing import read_record, write_record
from activities.objectstore.identity import IDENTITY_KEY, load_identity
from activities.record import Record, VolumeState
from codehub_storage import ErrorCode
from tests.harness.commands import cli
from tests.harness.homes import archived, provisioned, read, record_of
from tests.harness.refusals import refused
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from worker.dev.temporal import TemporalServer

pytestmark = pytest.mark.field("L10")


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A bucket of this test alone: its epoch is raised."""
    async with open_site(tmp_path / "site", temporal_server, site_store) as opened:
        opened.start_worker()
        yield opened


async def raise_epoch(site: Site) -> None:
    """As `init --adopt` does at a copy, before which the workers are stopped."""
    for worker in site.workers:
        worker.kill()
    found = await site.truth.get(IDENTITY_KEY)
    assert found is not None
    identity = await load_identity(site.truth)
    raised = identity.model_copy(update={"epoch": identity.epoch + 1})
    await site.truth.put_if(IDENTITY_KEY, raised.to_json(), etag=found[1].etag)
    site.start_worker()


async def roll_back(site: Site, workspace: str) -> Record:
    """The record as it was while the home was being made, and its run had not ended."""
    found = await read_record(site.truth, workspace)
    assert found is not None
    record, etag = found
    assert record.volume is not None
    volume = record.volume.model_copy(update={"state": VolumeState.RESTORING, "handed_out_at": None, "made_by": "r"})
    owner = record.owner.model_copy(update={"signed_off": False})
    older = record.model_copy(update={"volume": volume, "owner": owner, "revision": record.revision + 1})
    await write_record(site.truth, older, etag)
    return older


async def test_a_home_that_an_older_record_calls_half_made_is_kept(site: Site) -> None:
    """VolumeConflict to every operation, which names both ways out; nothing is written; `adopt` takes it over."""
    workspace, key = await archived(site)
    volume = await site.storage.restore(key)
    older = await roll_back(site, workspace)
    assert older.volume is not None
    await raise_epoch(site)
    for call in (
        site.storage.restore(key),
        site.storage.archive(volume),
        site.storage.provision(workspace),
        site.storage.purge(volume, key),
        site.storage.cancel(workspace),
    ):
        error = await refused(call)
        assert error.code == ErrorCode.VOLUME_CONFLICT
        assert "codehub-storage adopt" in error.hint
        assert f"--accept-loss {older.volume.uid}" in error.hint
    assert await record_of(site, workspace) == older
    assert read(site, workspace) == "first"

    for _ in range(2):
        done = await cli(site, "adopt", volume, "--json")
        assert done.status == 0, done
        assert done.object()["volume_uid"] == older.volume.uid
    record = await record_of(site, workspace)
    assert record.volume is not None
    assert (record.volume.state, record.volume.epoch) == (VolumeState.READY, 2)
    assert record.volume.handed_out_at is not None
    assert await site.storage.archive(volume) == key
    await site.storage.restore(key)
    assert read(site, workspace) == "first"


async def test_a_half_made_home_is_dropped_when_it_is_named(site: Site) -> None:
    """restore with accept_loss of that uid deletes it, and brings the archive back."""
    workspace, key = await archived(site)
    await site.storage.restore(key)
    older = await roll_back(site, workspace)
    assert older.volume is not None
    (site.volume(workspace) / "half").write_text("made")
    await raise_epoch(site)
    assert (await refused(site.storage.restore(key, accept_loss=f"{workspace}-0"))).code == ErrorCode.VOLUME_CONFLICT
    result = await (await site.storage.start_restore(key, accept_loss=older.volume.uid)).result()
    assert result.volume_uid != older.volume.uid
    assert not (site.volume(workspace) / "half").exists()
    assert read(site, workspace) == "first"


async def test_within_one_epoch_what_is_half_made_is_cleared_as_ever(site: Site) -> None:
    """No bucket was copied: a run that died is the only one who knew that volume."""
    workspace, key = await archived(site)
    await site.storage.restore(key)
    await roll_back(site, workspace)
    (site.volume(workspace) / "half").write_text("made")
    await site.storage.restore(key)
    assert not (site.volume(workspace) / "half").exists()


async def test_adopt_takes_only_what_stands_there(site: Site) -> None:
    """The record's uid and no other: VolumeNotFound where nothing stands; ready records are not its business."""
    workspace, volume = await provisioned(site)
    await roll_back(site, workspace)
    await raise_epoch(site)
    site.habitat.lose(workspace)
    done = await cli(site, "adopt", volume, "--json")
    assert done.object()["error"]["code"] == "VolumeNotFound"
    warm, theirs = await provisioned(site)
    done = await cli(site, "adopt", theirs, "--json")
    assert done.object()["error"]["code"] in ("Unsupported", "VolumeConflict")
    assert read(site, warm) == "first"
