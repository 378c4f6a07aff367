"""[H12] A bucket that was copied rolls its records back: what they call half-made may be somebody's home since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from activities.objectstore.identity import IDENTITY_KEY, load_identity
from activities.state.fence import read_record, write_record
from activities.state.record import Record, VolumeState
from codehub_storage import ErrorCode
from codehub_storage.keys import manifest_key
from tests.harness.commands import cli, typed
from tests.harness.homes import archived, provisioned, read, record_of, write
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


async def rewrite(site: Site, workspace: str, **fields: Any) -> Record:
    """The record with other facts of its volume, as an older copy may have them."""
    found = await read_record(site.truth, workspace)
    assert found is not None
    record, etag = found
    assert record.volume is not None
    volume = record.volume.model_copy(update=fields)
    written = record.model_copy(update={"volume": volume, "revision": record.revision + 1})
    await write_record(site.truth, written, etag)
    return written


async def forget_archive(site: Site, key: str) -> None:
    """Nothing of it is stored any more."""
    for each in (key, manifest_key(key)):
        for version in await site.truth.list_versions(each):
            await site.truth.delete(each, version_id=version.version_id)


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
        taking, dropping = typed(error.hint)
        assert taking == f"codehub-storage adopt {volume}"
        assert dropping.endswith(f" --accept-loss {older.volume.uid}")
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


@pytest.mark.field("D9")
async def test_a_half_made_home_that_somebody_has_is_not_dropped(site: Site) -> None:
    """Whatever the caller names: VolumeInUse. The archive's key alone does not reach it, either."""
    workspace, key = await archived(site)
    await site.storage.restore(key)
    older = await roll_back(site, workspace)
    assert older.volume is not None
    await raise_epoch(site)
    with site.habitat.using(workspace):
        dropped = site.storage.restore(key, accept_loss=older.volume.uid)
        assert (await refused(dropped)).code == ErrorCode.VOLUME_IN_USE
        assert read(site, workspace) == "first"
    result = await (await site.storage.start_purge(None, key, accept_loss=older.volume.uid)).result()
    assert result.leftovers == (site.habitat.key(workspace),)
    assert read(site, workspace) == "first"


@pytest.mark.field("D9")
async def test_a_home_that_changed_since_an_older_record_called_it_archived_is_kept(site: Site) -> None:
    """What stands may be half of what was archived: no archive is made of it, and no cancel calls it ready."""
    workspace, key = await archived(site)
    cold = (await record_of(site, workspace)).volume
    assert cold is not None
    volume = await site.storage.restore(key)
    write(site, workspace, "half")
    other = {"archive_id": "of-another-time", "fingerprint": "b3:" + "0" * 64}
    await rewrite(site, workspace, state=VolumeState.ARCHIVED, **other)
    await raise_epoch(site)
    for call in (
        site.storage.archive(volume),
        site.storage.cancel(workspace),
        site.storage.restore(key, archive_id=cold.archive_id),
    ):
        assert (await refused(call)).code == ErrorCode.VOLUME_CONFLICT
    assert read(site, workspace) == "half"
    assert (await record_of(site, workspace)).volume.state == VolumeState.ARCHIVED  # type: ignore[union-attr]


@pytest.mark.field("D9")
async def test_a_sealed_home_is_kept_where_nothing_of_its_archive_is_stored(site: Site) -> None:
    """ArchiveNotFound, whoever asks: the only copy at hand is not cleared away. A purge of its key does that."""
    workspace, key = await archived(site)
    cold = (await record_of(site, workspace)).volume
    assert cold is not None
    volume = await site.storage.restore(key)
    await rewrite(site, workspace, state=VolumeState.DELETING, archive_id=cold.archive_id, fingerprint=cold.fingerprint)
    await forget_archive(site, key)
    for call in (site.storage.provision(workspace), site.storage.archive(volume), site.storage.cancel(workspace)):
        assert (await refused(call)).code == ErrorCode.ARCHIVE_NOT_FOUND
        assert read(site, workspace) == "first"
    await site.storage.purge(volume, key)
    assert not site.volume(workspace).exists()


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
