"""Who has a Docker volume: containers in every state, and what may be done about those that do not run."""

from __future__ import annotations

import asyncio

import pytest

from activities.backends.base import VolumeUser
from activities.backends.docker.labels import adopted_uid
from activities.state.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.docker.places import DockerPlace
from tests.fakes.records import RecordFile
from tests.harness.docker import inspected

WS = "ws1"
MINE = ("--label", f"codehub.workspace={WS}")


async def users(place: DockerPlace, record: RecordFile) -> tuple[VolumeUser, ...]:
    """Who has the volume, as a look says."""
    view = await place.backend.inspect(WS, fence=record.fence)
    assert view is not None
    return view.users or ()


async def test_every_state_of_a_container_counts(place: DockerPlace, record: RecordFile) -> None:
    """Running and paused are in use; created and exited hold it, and are told apart by the workspace's label."""
    place.run("runs", WS)
    place.run("sleeps", WS, *MINE)
    place.engine.docker("pause", "sleeps")
    place.run("ended", WS, *MINE, command=("/bin/sh", "-c", "exit 0"))
    place.engine.docker("wait", "ended")
    mount = f"type=volume,source=ws_{WS}_home,target=/x"
    place.engine.docker("create", "--name", "never-ran", "--mount", mount, place.image, "/bin/sh")
    assert sorted((user.name, user.stopped, user.ours) for user in await users(place, record)) == [
        ("container ended (exited)", True, True),
        ("container never-ran (created)", True, False),
        ("container runs (running)", False, False),
        ("container sleeps (paused)", False, True),
    ]


async def test_a_container_that_keeps_failing_is_in_use(place: DockerPlace, record: RecordFile) -> None:
    """Between two starts it is `restarting`, and comes back by itself."""
    place.run("again", WS, *MINE, "--restart", "always", command=("/bin/sh", "-c", "exit 1"))
    [user] = await users(place, record)
    assert not user.stopped


async def test_a_reading_container_is_in_use(place: DockerPlace, record: RecordFile) -> None:
    """Whoever only reads would lose its home just the same."""
    mount = f"type=volume,source=ws_{WS}_home,target=/x,readonly"
    place.engine.docker("create", "--name", "reader", "--mount", mount, place.image, "/bin/sh")
    assert [user.name for user in await users(place, record)] == ["container reader (created)"]


@pytest.mark.field("D1")
async def test_a_container_that_binds_the_volumes_folder_is_in_use(place: DockerPlace, record: RecordFile) -> None:
    """The engine lists it for no volume, and would remove the volume under it; so does one that binds a part of it."""
    folder = inspected(place.engine, f"ws_{WS}_home")["Mountpoint"]
    for name, source in (("whole", folder), ("part", f"{folder}/part"), ("near", f"{folder}2")):
        mount = ("--volume", f"{source}:/x", "--network", "none")
        place.engine.docker("run", "--detach", "--name", name, *mount, place.image, "/bin/sh", "-c", "sleep 1000")
    assert sorted(user.name for user in await users(place, record)) == [
        "container part (running)",
        "container whole (running)",
    ]
    with pytest.raises(StorageError, match="container whole") as error:
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
    assert error.value.code is ErrorCode.VOLUME_IN_USE
    assert place.read(WS) == "work"


async def test_only_stopped_ones_of_the_workspace_are_removed(place: DockerPlace, record: RecordFile) -> None:
    """A running one of ours and a stopped one of somebody else's stay."""
    place.run("runs", WS, *MINE)
    place.run("mine", WS, *MINE, command=("/bin/sh", "-c", "exit 0"))
    place.run("theirs", WS, command=("/bin/sh", "-c", "exit 0"))
    place.engine.docker("wait", "mine", "theirs")
    await place.backend.remove_stopped_users(WS, fence=record.fence)
    assert sorted(user.name for user in await users(place, record)) == [
        "container runs (running)",
        "container theirs (exited)",
    ]


async def test_whoever_comes_before_the_seal_stops_the_deletion(place: DockerPlace, record: RecordFile) -> None:
    """A container that appears during the check: VolumeInUse, not sealed, nothing lost."""
    deletion = record.deletion(at_check=lambda: place.run("late", WS))
    with pytest.raises(StorageError, match="late") as error:
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=deletion)
    assert error.value.code is ErrorCode.VOLUME_IN_USE
    volume = record.read().volume
    assert volume is not None
    assert volume.state is VolumeState.READY
    assert place.read(WS) == "work"


async def test_the_engine_refuses_whoever_comes_after_the_seal(place: DockerPlace, record: RecordFile) -> None:
    """The volume stays as long as that container is there; `deleting` is final, so the next call deletes it."""
    deletion = record.deletion(at_seal=lambda: place.run("later", WS))
    with pytest.raises(StorageError) as error:
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=deletion)
    assert error.value.code is ErrorCode.VOLUME_IN_USE
    assert place.read(WS) == "work"
    place.engine.docker("rm", "-f", "later")
    await place.backend.delete(WS, "u1", fence=record.fence, deletion=None)
    assert place.read(WS) is None


async def test_labels_of_ours_do_not_hide_a_stranger(place: DockerPlace, record: RecordFile) -> None:
    """A container that copies a mover's labels, but has not its name, is a user."""
    place.run("copycat", WS, "--label", "codehub-storage.uid=u1", "--label", "codehub-storage.role=mover")
    assert [user.name for user in await users(place, record)] == ["container copycat (running)"]


async def test_a_taken_over_volume_is_ours_by_its_record(place: DockerPlace, record: RecordFile) -> None:
    """A volume that the platform made bears no label; the record's derived uid makes it ours, and only that one."""
    place.make_foreign("ws2")
    facts = inspected(place.engine, "ws_ws2_home")
    other = RecordFile(record.path.with_name("other.json"), "ws2")
    seen = await place.backend.inspect("ws2", fence=other.fence)
    assert seen is not None
    assert seen.uid is None
    uid = await place.backend.adopt("ws2")
    assert uid == adopted_uid(facts)
    other.volume(uid, VolumeState.READY)
    seen = await place.backend.inspect("ws2", fence=other.fence)
    assert seen is not None
    assert seen.uid == uid
    place.engine.docker("volume", "rm", "ws_ws2_home")
    await asyncio.sleep(1.1)  # the engine tells creation times in whole seconds
    place.make_foreign("ws2")
    seen = await place.backend.inspect("ws2", fence=other.fence)
    assert seen is not None
    assert seen.uid is None, "a later volume of the name"
