"""[D9] A bucket that was mirrored object by object to another server holds the same archives.

What the mirror does not carry along, an ETag, a version id, perhaps the metadata, decides nothing but which bytes one
read gets. Before a volume is deleted on an archive that only lies there, it is read back whole.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from activities.dataplane.manifest import Manifest
from activities.objectstore.base import ObjectInfo
from activities.state.record import VolumeState
from codehub_storage import ErrorCode, StorageError
from codehub_storage.keys import archive_key, foreign_archive_key, manifest_key, record_key
from tests.harness.homes import archived, provisioned, read, record_of, write
from tests.harness.mirrors import adopt_copy, fence_off, mirror_plainly, moved_site
from tests.harness.refusals import code_of
from tests.harness.s3server import S3Server
from tests.harness.seaweed import new_bucket
from tests.harness.site import Site, open_site
from worker.dev.temporal import TemporalServer
from worker.settings import variable

pytestmark = pytest.mark.field("D9")


async def manifest_of(site: Site, workspace: str) -> Manifest:
    """What is stored beside the archive."""
    found = await site.truth.get(manifest_key(archive_key(workspace)))
    assert found is not None
    return Manifest.from_json(found[0])


# ------------------------------------------------------------ what a HEAD does not prove


@dataclass
class Stand:
    """A site on a bucket that shall be mirrored to another bucket of the same server."""

    site: Site
    server: S3Server
    armed: Path
    rot: str | None = None
    older: dict[str, bytes] = field(default_factory=dict)

    async def killed_at(self, point: str, workspace: str, volume: str) -> None:
        """An archive is begun, and its worker is killed at ``point`` for good."""
        marker = self.armed.with_name(f"killed-{secrets.token_hex(4)}")
        self.armed.write_text(f"{point}:once={marker}")
        worker = self.site.start_worker(CODEHUB_STORAGE_FAILPOINT=f"@{self.armed}")
        handle = await self.site.storage.start_archive(volume)
        await asyncio.to_thread(worker.wait_until, marker.exists, 120.0)
        self.armed.unlink()
        await asyncio.to_thread(worker.kill)
        self.site.workers.clear()
        await self.site.temporal.get_workflow_handle(f"storage/{workspace}", run_id=handle.run_id).terminate()

    def change(self, key: str, data: bytes) -> bytes:
        """One bit of the object at ``rot`` flips on the way; what is in ``older`` arrives as it was."""
        data = self.older.get(key, data)
        if key != self.rot:
            return data
        at = len(data) // 2
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    @asynccontextmanager
    async def mirrored(self, *, versioned: bool = False) -> AsyncIterator[Site]:
        """The site on the copy, adopted, with a worker that ``armed`` arms."""
        await fence_off(self.site)
        copy = new_bucket(self.server, versioned=versioned)
        await asyncio.to_thread(mirror_plainly, self.server, self.site.bucket, self.server, copy, change=self.change)
        async with moved_site(self.site, self.server, copy) as site:
            await adopt_copy(site)
            site.start_worker(CODEHUB_STORAGE_FAILPOINT=f"@{self.armed}")
            yield site


@pytest.fixture
async def stand(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Stand]:
    """On an unversioned bucket, without a worker."""
    async with open_site(tmp_path / "site", temporal_server, site_store) as site:
        yield Stand(site, site_store, tmp_path / "armed")


ARCHIVED = "control.backend.delete.before"
SEALED = "directory.trash.remove"


async def begun(stand: Stand, point: str) -> tuple[str, str]:
    """A home whose archive was proven, and whose worker died at ``point``: (workspace id, home_store_key)."""
    worker = stand.site.start_worker()
    workspace, volume = await provisioned(stand.site, text="only")
    await asyncio.to_thread(worker.stop)
    stand.site.workers.clear()
    await stand.killed_at(point, workspace, volume)
    return workspace, volume


def trash_of(site: Site, workspace: str) -> Path:
    """Where the folder stands that is being deleted."""
    return site.root / ".codehub/trash" / workspace / "word.txt"


async def test_a_rotten_mirror_deletes_no_volume(stand: Stand) -> None:
    """[C2] HEAD agrees; but nobody has read these bytes back. The volume is archived anew, and nothing is lost."""
    workspace, volume = await begun(stand, ARCHIVED)
    assert (await record_of(stand.site, workspace)).volume.state == VolumeState.ARCHIVED  # type: ignore[union-attr]
    stand.rot = archive_key(workspace)
    async with stand.mirrored() as site:
        before = (await manifest_of(site, workspace)).archive_id
        result = await (await site.storage.start_archive(volume)).result()
        assert (result.moved, result.archive_id != before) == (True, True)
        assert not site.volume(workspace).exists()
        await site.storage.restore(archive_key(workspace))
        assert read(site, workspace) == "only"


async def test_a_good_mirror_is_read_back_and_then_stands_for_the_volume(stand: Stand) -> None:
    """No byte is sent again; the manifest names the object of here, and the volume goes."""
    workspace, volume = await begun(stand, ARCHIVED)
    async with stand.mirrored(versioned=True) as site:
        before = await manifest_of(site, workspace)
        result = await (await site.storage.start_archive(volume)).result()
        assert (result.moved, result.archive_id) == (False, before.archive_id)
        assert not site.volume(workspace).exists()
        after = await manifest_of(site, workspace)
        info = await site.truth.head(archive_key(workspace))
        assert info is not None
        assert after == before.pinned_to(info)
        await site.storage.restore(archive_key(workspace))
        assert read(site, workspace) == "only"


@pytest.mark.parametrize("operation", ["archive", "restore"])
async def test_what_was_sealed_is_kept_while_its_archive_is_rotten(stand: Stand, operation: str) -> None:
    """[C2] `deleting`: ArchiveCorrupt, and what is left of the volume stays, for whoever mends the mirror."""
    if not isinstance(stand.site.root, Path) or not stand.site.root.exists():
        pytest.skip("a trash is the directory backend's")
    workspace, volume = await begun(stand, SEALED)
    stand.rot = archive_key(workspace)
    async with stand.mirrored() as site:
        assert trash_of(site, workspace).read_text() == "only"
        call = site.storage.archive(volume) if operation == "archive" else site.storage.restore(stand.rot)
        assert await code_of(call) == ErrorCode.ARCHIVE_CORRUPT
        assert trash_of(site, workspace).read_text() == "only"
        assert (await record_of(site, workspace)).volume.state == VolumeState.DELETING  # type: ignore[union-attr]


@pytest.mark.parametrize("operation", ["archive", "restore", "cancel"])
async def test_what_was_sealed_goes_once_its_archive_is_proven_again(stand: Stand, operation: str) -> None:
    """By whichever operation comes first; a cancel comes too late."""
    workspace, volume = await begun(stand, SEALED)
    key = archive_key(workspace)
    async with stand.mirrored() as site:
        if operation == "archive":
            await site.storage.archive(volume)
        elif operation == "cancel":
            assert (await site.storage.cancel(workspace)).value == "too_late"
        await site.storage.restore(key)
        assert read(site, workspace) == "only"
        info = await site.truth.head(key)
        named = (await manifest_of(site, workspace)).object
        assert info is not None
        assert named is not None
        assert named.etag == info.etag


async def test_a_cold_home_is_called_archived_only_on_bytes_that_were_read(stand: Stand) -> None:
    """Archive, again, of what is COLD: proven again; ArchiveCorrupt where the mirror is rotten."""
    worker = stand.site.start_worker()
    good, rotten = [(await archived(stand.site, text=text))[0] for text in ("good", "rotten")]
    await asyncio.to_thread(worker.stop)
    stand.rot = archive_key(rotten)
    async with stand.mirrored() as site:
        assert not (await (await site.storage.start_archive(site.key(good))).result()).moved
        info = await site.truth.head(archive_key(good))
        named = (await manifest_of(site, good)).object
        assert info is not None
        assert named is not None
        assert named.etag == info.etag
        assert await code_of(site.storage.archive(site.key(rotten))) == ErrorCode.ARCHIVE_CORRUPT
        assert await code_of(site.storage.restore(stand.rot)) == ErrorCode.ARCHIVE_CORRUPT
        # The volume of that restore was given up, so by now the record names none that could be archived.
        assert await code_of(site.storage.archive(site.key(rotten))) == ErrorCode.VOLUME_NOT_FOUND


async def test_a_torn_mirror_is_told_and_only_a_named_archive_goes_on(stand: Stand) -> None:
    """[C3] The record is of after the second archive, object and manifest of before it: nothing is guessed."""
    stand.site.start_worker()
    workspace, key = await archived(stand.site, text="first")
    older = {each: await stand.site.truth.get(each) for each in (key, manifest_key(key))}
    volume = await stand.site.storage.restore(key)
    write(stand.site, workspace, "second")
    second = await (await stand.site.storage.start_archive(volume)).result()
    stand.older = {each: found[0] for each, found in older.items() if found is not None}
    first = Manifest.from_json(stand.older[manifest_key(key)]).archive_id
    async with stand.mirrored() as site:
        client = stand.server.client()
        metadata = {"archive-id": str(first)}
        client.put_object(Bucket=site.bucket, Key=key, Body=stand.older[key], Metadata=metadata)
        client.close()
        for call in (site.storage.archive(volume), site.storage.restore(key)):
            with pytest.raises(StorageError) as failed:
                await call
            assert failed.value.code == ErrorCode.ARCHIVE_NOT_FOUND
            assert str(second.archive_id) in failed.value.message
            assert str(first) in failed.value.message
        await site.storage.restore(key, archive_id=first)
        assert read(site, workspace) == "first"


@pytest.mark.parametrize("killed", ["", "before", "after"])
async def test_a_copy_that_is_rotten_gives_way_to_an_older_one_that_is_whole(stand: Stand, killed: str) -> None:
    """Mirrored twice onto a bucket with versions: the newest copy that the digests accept is restored, also where the
    mover is killed that looks for it."""
    stand.site.start_worker()
    workspace, key = await archived(stand.site, text="whole")
    async with stand.mirrored(versioned=True) as site:
        client = stand.server.client()
        found = client.get_object(Bucket=site.bucket, Key=key)
        stand.rot = key
        client.put_object(
            Bucket=site.bucket, Key=key, Body=stand.change(key, found["Body"].read()), Metadata=found["Metadata"]
        )
        client.close()
        marker = stand.armed.with_name("killed")
        if killed:
            stand.armed.write_text(f"mover.store.list_versions.{killed}:once={marker}")
        volume = await site.storage.restore(key)
        assert marker.exists() == bool(killed)
        assert read(site, workspace) == "whole"
        write(site, workspace, "later")
        await site.storage.archive(volume)
        await site.storage.restore(key)
        assert read(site, workspace) == "later"


async def test_a_foreign_archive_that_was_copied_is_not_known_again(stand: Stand) -> None:
    """It bears nothing of ours: the volume that came from it is refused, and the way out works."""
    stand.site.start_worker()
    workspace, key = await archived(stand.site, text="theirs")
    found = await stand.site.truth.get(key)
    assert found is not None
    volume = stand.site.key(workspace)
    await stand.site.storage.purge(volume, key)
    client = stand.server.client()
    client.put_object(Bucket=stand.site.bucket, Key=key, Body=found[0])
    client.close()
    await stand.site.storage.restore(key)
    # A multipart object's ETag is of its parts, so the copy's is another; a single one's is of its bytes.
    async with stand.mirrored(versioned=True) as site:
        with pytest.raises(StorageError) as refused:
            await site.storage.archive(volume)
        assert refused.value.code == ErrorCode.LINEAGE_CONFLICT
        assert f"purge --archive {key}" in refused.value.hint
        await site.storage.purge(None, key)
        await site.storage.archive(volume)
        await site.storage.restore(key)
        assert read(site, workspace) == "theirs"


async def test_a_home_that_was_seen_to_be_gone_restores_without_another_proof(stand: Stand) -> None:
    """Its record says so; nothing is left that a restore could delete."""
    stand.site.start_worker()
    workspace, key = await archived(stand.site, text="cold")
    async with stand.mirrored() as site:
        volume = (await record_of(site, workspace)).volume
        assert volume is not None
        assert volume.gone
        before = await site.truth.get(manifest_key(key))
        await site.storage.restore(key)
        assert read(site, workspace) == "cold"
        assert await site.truth.get(manifest_key(key)) == before


async def versions_of(site: Site, workspace: str) -> dict[str, list[ObjectInfo]]:
    """All that is stored of a workspace's archive, and its record."""
    key = archive_key(workspace)
    return {each: await site.truth.list_versions(each) for each in (key, manifest_key(key), record_key(workspace))}


async def test_what_was_mirrored_is_kept_below_what_is_archived_here(stand: Stand) -> None:
    """`retention: keep`: each of three archives restores, the mirrored one too; purge takes them all, and of the
    workspace whose name goes on with another letter nothing."""
    stand.site.environment[variable("retention")] = "keep"
    stand.site.start_worker()
    workspace, key = await archived(stand.site, text="1")
    neighbour = f"{workspace}x"
    beside = await stand.site.storage.provision(neighbour)
    write(stand.site, neighbour, "beside")
    await stand.site.storage.archive(beside)
    async with stand.mirrored(versioned=True) as site:
        mirrored = (await manifest_of(site, workspace)).archive_id
        volume = await site.storage.restore(key)
        write(site, workspace, "2")
        second = await (await site.storage.start_archive(volume)).result()
        await site.storage.restore(key, archive_id=mirrored)
        assert read(site, workspace) == "1"
        write(site, workspace, "3")
        await site.storage.archive(volume)
        for archive_id, text in ((mirrored, "1"), (second.archive_id, "2"), (None, "3")):
            await site.storage.restore(key, archive_id=archive_id)
            assert read(site, workspace) == text
            await site.storage.purge(volume, None)
        before = await versions_of(site, neighbour)
        purged = await (await site.storage.start_purge(None, key)).result()
        assert purged.leftovers == ()
        after = await versions_of(site, workspace)
        assert (after[key], after[manifest_key(key)]) == ([], [])
        assert await versions_of(site, neighbour) == before
        await site.storage.restore(archive_key(neighbour))
        assert read(site, neighbour) == "beside"


@pytest.mark.field("D4")
async def test_metadata_lost_in_a_mirror_loses_nothing_of_the_home(stand: Stand) -> None:
    """Set-uid, times, holes and attributes are those of an archive of ours; one without a member is refused."""
    stand.site.start_worker()
    (workspace, key), (damaged, other) = [await archived(stand.site, text=text) for text in ("mine", "damaged")]
    await stand.site.storage.restore(key)
    tool = stand.site.volume(workspace) / "tool"
    tool.write_bytes(b"#!")
    tool.chmod(0o4755)
    await stand.site.storage.archive(stand.site.key(workspace))
    first = (await manifest_of(stand.site, damaged)).segments[0]
    async with stand.mirrored() as site:
        client = stand.server.client()
        for each, cut in ((key, 0), (other, first.stored_bytes)):
            body = client.get_object(Bucket=site.bucket, Key=each)["Body"].read()
            client.put_object(Bucket=site.bucket, Key=each, Body=body[cut:])
        client.close()
        await site.storage.restore(key)
        assert (site.volume(workspace) / "tool").stat().st_mode & 0o7777 == 0o4755
        assert read(site, workspace) == "mine"
        with pytest.raises(StorageError) as refused:
            await site.storage.restore(other)
        assert refused.value.code == ErrorCode.ARCHIVE_CORRUPT
        assert manifest_key(other) in refused.value.hint
        # What the hint says: without the manifest it is somebody else's, which is not compared with anything.
        await site.truth.delete(manifest_key(other))
        assert await site.truth.head(foreign_archive_key(damaged)) is None
