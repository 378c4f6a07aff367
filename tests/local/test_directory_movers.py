"""Movers as processes: what they are given, how they end, and what is said of it."""

from __future__ import annotations

import asyncio
import multiprocessing.forkserver
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from activities.backends.base import MoverSpec, Walk
from activities.backends.directory import lock as locks
from activities.backends.directory.backend import PRELOAD, DirectoryBackend
from activities.backends.directory.layout import Layout
from activities.backends.directory.lock import MOVER, Holder
from activities.backends.wait_policy import WaitPolicy
from activities.dataplane.fingerprint import change_fingerprint
from activities.runtime.scratch import scratch_prefix
from activities.state.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.directory_worker import finish, start
from tests.fakes.records import RecordFile

WS = "ws1"


@pytest.fixture
async def record(tmp_path: Path) -> RecordFile:
    """A volume ``u1`` that was handed out, on a marked root."""
    record = RecordFile(tmp_path / "record.json", WS)
    record.volume("u1", VolumeState.RESTORING)
    there = backend(tmp_path)
    await there.mark("place-1", adopt=False)
    await there.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
    record.volume("u1", VolumeState.READY)
    return record


def backend(tmp_path: Path, entry: str = "idle", *, seconds: float = 20) -> DirectoryBackend:
    """A worker's backend whose movers run ``entry``."""
    return DirectoryBackend(
        tmp_path / "volumes",
        mover_entry=f"tests.fakes.movers:{entry}",
        walk=change_fingerprint,
        wait_policy=WaitPolicy(lock_seconds=seconds, grace_seconds=0.5 if entry == "with_tar" else 20),
        preload=PRELOAD,
    )


def spec(tmp_path: Path, run_id: str = "run-1", number: int = 1) -> MoverSpec:
    """A mover that says in ``out`` how far it is."""
    environment = {"TEST_OUT": str(tmp_path / "out"), "TEST_MARK": "mine"}
    return MoverSpec(WS, "u1", run_id, f"mover/{run_id}/{number}", True, environment)


async def said(tmp_path: Path, word: str) -> list[str]:
    """What the mover said, once it has said that; first its pid."""
    out = tmp_path / "out"
    while True:
        lines = out.read_text().split("\n") if out.exists() else []
        if word in "\n".join(lines):
            return lines
        await asyncio.sleep(0.01)


async def test_surroundings(tmp_path: Path, record: RecordFile) -> None:
    """A session of its own, no working folder of ours, its environment, and its name in the process list."""
    mover = await backend(tmp_path, "reports").attach(spec(tmp_path), fence=record.fence)
    lines = await said(tmp_path, "mine")
    assert lines[1:4] == ["/", "mine", "True"]
    assert Path(f"/proc/{lines[0]}/comm").read_text().strip() == "storage-mover"
    await mover.stop()


async def test_the_fork_server_is_plain(tmp_path: Path, record: RecordFile) -> None:
    """With all imports done it has one thread, so a fork of it is whole."""
    mover = await backend(tmp_path).attach(spec(tmp_path), fence=record.fence)
    server: Any = multiprocessing.forkserver._forkserver
    assert len(os.listdir(f"/proc/{server._forkserver_pid}/task")) == 1
    await mover.stop()


async def test_the_fork_server_outlives_a_sigterm(tmp_path: Path, record: RecordFile) -> None:
    """A service manager signals all processes of a service at once: the movers are not killed by that."""
    there = backend(tmp_path)
    first = await there.attach(spec(tmp_path), fence=record.fence)
    server: Any = multiprocessing.forkserver._forkserver
    pid = server._forkserver_pid
    os.kill(pid, signal.SIGTERM)
    second = await there.attach(spec(tmp_path, number=2), fence=record.fence)
    assert server._forkserver_pid == pid
    assert await first.wait(60)
    assert await second.wait(0) is None
    await second.stop()


async def test_stop_lets_it_hand_back(tmp_path: Path, record: RecordFile) -> None:
    """SIGTERM comes first and is heard; the end is told as an exit status."""
    mover = await backend(tmp_path).attach(spec(tmp_path), fence=record.fence)
    await said(tmp_path, "ready")
    await mover.stop()
    assert "handed-back" in await said(tmp_path, "handed-back")
    assert "exit status 0" in str(await mover.wait(0))


async def test_stop_ends_the_deaf(tmp_path: Path, record: RecordFile) -> None:
    """What does not hear SIGTERM is killed, and its child with it."""
    mover = await backend(tmp_path, "with_tar").attach(spec(tmp_path), fence=record.fence)
    await said(tmp_path, "tar")
    await mover.stop()
    assert "SIGKILL" in str(await mover.wait(0))
    assert locks.is_free(Layout(tmp_path / "volumes").lock(WS))


async def test_a_killed_mover_leaves_no_scratch(tmp_path: Path, record: RecordFile) -> None:
    """What it could not remove itself is gone when it is known to be gone."""
    mover = await backend(tmp_path).attach(spec(tmp_path), fence=record.fence)
    pid = int((await said(tmp_path, "ready"))[0])
    scratch = Path(tempfile.mkdtemp(prefix=scratch_prefix(pid)))
    (scratch / "spool").write_text("lists")
    os.kill(pid, signal.SIGKILL)
    assert await mover.wait(60)
    assert not scratch.exists()


async def reason_of_death(tmp_path: Path, record: RecordFile, entry: str) -> str:
    """Why a mover ended that fails at once: it may do so before it counts as started, or after."""
    try:
        mover = await backend(tmp_path, entry).attach(spec(tmp_path), fence=record.fence)
    except StorageError as error:
        if error.code is not ErrorCode.MOVER_FAILED:
            raise
        return error.message
    reason = str(await mover.wait(60))
    assert "exit status 1" in reason
    return reason


async def test_the_reason_has_the_last_lines(tmp_path: Path, record: RecordFile) -> None:
    """What the mover printed before it failed is in the reason, and the lock is free."""
    reason = await reason_of_death(tmp_path, record, "fails")
    assert "about to fail" in reason
    assert "RuntimeError: no such luck" in reason
    assert locks.is_free(Layout(tmp_path / "volumes").lock(WS))


async def test_an_entry_that_does_not_exist(tmp_path: Path, record: RecordFile) -> None:
    """A mistake in the configuration is named."""
    assert "has no attribute 'nothing'" in await reason_of_death(tmp_path, record, "nothing")


async def test_inspect_of_another_worker_only_reads(tmp_path: Path, record: RecordFile) -> None:
    """While this run's mover lives any worker can look, without waiting for its lock; and it is no user."""
    mover = await backend(tmp_path).attach(spec(tmp_path), fence=record.fence)
    worker = start(tmp_path / "volumes", record, "inspect")
    assert finish(worker) == (0, "u1")
    assert await mover.wait(0) is None
    await mover.stop()


async def test_the_next_queue_of_a_run_is_another_mover(tmp_path: Path, record: RecordFile) -> None:
    """A run that starts its next mover gets rid of the former."""
    there = backend(tmp_path)
    first = await there.attach(spec(tmp_path), fence=record.fence)
    second = await there.attach(spec(tmp_path, number=2), fence=record.fence)
    assert await first.wait(60)
    assert await second.wait(0) is None
    await second.stop()


async def test_two_attaches_at_once(tmp_path: Path, record: RecordFile) -> None:
    """Two attempts of one lease get one mover."""
    there = backend(tmp_path)
    both = await asyncio.gather(*(there.attach(spec(tmp_path), fence=record.fence) for _ in range(2)))
    assert both[0] is both[1]
    await both[0].stop()


async def test_a_cancelled_attach_leaves_nothing(tmp_path: Path, record: RecordFile) -> None:
    """However early or late the cancellation comes, there is no mover without a handle afterwards."""
    there = backend(tmp_path)
    for steps in range(0, 40, 4):
        attaching = asyncio.create_task(there.attach(spec(tmp_path), fence=record.fence))
        for _ in range(steps):
            await asyncio.sleep(0.001)
        if attaching.done():
            await (await attaching).stop()
            continue
        attaching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attaching
        await there.detach(WS, "u1", run_id=None, fence=record.fence)
    assert locks.is_free(Layout(tmp_path / "volumes").lock(WS))


async def test_a_holder_out_of_reach_is_waited_for(tmp_path: Path, record: RecordFile) -> None:
    """A lock held where its pid means nothing to us: named, not killed; and taken as soon as it is free."""
    path = Layout(tmp_path / "volumes").lock(WS)
    held = locks.try_lock(path)
    assert held is not None
    me = Holder.me(MOVER, run_id="run-0", queue="mover/run-0/1", volume_uid="u1")
    held.sign(Holder(me.pid, me.started, "another boot", MOVER, run_id="run-0"))
    with pytest.raises(StorageError, match=f"pid {os.getpid()} ") as error:
        await backend(tmp_path, seconds=0.1).attach(spec(tmp_path), fence=record.fence)
    assert error.value.code is ErrorCode.BACKEND_UNAVAILABLE
    attaching = asyncio.create_task(backend(tmp_path).attach(spec(tmp_path), fence=record.fence))
    await asyncio.wait([attaching], timeout=0.1)
    assert not attaching.done()
    held.release()
    await (await attaching).stop()


async def test_a_cancelled_delete_puts_back(tmp_path: Path, record: RecordFile) -> None:
    """Cancelled in the check, it puts the volume back before it is gone."""
    there = backend(tmp_path)
    checking = asyncio.Event()

    async def check(walk: Walk) -> None:
        checking.set()
        await asyncio.Event().wait()

    deletion = record.deletion()
    deleting = asyncio.create_task(
        there.delete(WS, "u1", fence=record.fence, deletion=type(deletion)(check=check, seal=deletion.seal))
    )
    await checking.wait()
    assert not (tmp_path / "volumes/ws_ws1_home").exists()
    deleting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deleting
    assert (tmp_path / "volumes/ws_ws1_home").exists()
    seen = await there.inspect(WS, fence=record.fence)
    assert seen is not None
    assert seen.uid == "u1"
