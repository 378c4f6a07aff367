"""What the engine can do to us: gone, silent, restarted, without the image, out of memory; and how a mover is held."""

from __future__ import annotations

import asyncio

import pytest

from activities.backends.containers import MoverImage
from activities.backends.docker.backend import DockerBackend
from activities.backends.docker.engine import Engine as Connection
from activities.backends.wait_policy import WaitPolicy
from codehub_storage.errors import ErrorCode, StorageError
from tests.docker.places import IDLE_COMMAND, DockerPlace
from tests.fakes.records import RecordFile
from tests.harness.docker import EngineError, inspected

WS = "ws1"


def backend(place: DockerPlace, image: str | None = None, *command: str, memory: int = 256 << 20) -> DockerBackend:
    """Another worker's, with movers of another kind."""
    mover = MoverImage(image or place.image, mover_command=command or IDLE_COMMAND, memory_bytes=memory)
    return DockerBackend(Connection(place.engine.socket, timeout_seconds=5), mover, wait_policy=WaitPolicy(10, 2))


async def test_a_mover_is_held_tight(place: DockerPlace, record: RecordFile) -> None:
    """One volume, a scratch folder, few rights; no socket of the engine; an archive's mover cannot write the volume."""
    mover = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
    facts = inspected(place.engine, "codehub-mover-u1")
    host = facts["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert sorted(host["CapAdd"]) == ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert not host["Privileged"]
    assert (host["PidsLimit"], host["Memory"]) == (256, 512 << 20)
    assert sorted(mount["Destination"] for mount in facts["Mounts"]) == ["/tmp", "/volume"]
    with pytest.raises(EngineError, match="Read-only"):
        place.engine.docker("exec", "codehub-mover-u1", "/bin/sh", "-c", "echo x > /x")
    await mover.stop()
    reading = place.mover(WS, "u1", "run-1", writable=False)
    mover = await place.backend.attach(reading, fence=record.fence)
    assert inspected(place.engine, "codehub-mover-u1")["HostConfig"]["CapAdd"] == ["DAC_OVERRIDE", "FOWNER"]
    with pytest.raises(EngineError, match="Read-only"):
        place.engine.docker("exec", "codehub-mover-u1", "/bin/sh", "-c", "echo x > /volume/x")
    await mover.stop()


async def test_a_mover_outlives_its_worker_and_is_adopted(place: DockerPlace, record: RecordFile) -> None:
    """Another worker finds it by run and queue, also when it may only adopt."""
    spec = place.mover(WS, "u1", "run-1")
    first = await place.backend.attach(spec, fence=record.fence)
    await place.backend.aclose()
    assert await place.other.attach(spec, fence=record.fence, adopt_only=True) == first


async def test_two_workers_race(place: DockerPlace, record: RecordFile) -> None:
    """Both end up with the same one container."""
    spec = place.mover(WS, "u1", "run-1")
    one, other = await asyncio.gather(
        place.backend.attach(spec, fence=record.fence), place.other.attach(spec, fence=record.fence)
    )
    assert one == other
    assert len(place.engine.docker("ps", "-q", "--filter", "name=codehub-mover-u1").split()) == 1


async def test_no_engine(place: DockerPlace, record: RecordFile) -> None:
    """Retryable, and said; afterwards the volume is there."""
    place.engine.stop()
    try:
        with pytest.raises(StorageError) as error:
            await place.backend.inspect(WS, fence=record.fence)
        assert error.value.code is ErrorCode.BACKEND_UNAVAILABLE
        assert error.value.retryable
    finally:
        place.engine.start()
    assert await place.backend.inspect(WS, fence=record.fence) is not None
    assert place.read(WS) == "work"


async def test_a_silent_engine(place: DockerPlace, record: RecordFile) -> None:
    """It takes the connection and never answers: the call ends by itself."""
    there = backend(place)
    with place.engine.paused(), pytest.raises(StorageError) as error:
        await there.inspect(WS, fence=record.fence)
    assert error.value.code is ErrorCode.BACKEND_UNAVAILABLE
    await there.aclose()


async def test_an_engine_that_restarts_ends_the_mover(place: DockerPlace, record: RecordFile) -> None:
    """The lease hears of it, and the next mover takes the dead one's place."""
    spec = place.mover(WS, "u1", "run-1")
    mover = await place.backend.attach(spec, fence=record.fence)
    place.engine.restart()
    assert await mover.wait(30)
    second = await place.backend.attach(spec, fence=record.fence)
    assert second != mover
    assert await second.wait(0) is None


async def test_a_killed_mover_is_told(place: DockerPlace, record: RecordFile) -> None:
    """With exit status and its last lines."""
    there = backend(place, None, "/bin/sh", "-c", "echo last words >&2; sleep 600")
    mover = await there.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
    place.engine.docker("kill", "codehub-mover-u1")
    death = await mover.wait(30)
    assert death is not None
    assert "exit status 137" in death
    assert "last words" in death
    await there.aclose()


async def test_out_of_memory_is_told(place: DockerPlace, record: RecordFile) -> None:
    """By the engine's own word for it."""
    hungry = "cat /dev/zero | sort"  # sort keeps a line that never ends
    there = backend(place, None, "/bin/sh", "-c", hungry, memory=32 << 20)
    mover = await there.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
    death = await mover.wait(60)
    assert death is not None
    assert "memory" in death or "137" in death, death
    await there.aclose()


async def test_a_missing_image(place: DockerPlace, record: RecordFile) -> None:
    """Named, with what to do; nothing of the container is left."""
    there = backend(place, "codehub-storage:never")
    with pytest.raises(StorageError, match="codehub-storage:never") as error:
        await there.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
    assert error.value.code is ErrorCode.MOVER_FAILED
    assert place.engine.docker("ps", "-aq").split() == []
    await there.aclose()


async def test_a_command_that_cannot_start_holds_nothing(place: DockerPlace, record: RecordFile) -> None:
    """A container that was created and never ran would hold the volume, and be taken for a mover."""
    there = backend(place, None, "/no/such/program")
    mover_or_error: object
    try:
        mover = await there.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        mover_or_error = await mover.wait(30)
    except StorageError as error:
        mover_or_error = error
    assert mover_or_error is not None
    await there.detach(WS, "u1", fence=record.fence)
    assert place.engine.docker("ps", "-aq").split() == []
    await there.aclose()


async def test_a_driver_that_is_not_there(place: DockerPlace, record: RecordFile) -> None:
    """An error that names it, and no volume."""
    there = DockerBackend(Connection(place.engine.socket), MoverImage(place.image), driver="no-such-driver")
    record.volume("u9", record.read().volume.state)  # type: ignore[union-attr]
    with pytest.raises(StorageError, match="no-such-driver"):
        await there.create("ws9", "u9", restored_from=None, spec={}, fence=record.fence)
    await there.aclose()
