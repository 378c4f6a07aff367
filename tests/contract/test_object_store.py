"""What every object store must do. An implementation inherits the suite and says how its stores are made."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from activities.objectstore.base import (
    ARCHIVE_ID,
    Capabilities,
    ObjectStore,
    PreconditionFailed,
    UploadedPart,
    UploadLost,
)
from activities.objectstore.s3 import open_store
from activities.objectstore.uploads import abort_uploads, checksum, combined
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.minio import Minio
from tests.harness.s3server import S3Server
from tests.harness.seaweed import Seaweed, new_bucket, settings_of

MIB = 1024 * 1024
Ground = tuple[S3Server, str, str]
"""A server, and a bucket without and one with versions for the whole suite."""
FULL_PART = secrets.token_bytes(5 * MIB)
"""As small as a part may be that is not the last."""


async def read_all(store: ObjectStore, key: str, **span: object) -> bytes:
    """The bytes of a read, joined."""
    return b"".join([chunk async for chunk in store.read(key, **span)])  # type: ignore[arg-type]


async def put(store: ObjectStore, key: str, data: bytes) -> str:
    """Writes whatever stands there; the ETag."""
    before = await store.head(key)
    return (await store.put_if(key, data, etag=before.etag if before else None)).etag


async def upload(store: ObjectStore, key: str, bodies: list[bytes], archive_id: str) -> tuple[str, list[UploadedPart]]:
    """An upload with all its parts, not yet complete."""
    upload_id = await store.create_upload(key, {ARCHIVE_ID: archive_id})
    parts = [await store.upload_part(key, upload_id, number, [body]) for number, body in enumerate(bodies, 1)]
    return upload_id, parts


class ObjectStoreContract:
    """The Protocol as tests. Every test has a key of its own; stores may be shared."""

    capabilities = Capabilities(conditional_delete=True)
    """What this implementation does beyond the least, see ``ObjectStore.delete``."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """A store that keeps no versions."""
        raise NotImplementedError

    @pytest.fixture
    def versioned(self) -> ObjectStore:
        """A store that keeps versions."""
        raise NotImplementedError

    @pytest.fixture
    def key(self) -> str:
        """A key that no other test has, below a folder of its own."""
        return f"{secrets.token_hex(6)}/home.tar.gz"

    async def test_missing_is_an_answer(self, store: ObjectStore, key: str) -> None:
        """What does not exist is None or empty, never an error."""
        assert await store.head(key) is None
        assert await store.get(key) is None
        assert await store.list_versions(key) == []
        assert await store.list_uploads(key) == []
        assert await store.list_parts(key, "0" * 32) is None

    async def test_put_then_get(self, store: ObjectStore, key: str) -> None:
        """What was put is what get and head tell of."""
        put_info = await store.put_if(key, b"one", etag=None)
        found = await store.get(key)
        head = await store.head(key)
        assert found is not None
        assert head is not None
        assert found[0] == b"one"
        assert found[1].etag == head.etag == put_info.etag
        assert '"' not in head.etag
        assert (head.key, head.size_bytes, head.is_current) == (key, 3, True)

    async def test_create_meets_other_bytes(self, store: ObjectStore, key: str) -> None:
        """Creating what exists is refused and changes nothing."""
        await store.put_if(key, b"one", etag=None)
        with pytest.raises(PreconditionFailed):
            await store.put_if(key, b"two", etag=None)
        assert (await store.get(key) or [b""])[0] == b"one"

    async def test_put_twice(self, store: ObjectStore, key: str) -> None:
        """The same bytes again are our own write whose answer was lost."""
        first = await store.put_if(key, b"one", etag=None)
        again = await store.put_if(key, b"one", etag=None)
        assert again.etag == first.etag

    async def test_change_by_etag(self, store: ObjectStore, key: str) -> None:
        """A change needs the ETag that stands there; an older one is refused."""
        first = await store.put_if(key, b"one", etag=None)
        second = await store.put_if(key, b"two", etag=first.etag)
        with pytest.raises(PreconditionFailed):
            await store.put_if(key, b"three", etag=first.etag)
        found = await store.get(key)
        assert found is not None
        assert (found[0], found[1].etag) == (b"two", second.etag)

    async def test_change_of_missing(self, store: ObjectStore, key: str) -> None:
        """A change of what is gone is refused and creates nothing."""
        with pytest.raises(PreconditionFailed):
            await store.put_if(key, b"one", etag="0" * 32)
        assert await store.head(key) is None

    @pytest.mark.parametrize("exists", [False, True])
    async def test_one_of_many_writers_wins(self, store: ObjectStore, key: str, exists: bool) -> None:
        """Of racing writers with one condition exactly one wins, and its bytes stand there."""
        etag = await put(store, key, b"start") if exists else None

        async def write(number: int) -> bytes | None:
            data = f"writer {number}".encode()
            try:
                await store.put_if(key, data, etag=etag)
            except PreconditionFailed:
                return None
            return data

        winners = [data for data in await asyncio.gather(*map(write, range(8))) if data]
        found = await store.get(key)
        assert found is not None
        assert winners == [found[0]]

    @pytest.mark.parametrize(
        ("offset", "length"), [(0, None), (0, 10), (7, None), (7, 300_000), (999_999, 1), (999_999, None), (5, 0)]
    )
    async def test_read_range(self, store: ObjectStore, key: str, offset: int, length: int | None) -> None:
        """A range is exactly the bytes that were asked for."""
        data = secrets.token_bytes(1_000_000)
        etag = await put(store, key, data)
        end = None if length is None else offset + length
        assert await read_all(store, key, offset=offset, length=length, etag=etag) == data[offset:end]

    async def test_read_empty(self, store: ObjectStore, key: str) -> None:
        """An empty object is read whole, too."""
        assert await read_all(store, key, etag=await put(store, key, b"")) == b""

    async def test_read_past_the_end(self, store: ObjectStore, key: str) -> None:
        """An object that is shorter than the reader knows it to be is corrupt, not short."""
        etag = await put(store, key, b"short")
        for offset in (2, 9):
            with pytest.raises(StorageError) as raised:
                await read_all(store, key, offset=offset, length=10, etag=etag)
            assert raised.value.code == ErrorCode.ARCHIVE_CORRUPT

    async def test_read_of_another_object(self, store: ObjectStore, key: str) -> None:
        """A reader of one object never gets bytes of the next one, nor silence where it is gone."""
        etag = await put(store, key, b"one")
        await put(store, key, b"two")
        with pytest.raises(PreconditionFailed):
            await read_all(store, key, etag=etag)
        with pytest.raises(PreconditionFailed):
            await read_all(store, f"{key}.none", etag=etag)

    async def test_delete_twice(self, store: ObjectStore, key: str) -> None:
        """Deleting what is gone is fine, with and without a condition."""
        etag = await put(store, key, b"one")
        await store.delete(key, etag=etag)
        await store.delete(key, etag=etag)
        await store.delete(key)
        assert await store.head(key) is None

    async def test_delete_of_a_successor(self, store: ObjectStore, key: str) -> None:
        """A late deletion does not meet what was written since, where the store obeys conditions at all."""
        etag = await put(store, key, b"one")
        await put(store, key, b"two")
        if not self.capabilities.conditional_delete:
            await store.delete(key, etag=etag)
            assert await store.head(key) is None
            return
        with pytest.raises(PreconditionFailed):
            await store.delete(key, etag=etag)
        assert (await store.get(key) or [b""])[0] == b"two"

    async def test_versions_without_versioning(self, store: ObjectStore, key: str) -> None:
        """There is one version without an id, as head says too, and neighbours of the key are not in the list."""
        await put(store, key, b"one")
        await put(store, key, b"two!")
        await put(store, f"{key}.meta", b"manifest")
        assert not await store.is_versioned()
        [only] = await store.list_versions(key)
        assert (only.key, only.size_bytes, only.version_id, only.is_current) == (key, 4, None, True)

    async def test_list_keys(self, store: ObjectStore, key: str) -> None:
        """All keys below the prefix, and no other."""
        folder = key.partition("/")[0]
        names = [f"{folder}/a", f"{folder}/b/c", f"{folder}/d"]
        for name in [*names, f"{folder}0/x"]:
            await put(store, name, b"x")
        assert sorted(await store.list_keys(f"{folder}/")) == names

    async def test_versions(self, versioned: ObjectStore, key: str) -> None:
        """Versions are listed newest first, markers among them, and each can be read by its id."""
        assert await versioned.is_versioned()
        first = await versioned.put_if(key, b"one", etag=None)
        second = await versioned.put_if(key, b"two", etag=first.etag)
        await versioned.delete(key)
        assert await versioned.head(key) is None
        assert await versioned.get(key) is None
        listed = await versioned.list_versions(key)
        assert listed[0].is_current
        assert listed[0].is_delete_marker
        assert [each.version_id for each in listed[1:]] == [second.version_id, first.version_id]
        assert not any(each.is_current or each.is_delete_marker for each in listed[1:])
        assert (await versioned.get(key, version_id=first.version_id) or [b""])[0] == b"one"
        assert await read_all(versioned, key, etag=first.etag, version_id=first.version_id) == b"one"

    async def test_delete_one_version(self, versioned: ObjectStore, key: str) -> None:
        """Deleting a version removes it for good and leaves the others; twice is fine."""
        first = await versioned.put_if(key, b"one", etag=None)
        second = await versioned.put_if(key, b"two", etag=first.etag)
        for _ in range(2):
            await versioned.delete(key, version_id=first.version_id)
        assert await versioned.head(key, version_id=first.version_id) is None
        assert await versioned.get(key, version_id=first.version_id) is None
        assert [each.version_id for each in await versioned.list_versions(key)] == [second.version_id]

    @pytest.mark.parametrize(
        "version_id", ["0123456789abcdef0123456789abcdef", "not-one.of.any", "cd845ebc-2b41-45ff-811d-b91bbfef93b3"]
    )
    async def test_a_version_id_of_another_bucket(
        self, store: ObjectStore, versioned: ObjectStore, key: str, version_id: str
    ) -> None:
        """As of a bucket that was copied: there is none, or what is answered does not say that it is that one."""
        for each in (store, versioned):
            made = await each.put_if(key, b"one", etag=None)
            info = await each.head(key, version_id=version_id)
            assert info is None or info.version_id != version_id
            found = await each.get(key, version_id=version_id)
            assert found is None or found[1].version_id != version_id
            if info is None:
                with pytest.raises(PreconditionFailed):
                    await read_all(each, key, etag=made.etag, version_id=version_id)

    async def test_create_after_a_marker(self, versioned: ObjectStore, key: str) -> None:
        """Behind a delete marker nothing stands: creating is right."""
        await versioned.put_if(key, b"one", etag=None)
        await versioned.delete(key)
        await versioned.put_if(key, b"two", etag=None)
        assert (await versioned.get(key) or [b""])[0] == b"two"

    async def test_all_versions_and_markers_go(self, versioned: ObjectStore, key: str) -> None:
        """Deleting every listed version, markers included, leaves nothing."""
        await put(versioned, key, b"one")
        await versioned.delete(key)
        await put(versioned, key, b"two")
        await versioned.delete(key)
        for each in await versioned.list_versions(key):
            await versioned.delete(key, version_id=each.version_id)
        assert await versioned.list_versions(key) == []

    async def test_upload(self, store: ObjectStore, key: str) -> None:
        """Parts, sent in any order and from several buffers, become one object with metadata and checksum."""
        upload_id = await store.create_upload(key, {ARCHIVE_ID: "a1"})
        last = await store.upload_part(key, upload_id, 2, [b"ta", b"", b"il"])
        first = await store.upload_part(key, upload_id, 1, [FULL_PART[:1000], FULL_PART[1000:]])
        assert (last.number, last.size_bytes, last.crc64) == (2, 4, checksum([b"tail"]))
        assert await store.head(key) is None
        info = await store.complete_upload(key, upload_id, [first, last], archive_id="a1")
        head = await store.head(key)
        assert info == head
        assert (info.size_bytes, info.metadata[ARCHIVE_ID]) == (5 * MIB + 4, "a1")
        assert info.crc64 == combined([first, last]) == checksum([FULL_PART, b"tail"])
        assert await read_all(store, key, etag=info.etag) == FULL_PART + b"tail"
        assert await store.list_uploads(key) == []

    async def test_complete_twice(self, store: ObjectStore, key: str) -> None:
        """The second completion finds the first one's object."""
        upload_id, parts = await upload(store, key, [b"small"], "a1")
        first = await store.complete_upload(key, upload_id, parts, archive_id="a1")
        assert await store.complete_upload(key, upload_id, parts, archive_id="a1") == first

    async def test_complete_makes_a_version(self, versioned: ObjectStore, key: str) -> None:
        """A new archive of the same key keeps the older version, and names its own."""
        infos = []
        for archive_id in ("a1", "a2"):
            upload_id, parts = await upload(versioned, key, [archive_id.encode()], archive_id)
            infos.append(await versioned.complete_upload(key, upload_id, parts, archive_id=archive_id))
        assert [each.version_id for each in await versioned.list_versions(key)] == [
            infos[1].version_id,
            infos[0].version_id,
        ]
        older = await versioned.head(key, version_id=infos[0].version_id)
        assert older is not None
        assert older.metadata[ARCHIVE_ID] == "a1"

    async def test_listed_archive_can_be_deleted_by_its_etag(self, store: ObjectStore, key: str) -> None:
        """What a listing says of an object made of parts is what head says, and what a condition on it needs."""
        upload_id, parts = await upload(store, key, [FULL_PART, b"tail"], "a1")
        info = await store.complete_upload(key, upload_id, parts, archive_id="a1")
        [listed] = await store.list_versions(key)
        assert (listed.etag, listed.size_bytes) == (info.etag, info.size_bytes)
        await store.delete(key, etag=listed.etag)
        assert await store.list_versions(key) == []

    async def test_part_sent_again(self, store: ObjectStore, key: str) -> None:
        """A part that is sent again replaces the first; the upload completes with what was answered last."""
        upload_id, _ = await upload(store, key, [b"first"], "a1")
        part = await store.upload_part(key, upload_id, 1, [b"second"])
        info = await store.complete_upload(key, upload_id, [part], archive_id="a1")
        assert await read_all(store, key, etag=info.etag) == b"second"

    async def test_list_parts(self, store: ObjectStore, key: str) -> None:
        """The parts of an open upload are known by number, size and ETag."""
        upload_id, parts = await upload(store, key, [FULL_PART, b"tail"], "a1")
        listed = await store.list_parts(key, upload_id)
        assert listed is not None
        assert [(each.number, each.size_bytes, each.etag) for each in listed] == [
            (each.number, each.size_bytes, each.etag) for each in parts
        ]
        assert all(each.crc64 in (b"", part.crc64) for each, part in zip(listed, parts, strict=True))

    async def test_aborted_upload_is_lost(self, store: ObjectStore, key: str) -> None:
        """An aborted upload takes no parts, is not completed, and aborting it again is fine."""
        upload_id, parts = await upload(store, key, [b"small"], "a1")
        for _ in range(2):
            await store.abort_upload(key, upload_id)
        with pytest.raises(UploadLost):
            await store.upload_part(key, upload_id, 1, [b"small"])
        with pytest.raises(UploadLost):
            await store.complete_upload(key, upload_id, parts, archive_id="a1")
        assert await store.list_parts(key, upload_id) is None
        assert await store.head(key) is None

    async def test_lost_upload_is_not_taken_for_an_older_archive(self, store: ObjectStore, key: str) -> None:
        """Another archive of the same size that stands there is not ours."""
        first, parts = await upload(store, key, [b"small"], "a1")
        await store.complete_upload(key, first, parts, archive_id="a1")
        second, parts = await upload(store, key, [b"other"], "a2")
        await store.abort_upload(key, second)
        with pytest.raises(UploadLost):
            await store.complete_upload(key, second, parts, archive_id="a2")

    async def test_refused_part(self, store: ObjectStore, key: str) -> None:
        """A part that the store does not have under that ETag means that the upload is lost."""
        upload_id, [part] = await upload(store, key, [b"small"], "a1")
        wrong = UploadedPart(part.number, part.size_bytes, "0" * 32, part.crc64)
        with pytest.raises(UploadLost):
            await store.complete_upload(key, upload_id, [wrong], archive_id="a1")
        assert await store.head(key) is None

    async def test_abort_after_complete(self, store: ObjectStore, key: str) -> None:
        """A late abort does not touch the object."""
        upload_id, parts = await upload(store, key, [b"small"], "a1")
        info = await store.complete_upload(key, upload_id, parts, archive_id="a1")
        await store.abort_upload(key, upload_id)
        assert await store.head(key) == info

    async def test_uploads_of_exactly_this_key(self, store: ObjectStore, key: str) -> None:
        """Open uploads are found by their exact key; those of keys that merely begin so are left alone."""
        mine = {await store.create_upload(key, {ARCHIVE_ID: "a"}) for _ in range(3)}
        neighbour = f"{key}.old"
        other = await store.create_upload(neighbour, {ARCHIVE_ID: "a"})
        assert set(await store.list_uploads(key)) == mine
        assert await abort_uploads(store, key) == 3
        assert await store.list_uploads(key) == []
        assert await store.list_uploads(neighbour) == [other]


@pytest.fixture(scope="module")
def on_seaweed(seaweed: Seaweed) -> Ground:
    """SeaweedFS."""
    return seaweed, new_bucket(seaweed), new_bucket(seaweed, versioned=True)


@pytest.fixture(scope="module")
def on_minio(minio: Minio) -> Ground:
    """MinIO."""
    return minio, new_bucket(minio), new_bucket(minio, versioned=True)


class TestSeaweed(ObjectStoreContract):
    """Our S3 client against SeaweedFS."""

    @pytest.fixture
    def ground(self, on_seaweed: Ground) -> Ground:
        """The server."""
        return on_seaweed

    @pytest.fixture
    async def store(self, ground: Ground) -> AsyncIterator[ObjectStore]:
        """On the bucket without versions."""
        async with open_store(settings_of(ground[0], ground[1]), self.capabilities) as store:
            yield store

    @pytest.fixture
    async def versioned(self, ground: Ground) -> AsyncIterator[ObjectStore]:
        """On the bucket with versions."""
        async with open_store(settings_of(ground[0], ground[2]), self.capabilities) as store:
            yield store


class TestMinio(TestSeaweed):
    """The same against MinIO, which deletes in spite of If-Match."""

    capabilities = Capabilities(conditional_delete=False)

    @pytest.fixture
    def ground(self, on_minio: Ground) -> Ground:
        """The server."""
        return on_minio


class TestMemory(ObjectStoreContract):
    """The store in memory that unit tests use: it must promise no more and no less."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """Without versions."""
        return MemoryStore()

    @pytest.fixture
    def versioned(self) -> ObjectStore:
        """With versions."""
        return MemoryStore(versioned=True)
