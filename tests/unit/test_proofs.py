"""What a manifest proves, and of what; who may be read as an archive, and what may stand for a volume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from activities.dataplane.manifest import Manifest, StoredObject
from activities.dataplane.verify import verify_archive
from activities.objectstore.base import ARCHIVE_ID, ObjectInfo
from activities.state.proof import (
    ArchiveState,
    archive_state,
    check_same_bucket,
    copies,
    find_archive,
    is_proven,
    may_be_read,
    may_stand,
    stored_version,
)
from activities.state.record import Owner, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import manifest_key
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import Made, ignore, make_archive
from tests.harness.commands import typed

KEYS = ("ws1/home.tar.gz", "ws2/home.tar.gz")
KEY = KEYS[0]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A few files."""
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(4):
        (root / f"file {number}").write_bytes(bytes([number]) * 9000)
    return root


@pytest.fixture
def store() -> MemoryStore:
    """A bucket that keeps versions."""
    return MemoryStore(min_part_bytes=0, versioned=True)


@pytest.fixture
async def made(store: MemoryStore, tree: Path) -> Made:
    """A proven archive."""
    made = await make_archive(tree, store)
    await store.put_if(manifest_key(KEY), made.manifest.to_json(), etag=None)
    return made


async def bytes_of(store: MemoryStore, info: ObjectInfo) -> bytes:
    """What is stored."""
    return b"".join([piece async for piece in store.read(info.key, etag=info.etag, version_id=info.version_id)])


async def mirrored(
    store: MemoryStore, made: Made, *, metadata: Mapping[str, str] | None = None, data: bytes | None = None
) -> MemoryStore:
    """Another bucket, to which object and manifest were copied, with the object's ETag and version of there."""
    other = MemoryStore(min_part_bytes=0, versioned=True)
    data = await bytes_of(store, made.info) if data is None else data
    for _ in range(9):  # so that no version is called as it was
        other.place(KEY, b"of before", etag="of before", metadata={})
    other.place(KEY, data, etag="of a copy", metadata=made.info.metadata if metadata is None else metadata)
    await other.put_if(manifest_key(KEY), made.manifest.to_json(), etag=None)
    return other


async def refused(store: MemoryStore, archive_id: str | None = None) -> StorageError:
    """How the archive is not found."""
    with pytest.raises(StorageError) as caught:
        await find_archive(store, KEY, archive_id)
    return caught.value


async def test_a_manifest_that_names_another_workspaces_archive_proves_nothing() -> None:
    """Nothing of it is restored, and no volume is deleted for it: whoever wrote the manifest may not read there."""
    store = MemoryStore()
    for key in KEYS:
        store.place(key, key.encode(), etag=f"etag of {key}", metadata={"archive-id": "a"})
    info = await store.head(KEYS[1])
    assert info is not None
    assert info.crc64 is not None
    theirs = StoredObject(key=KEYS[1], size_bytes=len(KEYS[1]), etag=f"etag of {KEYS[1]}", crc64=info.crc64.hex())
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


@pytest.mark.field("D9")
async def test_a_copy_may_be_read_and_stands_for_nothing(store: MemoryStore, made: Made) -> None:
    """Another ETag and version: it is found and pinned as it is there; what stands for a volume is only what was read
    back, and that holds again once the manifest names it."""
    there = await mirrored(store, made)
    manifest, info, archive_id = await find_archive(there, KEY, None)
    assert (archive_id, info.etag) == (made.manifest.archive_id, "of a copy")
    assert manifest is not None
    assert may_be_read(info, KEY, manifest)
    assert not may_stand(info, KEY, manifest)
    assert await archive_state(there, "ws1", archive_id) is ArchiveState.READABLE
    assert not await is_proven(there, "ws1", archive_id)
    assert may_stand(info, KEY, manifest.pinned_to(info))
    assert await archive_state(store, "ws1", archive_id) is ArchiveState.PROVEN


@pytest.mark.field("D9")
async def test_the_same_etag_under_another_version_stands_for_nothing(store: MemoryStore, made: Made) -> None:
    """Both must be what was read back."""
    there = await mirrored(store, made)
    there.place(KEY, await bytes_of(store, made.info), etag=made.info.etag, metadata=made.info.metadata)
    assert await archive_state(there, "ws1", made.manifest.archive_id) is ArchiveState.READABLE


@pytest.mark.field("D9")
async def test_of_several_copies_all_are_offered_newest_first(store: MemoryStore, made: Made) -> None:
    """A rotten one on top does not hide the good one below it: whoever reads decides."""
    there = await mirrored(store, made)
    data = await bytes_of(store, made.info)
    there.place(KEY, data, etag="rotten", metadata=made.info.metadata)
    there.corrupt(KEY, len(data) // 2)
    found = [each async for each in copies(there, KEY, made.manifest)]
    assert [each.etag for each in found] == ["rotten", "of a copy"]
    with pytest.raises(StorageError):
        await verify_archive(there, found[0], made.manifest, progress=ignore)
    await verify_archive(there, found[1], made.manifest, progress=ignore)


@pytest.mark.field("D9")
async def test_a_kept_archive_is_found_by_its_content(store: MemoryStore, made: Made, tree: Path) -> None:
    """Below a newer archive, in a bucket where its version has another name."""
    there = await mirrored(store, made)
    (tree / "new").write_text("new")
    newer = await make_archive(tree, there, archive_id="newer")
    old = await there.head(manifest_key(KEY))
    assert old is not None
    await there.put_if(manifest_key(KEY), newer.manifest.to_json(), etag=old.etag)
    _, info, archive_id = await find_archive(there, KEY, made.manifest.archive_id)
    assert (info.etag, archive_id) == ("of a copy", made.manifest.archive_id)
    assert (await find_archive(there, KEY, None))[2] == "newer"


@pytest.mark.field("D4")
async def test_what_lost_its_metadata_is_ours_by_the_manifest(store: MemoryStore, made: Made) -> None:
    """It is compared like any archive of ours, and not restored as somebody else's."""
    there = await mirrored(store, made, metadata={})
    manifest, info, archive_id = await find_archive(there, KEY, None)
    assert manifest is not None
    assert archive_id == made.manifest.archive_id
    await verify_archive(there, info, manifest, progress=ignore)


@pytest.mark.field("D4")
async def test_what_lost_a_member_too_is_refused_and_says_what_to_do(store: MemoryStore, made: Made) -> None:
    """By its size or its checksum, before a byte is restored; to ask for a foreign archive by an id changes nothing."""
    data = await bytes_of(store, made.info)
    segment = made.manifest.segments[0]
    for damaged in (data[segment.stored_bytes :], data[:-1] + bytes([data[-1] ^ 1])):
        there = await mirrored(store, made, metadata={}, data=damaged)
        error = await refused(there)
        assert error.code == ErrorCode.ARCHIVE_CORRUPT
        assert manifest_key(KEY) in error.hint
        foreign = (await refused(there, "foreign-0123")).code
        assert foreign == ErrorCode.ARCHIVE_NOT_FOUND


@pytest.mark.field("D4")
async def test_without_manifest_or_with_a_placeholder_it_is_foreign(store: MemoryStore, made: Made) -> None:
    """Nobody says that it is ours."""
    there = await mirrored(store, made, metadata={})
    current = await there.head(manifest_key(KEY))
    assert current is not None
    await there.put_if(manifest_key(KEY), Manifest(workspace_id="ws1").to_json(), etag=current.etag)
    assert (await find_archive(there, KEY, None))[0] is None
    await there.delete(manifest_key(KEY))
    assert (await find_archive(there, KEY, None))[0] is None


@pytest.mark.field("D4")
async def test_an_unreadable_manifest_leaves_open_whose_it_is(store: MemoryStore, made: Made) -> None:
    """Refused, and the hint names the object to delete."""
    there = await mirrored(store, made, metadata={})
    current = await there.head(manifest_key(KEY))
    assert current is not None
    await there.put_if(manifest_key(KEY), b"{ damaged", etag=current.etag)
    error = await refused(there)
    assert (error.code, manifest_key(KEY) in error.hint) == (ErrorCode.ARCHIVE_CORRUPT, True)


@pytest.mark.field("D9")
@pytest.mark.parametrize(
    ("state", "epoch", "is_refused"),
    [
        (VolumeState.ARCHIVED, 1, True),
        (VolumeState.ARCHIVED, 2, True),
        (VolumeState.DELETING, 1, True),
        (VolumeState.DELETING, 2, True),
        (VolumeState.RESTORING, 1, False),
        (VolumeState.RESTORING, 2, True),
        (VolumeState.READY, 2, False),
    ],
)
def test_a_record_that_names_another_archive_is_of_another_time(
    state: VolumeState, epoch: int, is_refused: bool
) -> None:
    """A mirror torn between record and manifest: both are named, and nothing is guessed.

    Of a restore that was cut off, the caller may want another archive by now, unless the bucket was copied since.
    """
    record = Record(
        workspace_id="ws1",
        place="p",
        owner=Owner(run_id="r", operation="archive", epoch=epoch),
        volume=VolumeRecord(uid="u", state=state, archive_id="A2"),
    )
    check_same_bucket(record, "A2")
    if not is_refused:
        return check_same_bucket(record, "A1")
    with pytest.raises(StorageError) as caught:
        check_same_bucket(record, "A1")
    assert caught.value.code == ErrorCode.ARCHIVE_NOT_FOUND
    assert {"A1", "A2"} <= set(caught.value.details.values())
    assert typed(caught.value.hint) == [f"codehub-storage restore {KEY} --archive-id A1"]


@pytest.mark.field("D9")
async def test_what_is_stored_of_a_recorded_archive(store: MemoryStore, made: Made) -> None:
    """Every answer of ``archive_state``."""
    archive_id = made.manifest.archive_id
    assert await archive_state(store, "ws2", "any") is ArchiveState.NOTHING
    assert await archive_state(store, "ws1", "another") is ArchiveState.ELSE
    data = await bytes_of(store, made.info)
    there = await mirrored(store, made, metadata={ARCHIVE_ID: "another"}, data=data)
    assert await archive_state(there, "ws1", archive_id) is ArchiveState.CORRUPT
    await there.delete(manifest_key(KEY))
    assert await archive_state(there, "ws1", archive_id) is ArchiveState.ELSE


@pytest.mark.field("D9")
@pytest.mark.parametrize(("epoch", "is_refused"), [(1, True), (2, False)])
@pytest.mark.parametrize("is_given_up", [False, True])
def test_a_restore_that_was_cut_off_names_its_archive(epoch: int, is_refused: bool, is_given_up: bool) -> None:
    """From before the copy it counts, also after its volume was given up; in one epoch the caller may want another."""
    volume = VolumeRecord(uid="u", state=VolumeState.RESTORING, archive_id="A2", epoch=epoch)
    owner = Owner(run_id="r", operation="restore", epoch=2)
    record = Record(workspace_id="ws1", place="p", owner=owner, volume=volume)
    record = record.with_volume(None) if is_given_up else record
    check_same_bucket(record, "A2")
    if is_refused:
        with pytest.raises(StorageError):
            check_same_bucket(record, "A1")
    else:
        check_same_bucket(record, "A1")
