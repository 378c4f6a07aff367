"""What every volume backend must do. A backend inherits the suite and says how a place is made and written to."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from activities.backends.base import Deletion, MoverSpec, ReadOnlyBackend, VolumeBackend, Walk
from activities.backends.directory.backend import DirectoryBackend
from activities.backends.directory.layout import Note
from activities.backends.wait_policy import WaitPolicy
from activities.dataplane.fingerprint import change_fingerprint
from activities.runtime.linux.syscalls import inode
from activities.state.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import workspace_of_volume
from tests.fakes.records import RecordFile

WS = "ws1"


class Place(Protocol):
    """A place as a test sees it: two backends on it, and a user who writes and reads a file."""

    @property
    def backend(self) -> VolumeBackend:
        """One worker's."""
        ...

    @property
    def other(self) -> VolumeBackend:
        """Another worker's."""
        ...

    def write(self, workspace_id: str, text: str) -> None:
        """A user's file on the volume."""

    def read(self, workspace_id: str) -> str | None:
        """What the file says; ``None`` if there is no such file or no volume."""

    def make_foreign(self, workspace_id: str) -> None:
        """A volume with the right name that is not ours, with the user's file ``foreign`` on it."""

    def make_of_another(self, workspace_id: str, uid: str, says: str) -> None:
        """The volume of ``workspace_id`` by its name, with this uid, that says it belongs to workspace ``says``; with
        the user's file ``theirs``."""

    def mover(self, workspace_id: str, uid: str, run_id: str, number: int = 1) -> MoverSpec:
        """A mover to start."""


class VolumeBackendContract:
    """The Protocol as tests."""

    @pytest.fixture
    async def place(self, tmp_path: Path) -> Place:
        """A marked, empty place."""
        raise NotImplementedError

    @pytest.fixture
    def record(self, tmp_path: Path) -> RecordFile:
        """The record of workspace ``ws1``, owned by ``run-1``, which announces volume ``u1``."""
        record = RecordFile(tmp_path / "record.json", WS)
        record.volume("u1", VolumeState.RESTORING)
        return record

    @staticmethod
    async def ready(place: Place, record: RecordFile, text: str = "work") -> None:
        """Volume ``u1`` made, handed out and written to."""
        await place.backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
        record.volume("u1", VolumeState.READY)
        place.write(WS, text)

    async def test_the_name_tells_the_workspace(self, place: Place) -> None:
        """Key and id are the same thing twice, and neighbours differ."""
        for workspace_id in (WS, "ws10", "a", "a-b"):
            assert workspace_of_volume(place.backend.home_store_key(workspace_id)) == workspace_id
        with pytest.raises(StorageError) as error:
            place.backend.home_store_key("../up")
        assert error.value.code is ErrorCode.INVALID_INPUT

    async def test_the_place_keeps_its_identity(self, place: Place) -> None:
        """Marking again answers the identity that is there."""
        identity = await place.backend.identity()
        assert identity is not None
        assert await place.other.mark("another", adopt=True) == identity
        assert await place.other.identity() == identity

    async def test_create_is_seen_by_all(self, place: Place, record: RecordFile) -> None:
        """A volume carries uid, origin and spec, whoever looks."""
        made = await place.backend.create(WS, "u1", restored_from="a1", spec={"size_bytes": "5"}, fence=record.fence)
        seen = await place.other.inspect(WS, fence=record.fence)
        assert seen is not None
        assert (seen.uid, seen.restored_from) == ("u1", "a1")
        assert {"size_bytes": "5"}.items() <= seen.spec.items()  # and what the place has chosen itself
        assert seen.home_store_key == made.home_store_key == place.backend.home_store_key(WS)
        assert seen.users == ()

    async def test_a_glance_sees_what_stands_there(self, place: Place, record: RecordFile) -> None:
        """For who has no run: the same volume that an inspection sees; none, and a stranger's, are told too."""
        backend = place.other
        assert isinstance(backend, ReadOnlyBackend)
        assert await backend.peek(WS, await record.fence()) is None
        await self.ready(place, record)
        seen = await backend.inspect(WS, fence=record.fence)
        unasked = await backend.inspect(WS, fence=record.fence, users=False)
        assert unasked is not None
        assert unasked.users is None
        assert seen is not None
        assert await backend.peek(WS, await record.fence()) == seen
        place.make_foreign("ws2")
        foreign = await backend.peek("ws2", await record.fence())
        assert foreign is not None
        assert foreign.uid is None

    async def test_missing_is_none(self, place: Place, record: RecordFile) -> None:
        """No volume is an answer, no error."""
        assert await place.backend.inspect(WS, fence=record.fence) is None

    async def test_create_twice(self, place: Place, record: RecordFile) -> None:
        """The same uid again keeps what is there; another uid is refused."""
        await self.ready(place, record)
        again = await place.other.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
        assert again.uid == "u1"
        with pytest.raises(StorageError) as error:
            await place.backend.create(WS, "u2", restored_from=None, spec={}, fence=record.fence)
        assert error.value.code is ErrorCode.VOLUME_CONFLICT
        assert place.read(WS) == "work"

    async def test_no_volume_for_a_given_up_uid(self, place: Place, record: RecordFile) -> None:
        """A late create of a run that was undone makes nothing [H3]."""
        record.give_up()
        with pytest.raises(StorageError) as error:
            await place.backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
        assert error.value.code is ErrorCode.VOLUME_CONFLICT
        assert await place.backend.inspect(WS, fence=record.fence) is None

    async def test_a_foreign_volume_is_never_ours(self, place: Place, record: RecordFile) -> None:
        """Shown without a uid; neither create nor delete nor a mover touches it."""
        place.make_foreign(WS)
        seen = await place.backend.inspect(WS, fence=record.fence)
        assert seen is not None
        assert seen.uid is None
        record.volume("u1", VolumeState.DELETING)
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=None)
        for refused in (
            place.backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence),
            place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence),
        ):
            with pytest.raises(StorageError) as error:
                await refused
            assert error.value.code is ErrorCode.VOLUME_CONFLICT
        assert place.read(WS) == "foreign"

    @pytest.mark.field("D2")
    @pytest.mark.parametrize("state", list(VolumeState))
    async def test_a_volume_that_says_it_is_another_workspaces_is_kept(
        self, place: Place, record: RecordFile, state: VolumeState
    ) -> None:
        """Whatever the record says, and though it names this very uid: VolumeConflict to every method."""
        place.make_of_another(WS, "u1", "ws9")
        record.volume("u1", state)
        backend = place.other
        assert isinstance(backend, ReadOnlyBackend)
        for refused in (
            backend.inspect(WS, fence=record.fence),
            backend.peek(WS, await record.fence()),
            backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence),
            backend.fingerprint(WS, "u1", fence=record.fence),
            backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence),
            backend.delete(WS, "u1", fence=record.fence, deletion=None),
            backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion()),
        ):
            with pytest.raises(StorageError) as error:
                await refused
            assert error.value.code is ErrorCode.VOLUME_CONFLICT
        assert place.read(WS) == "theirs"
        assert await backend.list_volumes() == {WS: None}

    @pytest.mark.field("D2")
    async def test_another_workspaces_mover_is_not_stopped_by_its_uid(self, place: Place, record: RecordFile) -> None:
        """A record that names the uid of somebody else's volume ends no mover there."""
        await self.ready(place, record)
        mover = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        theirs = RecordFile(record.path.with_name("theirs.json"), "ws2", "run-2")
        theirs.volume("u1", VolumeState.RESTORING)
        with contextlib.suppress(StorageError):
            await place.other.detach("ws2", "u1", fence=theirs.fence)
        assert await mover.wait(0.5) is None
        await mover.stop()

    @pytest.mark.field("D10")
    async def test_what_stands_is_listed(self, place: Place, record: RecordFile) -> None:
        """By workspace, with the uid of what is ours."""
        backend = place.other
        assert isinstance(backend, ReadOnlyBackend)
        assert await backend.list_volumes() == {}
        await self.ready(place, record)
        assert await backend.list_volumes() == {WS: "u1"}

    async def test_every_method_minds_the_fence(self, place: Place, record: RecordFile) -> None:
        """A run that lost the workspace changes nothing and starts nothing."""
        await self.ready(place, record)
        record.claim("run-2")
        backend, fence = place.backend, record.fence
        for call in (
            backend.create(WS, "u1", restored_from=None, spec={}, fence=fence),
            backend.inspect(WS, fence=fence),
            backend.fingerprint(WS, "u1", fence=fence),
            backend.delete(WS, "u1", fence=fence, deletion=record.deletion()),
            backend.attach(place.mover(WS, "u1", "run-1"), fence=fence),
            backend.detach(WS, "u1", run_id="run-1", fence=fence),
            backend.remove_stopped_users(WS, fence=fence),
        ):
            with pytest.raises(StorageError) as error:
                await call
            assert error.value.code is ErrorCode.NOT_YOURS
        assert place.read(WS) == "work"

    async def test_the_fingerprint_tells_of_a_write(self, place: Place, record: RecordFile) -> None:
        """The same as long as nothing moves, another after a write; of a uid that is not there, none."""
        await self.ready(place, record)
        first = await place.backend.fingerprint(WS, "u1", fence=record.fence)
        assert await place.other.fingerprint(WS, "u1", fence=record.fence) == first
        place.write(WS, "more work")
        assert await place.backend.fingerprint(WS, "u1", fence=record.fence) != first
        with pytest.raises(StorageError) as error:
            await place.backend.fingerprint(WS, "u0", fence=record.fence)
        assert error.value.code is ErrorCode.VOLUME_NOT_FOUND

    async def test_the_check_may_walk(self, place: Place, record: RecordFile) -> None:
        """What the check is told is the fingerprint that the volume has at that moment."""
        await self.ready(place, record)
        expected, seen = await place.backend.fingerprint(WS, "u1", fence=record.fence), []

        async def check(walk: Walk) -> None:
            seen.append(await walk())

        deletion = Deletion(check=check, seal=record.deletion().seal)
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=deletion)
        assert seen == [expected]
        assert place.read(WS) is None

    async def test_delete_takes_evidence(self, place: Place, record: RecordFile) -> None:
        """A handed-out volume goes only after check and seal, in that order."""
        await self.ready(place, record)
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
        assert await place.other.inspect(WS, fence=record.fence) is None
        volume = record.read().volume
        assert volume is not None
        assert volume.state is VolumeState.DELETING
        assert place.read(WS) is None

    async def test_delete_without_evidence_is_refused(self, place: Place, record: RecordFile) -> None:
        """Without a deletion the record itself must say so; `deleting` does [H2]."""
        await self.ready(place, record)
        with pytest.raises(StorageError) as error:
            await place.backend.delete(WS, "u1", fence=record.fence, deletion=None)
        assert error.value.code is ErrorCode.VOLUME_CONFLICT
        assert place.read(WS) == "work"
        record.volume("u1", VolumeState.DELETING)
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=None)
        assert place.read(WS) is None

    @pytest.mark.parametrize("code", [ErrorCode.VOLUME_CHANGED, ErrorCode.VOLUME_IN_USE, ErrorCode.NOT_YOURS])
    async def test_a_failed_check_keeps_the_volume(self, place: Place, record: RecordFile, code: ErrorCode) -> None:
        """What the check raises comes out, and the volume stands as before, not sealed."""
        await self.ready(place, record)
        before = record.read()
        with pytest.raises(StorageError) as error:
            await place.backend.delete(
                WS, "u1", fence=record.fence, deletion=record.deletion(fails=StorageError(code, "no"))
            )
        assert error.value.code is code
        assert record.read() == before
        assert place.read(WS) == "work"

    async def test_delete_twice_and_of_another_uid(self, place: Place, record: RecordFile) -> None:
        """Missing is fine, and another uid there is not touched."""
        await self.ready(place, record)
        await place.backend.delete(WS, "u0", fence=record.fence, deletion=record.deletion())
        assert place.read(WS) == "work"
        for _ in range(2):
            await place.backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
        assert place.read(WS) is None

    async def test_neighbours_are_left_alone(self, place: Place, record: RecordFile, tmp_path: Path) -> None:
        """``ws1`` goes, ``ws10`` stays."""
        await self.ready(place, record)
        neighbour = RecordFile(tmp_path / "neighbour.json", "ws10")
        neighbour.volume("n1", VolumeState.RESTORING)
        await place.backend.create("ws10", "n1", restored_from=None, spec={}, fence=neighbour.fence)
        place.write("ws10", "theirs")
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
        assert place.read("ws10") == "theirs"

    async def test_a_new_volume_after_the_old_one(self, place: Place, record: RecordFile) -> None:
        """The name is free again, and the new volume has nothing of the old one."""
        await self.ready(place, record)
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
        record.volume("u2", VolumeState.RESTORING)
        made = await place.other.create(WS, "u2", restored_from="a1", spec={}, fence=record.fence)
        assert made.uid == "u2"
        assert place.read(WS) is None

    async def test_attach_adopts_its_own(self, place: Place, record: RecordFile) -> None:
        """Same run and queue: the same mover, also with ``adopt_only``."""
        await self.ready(place, record)
        spec = place.mover(WS, "u1", "run-1")
        mover = await place.backend.attach(spec, fence=record.fence)
        try:
            assert await place.backend.attach(spec, fence=record.fence) == mover
            assert await place.backend.attach(spec, fence=record.fence, adopt_only=True) == mover
            assert await mover.wait(0) is None
            seen = await place.backend.inspect(WS, fence=record.fence)
            assert seen is not None
            assert seen.users == ()
        finally:
            await mover.stop()

    async def test_adopt_only_starts_nothing(self, place: Place, record: RecordFile) -> None:
        """A lease that is tried again brings no second writer to life."""
        await self.ready(place, record)
        with pytest.raises(StorageError) as error:
            await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence, adopt_only=True)
        assert error.value.code is ErrorCode.MOVER_FAILED
        await place.other.delete(WS, "u1", fence=record.fence, deletion=record.deletion())

    @pytest.mark.field("O1")
    async def test_a_mover_of_another_protocol_is_not_adopted(self, place: Place, record: RecordFile) -> None:
        """It would wait for steps that it does not know. Where it can outlive its worker it is ended at once."""
        await self.ready(place, record)
        spec = place.mover(WS, "u1", "run-1")
        newer = replace(spec, protocol=spec.protocol + 1)
        old = await place.backend.attach(spec, fence=record.fence)
        with pytest.raises(StorageError) as error:
            await place.other.attach(newer, fence=record.fence, adopt_only=True)
        assert error.value.code is ErrorCode.MOVER_FAILED
        if place.other.movers_outlive_worker:
            assert f"speaks protocol {spec.protocol}, this worker {newer.protocol}" in error.value.message
            assert await old.wait(0)
        new = await place.other.attach(newer, fence=record.fence)
        try:
            assert await old.wait(30)
            assert await new.wait(0) is None
        finally:
            await new.stop()

    async def test_stop_means_gone(self, place: Place, record: RecordFile) -> None:
        """After ``stop`` the volume can be deleted at once; stopping twice is fine; ``wait`` says why it ended."""
        await self.ready(place, record)
        mover = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        await mover.stop()
        await mover.stop()
        assert await mover.wait(0)
        await place.other.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
        assert place.read(WS) is None

    async def test_attach_evicts_the_mover_of_an_older_run(self, place: Place, record: RecordFile) -> None:
        """A new run's mover begins when the old one is gone, whichever worker had started it."""
        await self.ready(place, record)
        old = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        record = record.claim("run-2")
        new = await place.other.attach(place.mover(WS, "u1", "run-2"), fence=record.fence)
        try:
            assert await old.wait(30)
            assert await new.wait(0) is None
        finally:
            await new.stop()

    async def test_attach_again_after_death(self, place: Place, record: RecordFile) -> None:
        """The next mover of the same run replaces one that ended."""
        await self.ready(place, record)
        first = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        await first.stop()
        second = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        try:
            assert second != first
            assert await second.wait(0) is None
        finally:
            await second.stop()

    async def test_no_mover_on_a_doomed_volume(self, place: Place, record: RecordFile) -> None:
        """`deleting` and given up: nobody works on that volume any more [H2, H3]."""
        await self.ready(place, record)
        record.volume("u1", VolumeState.DELETING)
        for _ in range(2):
            with pytest.raises(StorageError) as error:
                await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
            assert error.value.code is ErrorCode.VOLUME_CONFLICT
            record.give_up()

    async def test_no_mover_without_a_volume(self, place: Place, record: RecordFile) -> None:
        """A missing volume is not made by attaching to it."""
        with pytest.raises(StorageError) as error:
            await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        assert error.value.code is ErrorCode.VOLUME_NOT_FOUND
        assert await place.backend.inspect(WS, fence=record.fence) is None

    async def test_detach_minds_the_run(self, place: Place, record: RecordFile) -> None:
        """With a run id only that run's mover goes; without, all; and from any worker."""
        await self.ready(place, record)
        mover = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        await place.other.detach(WS, "u1", run_id="run-0", fence=record.fence)
        assert await mover.wait(0) is None
        await place.other.detach(WS, "u1", run_id=None, fence=record.fence)
        assert await mover.wait(30)
        await place.backend.detach(WS, "u1", run_id="run-1", fence=record.fence)

    async def test_delete_waits_for_the_mover(self, place: Place, record: RecordFile) -> None:
        """While this run's own mover lives the volume is not deleted."""
        await self.ready(place, record)
        mover = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        deleting = asyncio.create_task(place.other.delete(WS, "u1", fence=record.fence, deletion=record.deletion()))
        try:
            with pytest.raises(StorageError) as error:
                await deleting
            assert error.value.code in (ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.VOLUME_IN_USE)
            assert place.read(WS) == "work"
        finally:
            await mover.stop()


class DirectoryPlace:
    """A root folder with two backends on it, as two workers have them."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "volumes"
        self._out = tmp_path / "out"
        self.backend, self.other = self._backend(), self._backend()

    def _backend(self) -> DirectoryBackend:
        wait_policy = WaitPolicy(lock_seconds=5, grace_seconds=5)
        return DirectoryBackend(
            self.root,
            mover_entry="tests.fakes.movers:idle",
            walk=change_fingerprint,
            wait_policy=wait_policy,
            preload=(),
        )

    def _file(self, workspace_id: str) -> Path:
        return self.root / f"ws_{workspace_id}_home" / "work.txt"

    def write(self, workspace_id: str, text: str) -> None:
        """See ``Place``."""
        self._file(workspace_id).write_text(text)

    def read(self, workspace_id: str) -> str | None:
        """See ``Place``."""
        return self._file(workspace_id).read_text() if self._file(workspace_id).exists() else None

    def make_foreign(self, workspace_id: str) -> None:
        """See ``Place``."""
        self._file(workspace_id).parent.mkdir()
        self.write(workspace_id, "foreign")

    def make_of_another(self, workspace_id: str, uid: str, says: str) -> None:
        """See ``Place``: a folder and its note, moved to another name."""
        self._file(workspace_id).parent.mkdir()
        self.write(workspace_id, "theirs")
        found = inode(self._file(workspace_id).parent)
        assert found is not None
        note = Note(workspace_id=says, uid=uid, inode=found.number, born_ns=found.born_ns)
        path = self.root / ".codehub/volumes" / f"{workspace_id}.json"
        path.write_text(note.model_dump_json())

    def mover(self, workspace_id: str, uid: str, run_id: str, number: int = 1) -> MoverSpec:
        """See ``Place``."""
        return MoverSpec(
            workspace_id=workspace_id,
            volume_uid=uid,
            run_id=run_id,
            queue=f"mover/token-{run_id}/{number}",
            writable=True,
            environment={"TEST_OUT": str(self._out)},
        )


class TestDirectory(VolumeBackendContract):
    """Folders below a root."""

    @pytest.fixture
    async def place(self, tmp_path: Path) -> Place:
        """A new root."""
        place = DirectoryPlace(tmp_path)
        await place.backend.mark("place-1", adopt=False)
        return place
