"""[10] Purge ends in evidence, and touches exactly what its keys name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.state.fence import read_record, write_record
from activities.state.record import VolumeState
from codehub_storage import ErrorCode, StorageError
from codehub_storage.keys import archive_key, manifest_key, record_key
from tests.fakes.s3_faults import Answer, Exchange, Fault, Reply, on
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.homes import archived, provisioned, read, record_of
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from worker.dev.temporal import TemporalServer


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


async def test_the_archive_alone_keeps_a_home_that_changed_since(common_site: Site) -> None:
    """The record still says `archived`, and the home holds more by now: VolumeChanged before anything is removed."""
    site = common_site
    workspace, key = await archived(site)
    volume = await site.storage.restore(key)
    found = await read_record(site.truth, workspace)
    assert found is not None
    record, etag = found
    assert record.volume is not None
    left = {"state": VolumeState.ARCHIVED, "archive_id": "a1", "fingerprint": "b3:" + "0" * 64}
    changed = {"volume": record.volume.model_copy(update=left), "revision": record.revision + 1}
    await write_record(site.truth, record.model_copy(update=changed), etag)
    with pytest.raises(StorageError) as refused:
        await site.storage.purge(None, key)
    assert refused.value.code == ErrorCode.VOLUME_CHANGED
    assert await site.truth.head(key) is not None
    assert read(site, workspace) == "first"
    await site.storage.purge(volume, key)
    assert not site.volume(workspace).exists()


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


@dataclass
class NothingListed(Fault):
    """Listings of versions and of keys answer that there is nothing, of objects that stand there all the same."""

    times: int | None = None

    async def before(self, exchange: Exchange) -> Answer | None:
        """Only listings."""
        names = {"versions": "ListVersionsResult", "list-type": "ListBucketResult"}
        root = next((root for query, root in names.items() if query in exchange.query), None)
        if exchange.method != "GET" or exchange.key or root is None:
            return None
        body = f"<{root}><IsTruncated>false</IsTruncated></{root}>".encode()
        return Answer(200, "OK", {"Content-Type": "application/xml", "Content-Length": str(len(body))}, body)


@pytest.mark.field("D7")
@pytest.mark.parametrize("versioned", [False, True], ids=["unversioned", "versioned"])
async def test_an_empty_listing_is_no_evidence(
    tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server, versioned: bool
) -> None:
    """What the keys themselves show is removed although nothing lists it: what is current, and the proven version."""
    async with (
        S3Proxy(site_store.ports[0]) as proxy,
        open_site(
            tmp_path / "site", temporal_server, site_store, versioned=versioned, endpoint_url=proxy.endpoint_url
        ) as site,
    ):
        site.start_worker()
        workspace, key = await archived(site)
        other, kept = await archived(site, text="kept")
        proxy.add(NothingListed(), lambda exchange: True)
        result = await (await site.storage.start_purge(site.key(workspace), key)).result()
        assert {each.partition("@")[0] for each in result.removed} >= {key, manifest_key(key)}
        for each in (key, manifest_key(key)):
            assert await site.truth.head(each) is None
        if not versioned:
            assert await site.truth.list_keys(f"{workspace}/") == [record_key(workspace)]
        # The same lie about an archive that is out of scope: it is named as left, and its record is no tombstone.
        result = await (await site.storage.start_purge(site.key(other), None)).result()
        assert set(result.leftovers) == {kept, manifest_key(kept)}
        proxy.clear()
        await site.storage.restore(kept)
        assert read(site, other) == "kept"


@pytest.mark.field("D7")
async def test_what_stands_and_cannot_be_removed_is_named(
    tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server
) -> None:
    """Neither listed nor removed, though the store says that it was: PurgeIncomplete, and no tombstone."""
    async with (
        S3Proxy(site_store.ports[0]) as proxy,
        open_site(tmp_path / "site", temporal_server, site_store, endpoint_url=proxy.endpoint_url) as site,
    ):
        site.start_worker()
        workspace, key = await archived(site)
        proxy.add(NothingListed(), lambda exchange: True)
        proxy.add(Reply(times=None, status=204, code=None), on(method="DELETE", key=key))
        with pytest.raises(StorageError) as incomplete:
            await site.storage.purge(site.key(workspace), key)
        assert incomplete.value.code == ErrorCode.PURGE_INCOMPLETE
        assert key in incomplete.value.message
        assert await site.truth.head(key) is not None
        assert (await record_of(site, workspace)).volume is not None
        proxy.clear()
        await site.storage.purge(site.key(workspace), key)
        assert await site.truth.list_keys(f"{workspace}/") == [record_key(workspace)]
