"""What a manifest proves: the object under its own key, and nothing under another."""

from __future__ import annotations

import pytest

from activities.dataplane.manifest import Manifest, StoredObject
from activities.proofs import find_archive, is_proven, stored_version
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore

KEYS = ("ws1/home.tar.gz", "ws2/home.tar.gz")


async def test_a_manifest_that_names_another_workspaces_archive_proves_nothing() -> None:
    """Nothing of it is restored, and no volume is deleted for it: whoever wrote the manifest may not read there."""
    store = MemoryStore()
    for key in KEYS:
        store.place(key, key.encode(), etag=f"etag of {key}", metadata={"archive-id": "a"})
    theirs = StoredObject(key=KEYS[1], size_bytes=len(KEYS[1]), etag=f"etag of {KEYS[1]}", crc64="0" * 16)
    manifest = Manifest(archive_id="a", workspace_id="ws1", object=theirs)
    await store.put_if("ws1/home.tar.gz.meta", manifest.to_json(), etag=None)
    assert await stored_version(store, KEYS[1], manifest) is not None
    assert await stored_version(store, KEYS[0], manifest) is None
    for question in (
        is_proven(store, "ws1", "a"),
        find_archive(store, KEYS[0], None),
        find_archive(store, KEYS[0], "a"),
    ):
        with pytest.raises(StorageError) as caught:
            await question
        assert caught.value.code == ErrorCode.ARCHIVE_CORRUPT
