"""`verify`: an archive against its proof, and the proof made anew; never over another archive's, never under a run."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from activities.dataplane.manifest import Manifest
from activities.dataplane.rebuild import verify_from_tail
from activities.state.record import Owner, Record
from codehub_storage.client import StorageClient
from codehub_storage.contracts import Phase, Progress
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import manifest_key, record_key
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import Made, make_archive
from worker.cli.proving import prove
from worker.cli.verifying import check

KEY = "ws1/home.tar.gz"
META = manifest_key(KEY)


@dataclass
class Runs:
    """Stands for the client: what it knows of the workspace's latest run. ``open_at``: the look that finds one open."""

    open_at: int = 0
    looks: int = field(default=0)

    async def progress(self, workspace_id: str) -> Progress:
        """See ``StorageClient``."""
        self.looks += 1
        return Progress(
            operation="archive", workspace_id=workspace_id, phase=Phase.COPYING, closed=self.looks != self.open_at
        )


def nothing(seen: int, total: int) -> None:
    """No progress is wanted."""


async def proved(store: MemoryStore, runs: Runs | None = None) -> tuple[Manifest, Any, bool]:
    """`verify --write-manifest`"""
    return await prove(store, cast(StorageClient, runs or Runs()), KEY, progress=nothing)


async def refused(code: ErrorCode, work: Awaitable[object]) -> StorageError:
    """The error with which it is refused."""
    with pytest.raises(StorageError) as caught:
        await work
    assert caught.value.code == code
    return caught.value


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A few files, large enough for several segments."""
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    for number in range(8):
        (root / "folder" / f"file {number}").write_bytes(bytes([number]) * 3000)
    (root / "large").write_bytes(b"large" * 9000)
    (root / "link").symlink_to("folder")
    return root


@pytest.fixture
def store() -> MemoryStore:
    """An unversioned bucket."""
    return MemoryStore(min_part_bytes=0)


@pytest.fixture
async def made(store: MemoryStore, tree: Path) -> Made:
    """An archive that is whole; its manifest is not stored, its workspace has a record."""
    record = Record(workspace_id="ws1", place="default", owner=Owner(run_id="run-1", operation="archive"))
    await store.put_if(record_key("ws1"), record.model_dump_json().encode(), etag=None)
    return await make_archive(tree, store)


async def stored_manifest(store: MemoryStore) -> Manifest | None:
    """What stands there."""
    found = await store.get(META)
    return Manifest.from_json(found[0]) if found else None


async def test_lost_manifest_is_written_again(store: MemoryStore, made: Made) -> None:
    """The new one proves the same object with the same digests, and the archive verifies against it."""
    manifest, info, written = await proved(store)
    assert written
    assert info.etag == made.info.etag
    assert await stored_manifest(store) == manifest
    assert manifest.archive_id == made.manifest.archive_id
    assert [each.digest for each in manifest.segments] == [each.digest for each in made.manifest.segments]
    assert (await check(store, KEY, None, nothing)).files == made.manifest.totals.files


async def test_written_twice_is_written_once(store: MemoryStore, made: Made) -> None:
    """An archive that is proven is read and compared, its manifest left as it is."""
    await proved(store)
    before = await store.get(META)
    assert not (await proved(store))[2]
    assert await store.get(META) == before


@pytest.mark.field("D9")
async def test_of_a_copied_bucket_the_manifest_is_pinned_anew(store: MemoryStore, made: Made) -> None:
    """Read by its old manifest, which then names the object that was read; `verify` alone writes nothing."""
    await proved(store)
    data = b"".join([block async for block in store.read(KEY, etag=made.info.etag)])
    store.place(KEY, data, etag="of a copy", metadata={})
    before = await store.get(META)
    assert (await check(store, KEY, None, nothing)).files == made.manifest.totals.files
    assert await store.get(META) == before
    manifest, _, written = await proved(store)
    assert written
    assert manifest.object is not None
    assert (manifest.object.etag, manifest.archive_id) == ("of a copy", made.manifest.archive_id)
    assert await stored_manifest(store) == manifest
    assert not (await proved(store))[2]


async def test_placeholder_is_replaced(store: MemoryStore, made: Made) -> None:
    """The empty manifest of an interrupted first archive is no proof of anything."""
    await store.put_if(META, Manifest(workspace_id="ws1").to_json(), etag=None)
    assert (await proved(store))[2]


async def test_unreadable_manifest_is_replaced(store: MemoryStore, made: Made) -> None:
    """Damage there is what the command is for."""
    await store.put_if(META, b"{ damaged", etag=None)
    assert (await proved(store))[2]


async def test_manifest_of_a_later_format_is_kept(store: MemoryStore, made: Made) -> None:
    """What this version cannot read may say more than this version can write."""
    later = Manifest(archive_id="later", workspace_id="ws1", format_version=99).to_json()
    await store.put_if(META, later, etag=None)
    await refused(ErrorCode.UNSUPPORTED, proved(store))
    assert (await store.get(META) or (b"",))[0] == later


async def test_manifest_of_an_archive_that_is_gone_is_replaced(store: MemoryStore, made: Made, tree: Path) -> None:
    """Without versions, the object that it proved was overwritten by this one."""
    old = made.manifest.model_copy(update={"archive_id": "older"})
    await store.put_if(META, old.to_json(), etag=None)
    (tree / "new").write_text("new")
    newer = await make_archive(tree, store, archive_id="newer")
    assert newer.info.etag != made.info.etag
    manifest, _, written = await proved(store)
    assert (written, manifest.archive_id) == (True, "newer")


async def test_proof_of_an_archive_that_is_stored_is_kept(tree: Path) -> None:
    """On a versioned bucket the proven version lies under an unproven one; its only proof is not given up."""
    store = MemoryStore(min_part_bytes=0, versioned=True)
    old = await make_archive(tree, store, archive_id="older")
    await store.put_if(META, old.manifest.to_json(), etag=None)
    await make_archive(tree, store, archive_id="newer")
    error = await refused(ErrorCode.LINEAGE_CONFLICT, proved(store))
    assert "older" in error.message
    assert await stored_manifest(store) == old.manifest


@pytest.mark.parametrize("look", [1, 2], ids=["before", "after"])
async def test_no_proof_under_an_open_run(store: MemoryStore, made: Made, look: int) -> None:
    """Neither when it begins nor when it would write may an operation of the workspace be running."""
    await refused(ErrorCode.OPERATION_IN_PROGRESS, proved(store, Runs(open_at=look)))
    found = await stored_manifest(store)
    assert found is None or found.is_placeholder


async def test_no_proof_when_the_record_changed(
    store: MemoryStore, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that came and went while the archive was read may have changed all of it."""

    async def claim() -> None:
        _, info = await store.get(record_key("ws1")) or (b"", None)
        record = Record(workspace_id="ws1", place="default", owner=Owner(run_id="run-2", operation="purge"))
        assert info is not None
        await store.put_if(record_key("ws1"), record.model_dump_json().encode(), etag=info.etag)

    meanwhile(monkeypatch, claim)
    await refused(ErrorCode.NOT_YOURS, proved(store))
    found = await stored_manifest(store)
    assert found is not None
    assert found.is_placeholder


async def test_nothing_appears_after_a_purge(store: MemoryStore, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge removes the empty manifest too, so the proof that comes late is refused."""

    async def purge() -> None:
        await store.delete(META)

    meanwhile(monkeypatch, purge)
    await refused(ErrorCode.NOT_YOURS, proved(store))
    assert await store.get(META) is None


def meanwhile(monkeypatch: pytest.MonkeyPatch, happening: Callable[[], Awaitable[None]]) -> None:
    """Let something happen after the archive was read and before the manifest is written."""

    async def read(*arguments: Any, **options: Any) -> Manifest:
        manifest = await verify_from_tail(*arguments, **options)
        await happening()
        return manifest

    monkeypatch.setattr("worker.cli.proving.verify_from_tail", read)


async def test_archive_of_another_workspace_is_refused(store: MemoryStore, made: Made) -> None:
    """An object that was copied under another workspace's key says in its tail whose it is."""
    data = b"".join([block async for block in store.read(KEY, etag=made.info.etag)])
    upload = await store.create_upload("ws2/home.tar.gz", {"archive-id": "00000000-archive"})
    part = await store.upload_part("ws2/home.tar.gz", upload, 1, [data])
    await store.complete_upload("ws2/home.tar.gz", upload, [part], archive_id="00000000-archive")
    client = cast(StorageClient, Runs())
    await refused(ErrorCode.ARCHIVE_CORRUPT, prove(store, client, "ws2/home.tar.gz", progress=nothing))


async def test_missing_archive(store: MemoryStore) -> None:
    """No object, nothing to prove; nothing is written either."""
    await refused(ErrorCode.ARCHIVE_NOT_FOUND, proved(store))
    await refused(ErrorCode.ARCHIVE_NOT_FOUND, check(store, KEY, None, nothing))
    assert await store.get(META) is None


async def foreign(store: MemoryStore, data: bytes) -> str:
    """Store an archive that somebody else made; its key."""
    await store.put_if("archives/ws1.tar.gz", data, etag=None)
    return "archives/ws1.tar.gz"


def tar_gz() -> bytes:
    """A small archive by Python."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in ("a", "b"):
            member = tarfile.TarInfo(name)
            member.size = 1000
            tar.addfile(member, io.BytesIO(bytes(1000)))
    return file.getvalue()


async def test_foreign_archive_is_read_whole(store: MemoryStore) -> None:
    """It has no proof, but it can be seen to be complete and well formed."""
    found = await check(store, await foreign(store, tar_gz()), None, nothing)
    assert (found.files, found.raw_bytes, found.proven) == (2, 2000, False)
    assert found.archive_id.startswith("foreign-")


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-9], lambda data: gzip.compress(gzip.decompress(data)[:2000]), lambda data: data + b"junk"],
    ids=["cut", "no end blocks", "junk behind"],
)
async def test_foreign_archive_that_is_damaged(store: MemoryStore, damage: Callable[[bytes], bytes]) -> None:
    """What every tar would pass over in silence is an error."""
    key = await foreign(store, damage(tar_gz()))
    await refused(ErrorCode.ARCHIVE_CORRUPT, check(store, key, None, nothing))


async def test_foreign_archive_needs_no_manifest(store: MemoryStore) -> None:
    """`--write-manifest` would say of it what nobody knows."""
    key = await foreign(store, tar_gz())
    client = cast(StorageClient, Runs())
    await refused(ErrorCode.UNSUPPORTED, prove(store, client, key, progress=nothing))
