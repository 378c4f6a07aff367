"""Codes that need a store in a particular state: unproven, replaced, locked."""

from __future__ import annotations

from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from codehub_storage.keys import manifest_key
from tests.harness.homes import archived, provisioned, read
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from worker.dev.temporal import TemporalServer


async def test_an_archive_without_its_manifest_is_not_restored(common_site: Site) -> None:
    """ArchiveUnproven: no tool notices a lost member, so an object of ours is never taken for a foreign archive."""
    _, key = await archived(common_site)
    await common_site.truth.delete(manifest_key(key))
    with pytest.raises(StorageError) as refused:
        await common_site.storage.restore(key)
    assert refused.value.code == ErrorCode.ARCHIVE_UNPROVEN
    assert "--write-manifest" in refused.value.hint


async def test_an_object_that_is_not_the_proven_one_is_not_restored(common_site: Site) -> None:
    """The same archive id, other bytes: ArchiveCorrupt, and no volume is made."""
    site = common_site
    workspace, key = await archived(site)
    info = await site.truth.head(key)
    assert info is not None
    upload = await site.truth.create_upload(key, dict(info.metadata))
    part = await site.truth.upload_part(key, upload, 1, [b"something else"])
    await site.truth.complete_upload(key, upload, [part], archive_id=info.metadata["archive-id"])
    with pytest.raises(StorageError) as refused:
        await site.storage.restore(key)
    assert refused.value.code == ErrorCode.ARCHIVE_CORRUPT
    assert not site.volume(workspace).exists()


async def test_a_purge_that_meets_a_lock_removes_the_rest_and_names_what_is_left(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """PurgeIncomplete: the locked archive is named, the volume is gone; called again without the lock, it ends."""
    async with open_site(tmp_path / "site", temporal_server, seaweed, object_lock=True) as site:
        site.start_worker()
        workspace, key = await archived(site)
        volume = await site.storage.restore(key)
        assert read(site, workspace) == "first"
        version = (await site.truth.list_versions(key))[0].version_id
        client = seaweed.client()
        hold = {"Bucket": site.bucket, "Key": key, "VersionId": version}
        client.put_object_legal_hold(**hold, LegalHold={"Status": "ON"})
        with pytest.raises(StorageError) as refused:
            await site.storage.purge(volume, key)
        assert refused.value.code == ErrorCode.PURGE_INCOMPLETE
        assert key in refused.value.message
        assert str(ErrorCode.ARCHIVE_LOCKED) in refused.value.message
        assert not site.volume(workspace).exists()
        client.put_object_legal_hold(**hold, LegalHold={"Status": "OFF"})
        client.close()
        await site.storage.purge(volume, key)
        assert await site.truth.list_versions(key) == []


async def test_a_cancelled_operation_says_so(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """Who waits for an operation that another cancels gets Cancelled, retryable; the volume is as it was."""
    async with open_site(tmp_path / "site", temporal_server, seaweed, CODEHUB_STORAGE_SETTLE="3600") as site:
        site.start_worker()
        workspace, volume = await provisioned(site)
        running = await site.storage.start_archive(volume)
        assert await site.storage.cancel(workspace) == "cancelled"
        with pytest.raises(StorageError) as cancelled:
            await running.result()
        assert cancelled.value.code == ErrorCode.CANCELLED
        assert cancelled.value.retryable
        assert read(site, workspace) == "first"
