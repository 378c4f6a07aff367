"""The store lies about what it has: the archive is refused, the volume stays ready, and the owner is not locked out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError, keys
from codehub_storage.contracts import Phase
from tests.fakes.s3_faults import Fault, FlipStored, LoseEnd, Reply, on
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.stops import PATIENCE_SECONDS, Stop, fill, of, phase_of, proven_tree, until_no_mover, world_of
from worker.dev.temporal import TemporalServer

GZIP = bytes.fromhex("1f8b08")
"""How every member begins."""


@dataclass(frozen=True)
class Stand:
    """A site behind a proxy, with one worker."""

    site: Site
    proxy: S3Proxy
    versioned: bool


@pytest.fixture(params=["unversioned", "versioned"])
async def stand(
    request: pytest.FixtureRequest, tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> AsyncIterator[Stand]:
    """On both kinds of bucket."""
    versioned = request.param == "versioned"
    async with (
        S3Proxy(seaweed.ports[0]) as proxy,
        open_site(
            tmp_path / "site", temporal_server, seaweed, versioned=versioned, endpoint_url=proxy.endpoint_url
        ) as site,
    ):
        site.start_worker()
        yield Stand(site, proxy, versioned)


@dataclass
class Lie:
    """A store that behaves as it should. ``fault``: what it says of the archive's bytes, from the beginning."""

    fault: Fault = field(default_factory=Fault)
    code: ErrorCode = ErrorCode.ARCHIVE_CORRUPT

    async def tell(self, site: Site, workspace_id: str) -> None:
        """The archive stands complete and is about to be read back."""


@dataclass
class OneBit(Lie):
    """One bit is another, for every reader."""

    fault: Fault = field(default_factory=lambda: FlipStored(at=100))


@dataclass
class NoEnd(Lie):
    """The object ends before its last member, and the store says that this is all."""

    fault: LoseEnd = field(default_factory=LoseEnd)

    async def tell(self, site: Site, workspace_id: str) -> None:
        """From now on."""
        self.fault.keep = (await stored(site, workspace_id)).rindex(GZIP)
        assert self.fault.keep > 0


@dataclass
class Nothing(Lie):
    """The object was acknowledged and is gone."""

    async def tell(self, site: Site, workspace_id: str) -> None:
        """Where there are versions, that version."""
        newest = (await site.truth.list_versions(keys.archive_key(workspace_id)))[0]
        await site.truth.delete(newest.key, version_id=newest.version_id, etag=newest.etag)


@dataclass
class Another(Lie):
    """Something else stands under the name, of the same size. (Where there are versions that is a version more.)"""

    async def tell(self, site: Site, workspace_id: str) -> None:
        """Somebody put it there."""
        info = await site.truth.head(keys.archive_key(workspace_id))
        assert info is not None
        await site.truth.put_if(info.key, bytes(info.size_bytes), etag=info.etag)


async def stored(site: Site, workspace_id: str) -> bytes:
    """The archive's bytes."""
    info = await site.truth.head(keys.archive_key(workspace_id))
    assert info is not None
    return b"".join([piece async for piece in site.truth.read(info.key, etag=info.etag, version_id=info.version_id)])


async def manifest_of(site: Site, workspace_id: str) -> dict[str, object]:
    """The manifest's JSON."""
    found = await site.truth.get(keys.manifest_key(keys.archive_key(workspace_id)))
    assert found is not None
    return dict(json.loads(found[0]))


async def test_what_the_store_does_not_have_is_not_proven(stand: Stand) -> None:
    """A second archive is damaged after `complete`: it fails, the volume is ready; the next one succeeds.

    Where there are versions, the first archive is still the proven one, and extracts. Without, it was overwritten.
    """
    async with asyncio.TaskGroup() as trials:
        for lie in (OneBit(), NoEnd(), Nothing(), *(() if stand.versioned else (Another(),))):
            trials.create_task(lie_about_the_second(stand, lie), name=type(lie).__name__)


async def lie_about_the_second(stand: Stand, lie: Lie) -> None:
    """One trial."""
    site, workspace = stand.site, stand.site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    first = fill(site.volume(workspace), "first")
    archive_key = await site.storage.archive(volume_key)
    await site.storage.restore(archive_key)
    second = fill(site.volume(workspace), "second")
    before = await world_of(site, workspace)

    async def is_verifying() -> bool:
        return await phase_of(site, workspace) is Phase.VERIFYING

    stand.proxy.add(lie.fault, on(method="GET", key=archive_key))
    stop = stand.proxy.add(Stop(is_here=is_verifying), of(workspace))
    handle = await site.storage.start_archive(volume_key)
    await asyncio.wait_for(stop.reached.wait(), PATIENCE_SECONDS)
    await lie.tell(site, workspace)
    stop.release.set()
    stop.resume.set()
    with pytest.raises(StorageError) as refused:
        await handle.result()
    assert refused.value.code == lie.code, type(lie).__name__

    world = await world_of(site, workspace)
    assert (world.volume, world.inode, world.state) == (second, before.inode, "ready")
    assert world.has_signed_off
    assert world.uploads == 0
    await until_no_mover(site, workspace)
    manifest_key = keys.manifest_key(archive_key)
    assert world.objects[manifest_key] == before.objects[manifest_key], "nothing was proven"
    if stand.versioned:
        assert world.objects[archive_key] == before.objects[archive_key], "exactly the damaged version went"
        assert await proven_tree(site, workspace) == first

    lie.fault.times = 0
    await site.storage.archive(volume_key)
    assert await proven_tree(site, workspace) == second
    assert not site.volume(workspace).exists()


async def test_an_acknowledgement_without_an_object(stand: Stand) -> None:
    """`complete` is answered with 200 and nothing is done: the archive fails or sends it again, and proves no ghost."""
    site, workspace = stand.site, stand.site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    tree = fill(site.volume(workspace))
    ghost = f'<ETag>"{"0" * 32}-1"</ETag>'
    answer = f"<CompleteMultipartUploadResult>{ghost}</CompleteMultipartUploadResult>".encode()
    stand.proxy.add(Reply(times=None, status=200, code=None, body=answer), on(method="POST", query="uploadId"))
    handle = await site.storage.start_archive(volume_key)
    with pytest.raises(StorageError) as refused:
        await handle.result()
    assert refused.value.code in (ErrorCode.STORE_UNAVAILABLE, ErrorCode.ARCHIVE_CORRUPT)
    world = await world_of(site, workspace)
    assert (world.volume, world.state, world.objects[keys.archive_key(workspace)]) == (tree, "ready", ())
    assert world.uploads == 0
    stand.proxy.clear()
    await site.storage.archive(volume_key)
    assert await proven_tree(site, workspace) == tree
