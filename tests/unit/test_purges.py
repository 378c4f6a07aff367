"""The steps of a purge: refuse before anything is removed, remove by exact name, look again."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.backends.base import VolumeUser, VolumeView
from activities.control.purge import MAX_LISTINGS, PurgeActivities
from activities.control.services import Services
from activities.dataplane.manifest import Manifest, StoredObject
from activities.objectstore.base import ObjectInfo, PreconditionFailed
from activities.state.fence import Claimant, FencedRecord, read_record
from activities.state.record import LeftBehind, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, foreign_archive_key, manifest_key
from tests.fakes.memory_backend import KEY, MemoryBackend
from tests.fakes.memory_store import MemoryStore
from workflows.messages import PurgeStepInput, PurgeStepResult

WS = "ws1"
RUN = "test-run"
"""The run of an activity in its test environment."""

ARCHIVE, MANIFEST = archive_key(WS), manifest_key(archive_key(WS))
FOREIGN = foreign_archive_key(WS)
EVIDENCE: dict[str, Any] = {"archive_id": "a1", "fingerprint": "b3:" + "f" * 64}


class Unlucky(MemoryStore):
    """``replaced``: so often an object is another by the time that it is deleted. ``listed``: what listings show;
    ``None``: all. ``unwilling``: a GET fails."""

    def __init__(self, *, versioned: bool = False) -> None:
        super().__init__(versioned=versioned)
        self.replaced = 0
        self.listed: list[ObjectInfo] | None = None
        self.unwilling: str | None = None

    async def delete(self, key: str, *, version_id: str | None = None, etag: str | None = None) -> None:
        if self.replaced:
            self.replaced -= 1
            raise PreconditionFailed(key)
        await super().delete(key, version_id=version_id, etag=etag)

    async def list_versions(self, key: str) -> list[ObjectInfo]:
        return await super().list_versions(key) if self.listed is None else list(self.listed)

    async def get(self, key: str, *, version_id: str | None = None) -> tuple[bytes, ObjectInfo] | None:
        if key == self.unwilling:
            raise StorageError(ErrorCode.STORE_UNAVAILABLE, "a test")
        return await super().get(key, version_id=version_id)


class Ground:
    """A workspace that the run under test has claimed."""

    def __init__(self, *, versioned: bool = False) -> None:
        self.store = Unlucky(versioned=versioned)
        self.backend = MemoryBackend()
        self.purge = PurgeActivities(Services(self.store, self.backend, "here"))
        self.fenced = FencedRecord(self.store, WS, RUN)

    async def begin(self, uid: str | None = None, state: VolumeState | None = None, **facts: Any) -> Record:
        """``uid`` stands there and, if ``state`` is given, in the record."""
        await self.fenced.claim(Claimant("here", "purge"))
        self.backend.volume = VolumeView(KEY, uid) if uid else None
        volume = VolumeRecord(**{"uid": uid or "gone", "state": state, "place": "here", **facts}) if state else None
        return await self.fenced.change(lambda now: now.with_volume(volume))

    async def archived(self, *, named: str | None = None) -> ObjectInfo:
        """An archive and its manifest; ``named``: the version that the manifest names, instead of what it has."""
        info = self.store.place(ARCHIVE, b"bytes", etag="e1", metadata={"archive-id": "a1"})
        stored = StoredObject(
            key=ARCHIVE, size_bytes=5, etag="e1", version_id=named or info.version_id, crc64=(info.crc64 or b"").hex()
        )
        await self.manifest(Manifest(archive_id="a1", workspace_id=WS, object=stored).to_json())
        return info

    async def manifest(self, data: bytes) -> None:
        """Store it."""
        await self.store.put_if(MANIFEST, data, etag=None)

    async def look(self, **scope: Any) -> PurgeStepResult:
        """The activity."""
        return await ActivityEnvironment().run(self.purge.inspect_for_purge, step(**scope))

    async def archive(self, **scope: Any) -> PurgeStepResult:
        """The activity."""
        return await ActivityEnvironment().run(self.purge.purge_archive, step(**scope))

    async def volume(self, **scope: Any) -> PurgeStepResult:
        """The activity."""
        return await ActivityEnvironment().run(self.purge.purge_volume, step(**scope))

    async def confirm(self, **scope: Any) -> PurgeStepResult:
        """The activity."""
        return await ActivityEnvironment().run(self.purge.confirm_purge, step(**scope))

    async def record(self) -> Record:
        """As it is now."""
        found = await read_record(self.store, WS)
        assert found is not None
        return found[0]


def step(**scope: Any) -> PurgeStepInput:
    """A step of this workspace."""
    return PurgeStepInput(workspace_id=WS, place="here", **scope)


@pytest.fixture
def ground() -> Ground:
    """A bucket without versions."""
    return Ground()


async def code_of(call: Awaitable[object]) -> ErrorCode:
    """How the call fails."""
    with pytest.raises(StorageError) as failed:
        await call
    return failed.value.code


# ------------------------------------------------------------ refused, or out of scope


async def test_a_key_of_another_backend_is_refused(ground: Ground) -> None:
    """Before the record is even read."""
    assert await code_of(ground.look(home_store_key="ws-ws1-home")) == ErrorCode.INVALID_INPUT


@pytest.mark.parametrize("scope", [{"home_store_key": KEY}, {"archive_key": ARCHIVE}, {}])
async def test_where_no_volume_is_nothing_is_refused(ground: Ground, scope: dict[str, str]) -> None:
    """And none is removed."""
    await ground.begin()
    assert await ground.look(**scope) == await ground.volume(**scope) == PurgeStepResult()
    assert ground.backend.done == []


@pytest.mark.parametrize(
    ("scope", "uid", "state", "is_in"),
    [
        ({"home_store_key": KEY}, "u1", VolumeState.READY, True),
        ({"archive_key": ARCHIVE}, "u1", VolumeState.READY, False),
        ({"archive_key": ARCHIVE}, "u1", VolumeState.ARCHIVED, True),
        ({"archive_key": ARCHIVE}, "u1", VolumeState.DELETING, True),
        ({"archive_key": ARCHIVE}, "u1", VolumeState.RESTORING, True),
        ({"archive_key": ARCHIVE}, "u1", None, False),
        ({"archive_key": FOREIGN}, "u1", VolumeState.ARCHIVED, False),
        ({}, "u1", VolumeState.ARCHIVED, False),
    ],
)
async def test_what_the_keys_reach(
    ground: Ground, scope: dict[str, str], uid: str, state: VolumeState | None, is_in: bool
) -> None:
    """The volume's own key reaches it whatever it holds; the archive's reaches one that no user was handed since."""
    await ground.begin(uid, state, **(EVIDENCE if state in (VolumeState.ARCHIVED, VolumeState.DELETING) else {}))
    result = await ground.volume(**scope)
    assert result.removed == ((KEY,) if is_in else ())
    assert (ground.backend.volume is None) is is_in


async def test_a_volume_without_a_uid_is_kept(ground: Ground) -> None:
    """It is not ours: an archive's key does not reach it, and its own key is refused."""
    await ground.begin()
    ground.backend.volume = VolumeView(KEY, None)
    assert (await ground.volume(archive_key=ARCHIVE)).removed == ()
    for call in (ground.look, ground.volume):
        assert await code_of(call(home_store_key=KEY)) == ErrorCode.VOLUME_CONFLICT
    assert ground.backend.done == []


async def test_another_volume_than_the_records_is_kept(ground: Ground) -> None:
    """Nor does one go that is not the one which the caller expects."""
    await ground.begin("u1", VolumeState.READY)
    assert await code_of(ground.volume(home_store_key=KEY, volume_uid="u2")) == ErrorCode.VOLUME_CONFLICT
    ground.backend.volume = VolumeView(KEY, "stranger")
    assert await code_of(ground.volume(home_store_key=KEY)) == ErrorCode.VOLUME_CONFLICT
    assert ground.backend.done == []


async def test_what_was_given_up_goes_with_either_key(ground: Ground) -> None:
    """Nobody is handed it any more."""
    for scope in ({"home_store_key": KEY, "volume_uid": "u1"}, {"archive_key": ARCHIVE}):
        await ground.begin("u1", VolumeState.RESTORING)
        await ground.fenced.change(lambda now: now.with_volume(None))
        assert await ground.look(**scope) == PurgeStepResult()
        assert (await ground.volume(**scope)).removed == (KEY,)


@pytest.mark.field("L10")
async def test_what_was_half_made_when_the_bucket_was_copied_is_kept(ground: Ground) -> None:
    """[H12] The archive's key does not reach it: it may have been handed out since."""
    record = await ground.begin("u1", VolumeState.RESTORING)
    await ground.fenced.change(lambda now: now.model_copy(update={"owner": now.owner.model_copy(update={"epoch": 2})}))
    assert record.volume is not None
    assert (await ground.volume(archive_key=ARCHIVE)).removed == ()


async def test_a_volume_in_use_is_refused_at_once(ground: Ground) -> None:
    """And again right before it goes."""
    await ground.begin("u1", VolumeState.READY)
    ground.backend.volume = VolumeView(KEY, "u1", users=(VolumeUser("dev"),))
    for call in (ground.look, ground.volume):
        assert await code_of(call(home_store_key=KEY)) == ErrorCode.VOLUME_IN_USE
    assert ground.backend.done == []


# ------------------------------------------------------------ the volume goes


async def test_a_volume_is_sealed_before_it_goes(ground: Ground) -> None:
    """The record says so first, with the purge as its evidence; its movers end before."""
    await ground.begin("u1", VolumeState.READY)
    ground.backend.remains = "a retained disk"
    result = await ground.volume(home_store_key=KEY)
    assert (result.removed, result.left) == ((KEY,), ("a retained disk",))
    assert ground.backend.done == ["detach u1", "delete u1"]
    sealed = (await ground.record()).volume
    assert sealed is not None
    assert (sealed.state, sealed.purged_by) == (VolumeState.DELETING, RUN)


async def test_the_archives_key_takes_what_that_archive_was_made_from(ground: Ground) -> None:
    """If it is more by now, volume and archive are both kept: it is looked at first, and right before it goes."""
    await ground.begin("u1", VolumeState.ARCHIVED, **EVIDENCE)
    await ground.look(archive_key=ARCHIVE)
    ground.backend.prints = "b3:" + "e" * 64
    for call in (ground.look, ground.volume):
        assert await code_of(call(archive_key=ARCHIVE)) == ErrorCode.VOLUME_CHANGED
    assert (await ground.record()).volume == (await ground.fenced.check()).volume
    assert ground.backend.done == ["detach u1"]
    assert (await ground.volume(home_store_key=KEY)).removed == (KEY,)  # its own key takes it whatever it holds


# ------------------------------------------------------------ the archive goes


async def test_archive_and_manifest_go(ground: Ground) -> None:
    """With unfinished uploads; what else stands there is no key of ours, and stays."""
    await ground.begin()
    await ground.archived()
    await ground.store.create_upload(ARCHIVE, {})
    await ground.store.put_if("ws1/stranger", b"x", etag=None)
    result = await ground.archive(archive_key=ARCHIVE)
    assert result.removed == (ARCHIVE, f"{ARCHIVE} (unfinished upload)", MANIFEST)
    assert await ground.store.list_keys("ws1/") == ["ws1/home.state", "ws1/stranger"]


async def test_nothing_is_removed_without_an_archives_key(ground: Ground) -> None:
    """The archive outlives its volume."""
    await ground.begin()
    await ground.archived()
    assert await ground.archive(home_store_key=KEY) == PurgeStepResult()
    assert await ground.store.head(ARCHIVE) is not None


async def test_of_a_foreign_archive_only_the_object_goes(ground: Ground) -> None:
    """It has no manifest of ours."""
    await ground.begin()
    ground.store.place(FOREIGN, b"x", etag="e", metadata={})
    assert (await ground.archive(archive_key=FOREIGN)).removed == (FOREIGN,)


async def test_all_versions_go(ground: Ground) -> None:
    """Each by its id, and the one that the manifest named although no listing shows it."""
    ground = Ground(versioned=True)
    await ground.begin()
    older = ground.store.place(ARCHIVE, b"older", etag="e0", metadata={})
    newer = await ground.archived(named=older.version_id)
    ground.store.listed = []
    result = await ground.archive(archive_key=ARCHIVE)
    assert result.versions == (older.version_id,)
    assert {f"{ARCHIVE}@{newer.version_id}", f"{ARCHIVE}@{older.version_id}"} < set(result.removed)
    ground.store.listed = None
    assert await ground.store.list_versions(ARCHIVE) == []


async def test_an_object_that_is_replaced_is_swept_again(ground: Ground) -> None:
    """By what it is then; what never ends is left for the look afterwards to tell."""
    await ground.begin()
    await ground.archived()
    ground.store.replaced = 2
    assert (await ground.archive(archive_key=ARCHIVE)).removed == (ARCHIVE, MANIFEST)
    await ground.archived()
    ground.store.replaced = MAX_LISTINGS * 2
    assert (await ground.archive(archive_key=ARCHIVE)).removed == ()
    assert await ground.store.head(ARCHIVE) is not None


@pytest.mark.parametrize("data", [b"{", b'{"format_version": 99}', None], ids=["torn", "later", "placeholder"])
async def test_a_manifest_that_names_nothing_stops_no_purge(ground: Ground, data: bytes | None) -> None:
    """It goes like any other."""
    await ground.begin()
    await ground.manifest(Manifest(archive_id=None, workspace_id=WS).to_json() if data is None else data)
    result = await ground.archive(archive_key=ARCHIVE)
    assert (result.removed, result.versions) == ((MANIFEST,), ())


async def test_a_store_that_is_away_stops_it(ground: Ground) -> None:
    """The manifest cannot be read, which is not the same as none: nothing is removed."""
    await ground.begin()
    await ground.archived()
    ground.store.unwilling = MANIFEST
    assert await code_of(ground.archive(archive_key=ARCHIVE)) == ErrorCode.STORE_UNAVAILABLE
    assert await ground.store.head(ARCHIVE) is not None


# ------------------------------------------------------------ looked at again


async def test_where_all_is_gone_the_record_is_a_tombstone(ground: Ground) -> None:
    """It names no volume, and no archive."""
    await ground.begin("u1", VolumeState.DELETING, **EVIDENCE)
    ground.backend.volume = None
    assert await ground.confirm(archive_key=ARCHIVE) == PurgeStepResult()
    assert (await ground.record()).volume is None


async def test_what_is_still_there_is_a_fault(ground: Ground) -> None:
    """Object, upload and volume, each by its name; the record stays as it is."""
    ground = Ground(versioned=True)
    record = await ground.begin("u1", VolumeState.READY)
    info = await ground.archived()
    await ground.store.create_upload(MANIFEST, {})
    result = await ground.confirm(home_store_key=KEY, archive_key=ARCHIVE)
    [first, second, third] = result.faults
    assert first == f"{ARCHIVE}@{info.version_id} is still there"
    assert second.startswith(f"{MANIFEST}@")
    assert third == f"volume {KEY} is still there"
    assert await ground.record() == record


async def test_an_upload_without_an_object_is_a_fault(ground: Ground) -> None:
    """The key stands for it."""
    await ground.begin()
    await ground.store.create_upload(ARCHIVE, {})
    assert (await ground.confirm(archive_key=ARCHIVE)).faults == (f"{ARCHIVE} is still there",)


async def test_a_version_that_no_listing_shows_is_a_fault(ground: Ground) -> None:
    """The step was told of it before the manifest went."""
    ground = Ground(versioned=True)
    await ground.begin()
    older = ground.store.place(ARCHIVE, b"older", etag="e0", metadata={})
    await ground.store.delete(ARCHIVE)  # a marker over it
    ground.store.listed = []
    result = await ground.confirm(archive_key=ARCHIVE, versions=(older.version_id,))
    assert result.faults == (f"{ARCHIVE}@{older.version_id} is still there",)


async def test_what_was_out_of_scope_is_named_and_kept(ground: Ground) -> None:
    """Volume, archive, manifest, strangers, and what stands at other places. No tombstone, so nobody begins anew."""
    await ground.begin("u1", VolumeState.READY)
    left = LeftBehind(uid="u0", place="there")
    await ground.fenced.change(lambda now: now.model_copy(update={"left_behind": (left,)}))
    await ground.store.put_if("ws1/stranger", b"x", etag=None)
    await ground.archived()
    by_archive = await ground.confirm(archive_key=ARCHIVE)
    assert set(by_archive.left) == {"ws1/stranger", str(left), KEY}
    ground.backend.volume = None
    by_volume = await ground.confirm(home_store_key=KEY)
    assert set(by_volume.left) == {"ws1/stranger", ARCHIVE, MANIFEST, str(left)}
    assert (await ground.record()).volume is not None


async def test_an_object_that_no_listing_shows_is_named(ground: Ground) -> None:
    """Each key of ours is asked for itself."""
    await ground.begin()
    await ground.archived()

    async def nothing(prefix: str) -> list[str]:
        return []

    ground.store.list_keys = nothing  # type: ignore[method-assign]
    assert (await ground.confirm(home_store_key=KEY)).left == (ARCHIVE, MANIFEST)


@pytest.mark.field("D10")
async def test_a_loss_is_forgotten_with_the_volumes_key_alone(ground: Ground) -> None:
    """A home that nobody of ours deleted is told of; who purges the volume too has accepted that."""
    await ground.begin("u1", VolumeState.READY)
    ground.backend.volume = None
    assert "volume u1" in (await ground.confirm(archive_key=FOREIGN)).left[0]  # nor is a foreign key enough
    told = await ground.confirm(archive_key=ARCHIVE)
    assert told.lost_volume_uid == "u1"
    assert "volume u1 of workspace ws1 is not there" in told.left[0]
    assert (await ground.record()).volume is not None
    forgotten = await ground.confirm(home_store_key=KEY, archive_key=ARCHIVE)
    assert (forgotten.left, forgotten.lost_volume_uid) == ((), "u1")
    assert (await ground.record()).missing is None
