"""`proven` means the same to `list` and `show`: what a restore would read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from activities.state.proof import find_archive
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import manifest_key
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import Made, make_archive
from worker.cli import workspace, workspaces

KEY = "ws1/home.tar.gz"
META = manifest_key(KEY)

Change = Callable[[MemoryStore, Made], Awaitable[object]]


async def nothing(store: MemoryStore, made: Made) -> None:
    """It stands as it was archived."""


async def copied(store: MemoryStore, made: Made) -> None:
    """As in a bucket that was mirrored: another ETag, another version, the same bytes."""
    data = b"".join([piece async for piece in store.read(KEY, etag=made.info.etag, version_id=made.info.version_id)])
    store.place(KEY, data, etag="of a copy", metadata=made.info.metadata)


async def covered(store: MemoryStore, made: Made) -> None:
    """An object that nothing proves, over the proven version."""
    store.place(KEY, b"of another archive", etag="other", metadata={"archive-id": "other"})


async def replaced(store: MemoryStore, made: Made) -> None:
    """Another object, and the proven version is gone."""
    await store.delete(KEY, version_id=made.info.version_id)
    await covered(store, made)


async def deleted(store: MemoryStore, made: Made) -> None:
    """A delete marker over it."""
    await store.delete(KEY)


async def unnamed(store: MemoryStore, made: Made) -> None:
    """No manifest."""
    await store.delete(META)


@pytest.mark.parametrize(
    ("change", "proven"),
    [(nothing, True), (copied, True), (covered, True), (replaced, False), (deleted, False), (unnamed, False)],
)
async def test_both_commands_and_a_restore_agree(tmp_path: Path, change: Change, proven: bool) -> None:
    """Whatever became of the object."""
    (tmp_path / "file").write_bytes(b"x" * 9000)
    store = MemoryStore(min_part_bytes=0, versioned=True)
    made = await make_archive(tmp_path, store)
    await store.put_if(META, made.manifest.to_json(), etag=None)
    await change(store, made)

    keys = {each.removeprefix("ws1/home."): each for each in await store.list_keys("ws1/")}
    listed = workspaces.Stored(keys=keys)
    await workspaces._read(store, "ws1", listed)
    shown = (await workspace._stored(store, "ws1"))["archive"]
    assert [listed.proven, bool(shown and shown.proven)] == [proven] * 2
    if listed.object is not None:
        assert shown.stored_bytes == listed.object.size_bytes
    try:
        await find_archive(store, KEY, None)
    except StorageError:
        assert not proven
    else:
        assert proven


async def test_a_manifest_that_contradicts_itself_is_not_shown_as_proof(tmp_path: Path) -> None:
    """It is refused as by a restore, which reads by the same checks."""
    (tmp_path / "file").write_bytes(b"x" * 9000)
    store = MemoryStore(min_part_bytes=0)
    manifest = (await make_archive(tmp_path, store)).manifest
    first, *others = manifest.segments
    moved = manifest.model_copy(update={"segments": (first.model_copy(update={"offset": 1}), *others)})
    await store.put_if(META, moved.to_json(), etag=None)
    with pytest.raises(StorageError, match="segment 1") as refused:
        await workspace._stored(store, "ws1")
    assert refused.value.code is ErrorCode.ARCHIVE_CORRUPT
