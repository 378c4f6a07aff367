"""[10] Purge ends in evidence, and touches exactly what its keys name."""

from __future__ import annotations

import pytest

from codehub_storage import ErrorCode, StorageError
from codehub_storage.keys import archive_key, manifest_key, record_key
from tests.harness.homes import archived, provisioned, read, record_of
from tests.harness.site import Site


async def test_a_neighbour_whose_name_begins_alike_is_not_touched(common_site: Site) -> None:
    """Workspaces x and x0: purging x leaves volume and archive of x0."""
    site = common_site
    short = site.workspace_id()
    long = f"{short}0"
    volumes = {each: await site.storage.provision(each) for each in (short, long)}
    key = await site.storage.archive(volumes[long])
    await site.storage.restore(key)
    await site.storage.purge(volumes[short], archive_key(short))
    assert not site.volume(short).exists()
    assert site.volume(long).exists()
    assert await site.truth.head(key) is not None
    assert await site.truth.head(manifest_key(key)) is not None


async def test_the_volume_alone_leaves_the_archive(common_site: Site) -> None:
    """purge(volume, None): the archive stays, is named as left, and restores."""
    site = common_site
    workspace, key = await archived(site)
    volume = await site.storage.restore(key)
    result = await (await site.storage.start_purge(volume, None)).result()
    assert volume in result.removed
    assert set(result.leftovers) == {key, manifest_key(key)}
    assert not site.volume(workspace).exists()
    await site.storage.restore(key)
    assert read(site, workspace) == "first"


async def test_the_archive_alone_leaves_a_ready_volume(common_site: Site) -> None:
    """purge(None, archive): the volume that a user has stays, and is named as left."""
    site = common_site
    workspace, key = await archived(site)
    volume = await site.storage.restore(key)
    result = await (await site.storage.start_purge(None, key)).result()
    assert result.leftovers == (volume,)
    assert await site.truth.head(key) is None
    assert read(site, workspace) == "first"


async def test_strangers_under_the_prefix_are_named_and_kept(common_site: Site) -> None:
    """An object that is not ours survives the purge of both keys, and the result says so."""
    site = common_site
    workspace, key = await archived(site)
    await site.truth.put_if(f"{workspace}/notes.txt", b"theirs", etag=None)
    result = await (await site.storage.start_purge(site.key(workspace), key)).result()
    assert result.leftovers == (f"{workspace}/notes.txt",)
    assert await site.truth.list_keys(f"{workspace}/") == [record_key(workspace), f"{workspace}/notes.txt"]


async def test_unfinished_uploads_go_too_and_the_record_stays_as_tombstone(common_site: Site) -> None:
    """Nothing is left but the record, without a volume and with the uid given up."""
    site = common_site
    workspace, key = await archived(site)
    uid = (await record_of(site, workspace)).volume
    assert uid is not None
    for _ in range(3):
        await site.truth.create_upload(key, {})
    await site.storage.purge(site.key(workspace), key)
    assert await site.truth.list_uploads(key) == []
    assert await site.truth.list_keys(f"{workspace}/") == [record_key(workspace)]
    record = await record_of(site, workspace)
    assert record.volume is None
    assert uid.uid in record.given_up


async def test_a_volume_in_use_stops_the_purge_before_anything_is_removed(common_site: Site) -> None:
    """VolumeInUse names who uses it, and the archive is still there."""
    site = common_site
    workspace, key = await archived(site)
    volume = await site.storage.restore(key)
    with site.habitat.using(workspace) as who, pytest.raises(StorageError) as refused:
        await site.storage.purge(volume, key)
    assert refused.value.code == ErrorCode.VOLUME_IN_USE
    assert who in refused.value.message
    assert await site.truth.head(key) is not None


async def test_no_key_is_no_run_and_keys_of_two_workspaces_are_refused(common_site: Site) -> None:
    """purge(None, None) returns; mixed keys are InvalidInput; nothing is removed by either."""
    site = common_site
    workspace, volume = await provisioned(site)
    await site.storage.purge(None, None)
    with pytest.raises(StorageError) as refused:
        await site.storage.purge(volume, archive_key(site.workspace_id()))
    assert refused.value.code == ErrorCode.INVALID_INPUT
    assert read(site, workspace) == "first"
