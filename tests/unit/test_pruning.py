"""Retention removes what a newer archive replaced, and nothing that may be another copy of what is proven."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.backends.base import VolumeBackend
from activities.control.archive_object import ArchiveObjectActivities
from activities.control.services import Services
from activities.dataplane.manifest import Manifest, StoredObject
from activities.objectstore.base import ObjectInfo
from activities.state.record import Owner, Record
from codehub_storage.keys import manifest_key, record_key
from tests.fakes.memory_store import MemoryStore
from workflows.messages import ArchivedInput

KEY = "ws1/home.tar.gz"
STEP = ArchivedInput(workspace_id="ws1", place="p", volume_uid="u1", fingerprint="f", archive_id="new")


class Listing(MemoryStore):
    """Leaves out of its listings what is ``hidden``."""

    hidden: str | None = None

    async def list_versions(self, key: str) -> list[ObjectInfo]:
        return [each for each in await super().list_versions(key) if each.version_id != self.hidden]


@pytest.fixture
async def store() -> Listing:
    """An older archive, two copies of the newer one, which the manifest names; its run owns the record."""
    store = Listing(versioned=True)
    owner = Owner(run_id=ActivityEnvironment().info.workflow_run_id or "", operation="archive")
    record = Record(workspace_id="ws1", place="p", owner=owner)
    await store.put_if(record_key("ws1"), record.model_dump_json().encode(), etag=None)
    store.place(KEY, b"old", etag="old", metadata={"archive-id": "old"})
    store.place(KEY, b"lost", etag="lost", metadata={})
    store.place(KEY, b"newer", etag="copy", metadata={"archive-id": "new"})
    info = store.place(KEY, b"newer", etag="new", metadata={"archive-id": "new"})
    assert info.crc64 is not None
    proven = StoredObject(key=KEY, size_bytes=5, etag="new", version_id=info.version_id, crc64=info.crc64.hex())
    older = await store.put_if(manifest_key(KEY), Manifest(workspace_id="ws1", nonce="n").to_json(), etag=None)
    manifest = Manifest(archive_id="new", workspace_id="ws1", object=proven)
    await store.put_if(manifest_key(KEY), manifest.to_json(), etag=older.etag)
    return store


async def pruned(store: Listing) -> list[str]:
    """The ETags of what is left of the object."""
    services = Services(store, cast(VolumeBackend, None), "p")
    await ActivityEnvironment().run(ArchiveObjectActivities(services).prune_archive, STEP)
    return [each.etag for each in await store.list_versions(KEY)]


@pytest.mark.field("D9")
async def test_all_copies_of_the_proven_archive_are_kept(store: Listing) -> None:
    """Older ones and older manifests go."""
    assert await pruned(store) == ["new", "copy"]
    assert len(await store.list_versions(manifest_key(KEY))) == 1


@pytest.mark.field("D7")
async def test_nothing_is_pruned_where_the_proven_one_is_not_listed(store: Listing) -> None:
    """Neither objects nor manifests: what the listing shows is not the whole truth."""
    before = {key: await store.list_versions(key) for key in (KEY, manifest_key(KEY))}
    for key, versions in before.items():
        store.hidden = versions[0].version_id
        await pruned(store)
        store.hidden = None
        assert {each: await store.list_versions(each) for each in before} == before, key


async def test_retention_keep_prunes_nothing(store: Listing) -> None:
    """All stay."""
    services = replace(Services(store, cast(VolumeBackend, None), "p"), retention_keep=True)
    await ActivityEnvironment().run(ArchiveObjectActivities(services).prune_archive, STEP)
    assert len(await store.list_versions(KEY)) == 4
