"""SIGKILL at every failpoint of the directory backend: afterwards the volume is whole, or it is gone by right."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

from activities.backends.base import MoverSpec
from activities.backends.directory.backend import DirectoryBackend
from activities.backends.directory.layout import Layout
from activities.backends.wait_policy import WaitPolicy
from activities.dataplane.fingerprint import change_fingerprint
from activities.runtime import failpoints
from activities.state.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.directory_worker import UID, WS, finish, start
from tests.fakes.records import RecordFile

MARK = ["directory.mark.prepared"]
CREATE = ["directory.create.made", "directory.create.noted", "directory.create.placed"]
UNSEALED = ["directory.delete.rename", "directory.delete.renamed", "directory.delete.checked"]
SEALED = [
    "directory.delete.sealed",
    "directory.trash.remove",
    "directory.remove.half",
    "directory.trash.removed",
    "directory.delete.deleted",
]
BACK = ["directory.trash.back", "directory.trash.restored"]
ATTACH = ["directory.attach.locked", "directory.attach.started"]
MOVER = ["directory.mover.begun"]


@pytest.fixture
def record(tmp_path: Path) -> RecordFile:
    """The truth that survives: ``run-1`` owns it and has announced ``u1``."""
    record = RecordFile(tmp_path / "record.json", WS)
    record.volume(UID, VolumeState.RESTORING)
    return record


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    """A marked root."""
    root = tmp_path / "volumes"
    await backend(root).mark("place-1", adopt=False)
    return root


@pytest.fixture
async def ready(root: Path, record: RecordFile) -> str:
    """A volume that was handed out and filled; answers what tar says of it."""
    await backend(root).create(WS, UID, restored_from="a1", spec={}, fence=record.fence)
    record.volume(UID, VolumeState.READY)
    home = root / f"ws_{WS}_home"
    (home / "deep/er").mkdir(parents=True)
    (home / "deep/er/file").write_text("content")
    (home / "one").write_text("1")
    os.link(home / "one", home / "two")
    (root.parent / "outside").mkdir()
    (home / "out").symlink_to(root.parent / "outside")
    (home / "deep/er").chmod(0o500)
    return listing(home)


def backend(root: Path) -> DirectoryBackend:
    """A worker that was started after the crash."""
    return DirectoryBackend(
        root, mover_entry="tests.fakes.movers:idle", walk=change_fingerprint, wait_policy=WaitPolicy(20, 5), preload=()
    )


def listing(folder: Path) -> str:
    """Names, modes, times and contents, by a tool that is not ours."""
    tar = ["tar", "--create", "--sort=name", "--numeric-owner", f"--directory={folder}", "."]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
        return subprocess.run(["sha256sum"], stdin=packed.stdout, capture_output=True, check=True, text=True).stdout


def kill(root: Path, record: RecordFile, call: str, point: str) -> None:
    """Let a worker die there."""
    status, last = finish(start(root, record, call, point=point))
    assert (status, last) == (-signal.SIGKILL, "begun")


def leftovers(root: Path) -> list[str]:
    """What stands in our own folder besides identity, locks and logs."""
    layout = Layout(root)
    return [str(path) for part in ("volumes", "making", "trash") for path in (layout.own / part).iterdir()]


def test_every_point_is_killed_at() -> None:
    """A new failpoint without a trial fails here."""
    tried = [*MARK, *CREATE, *UNSEALED, *SEALED, *BACK, *ATTACH, *MOVER]
    assert sorted(tried) == [name for name in failpoints.names() if name.startswith("directory.")]


@pytest.mark.parametrize("point", MARK)
async def test_mark(tmp_path: Path, record: RecordFile, point: str) -> None:
    """A root that was half marked has no identity, and can be marked."""
    root = tmp_path / "new"
    kill(root, record, "mark", point)
    assert await backend(root).identity() is None
    assert await backend(root).mark("place-2", adopt=False) == "place-2"


@pytest.mark.parametrize("point", CREATE)
async def test_create_again(root: Path, record: RecordFile, point: str) -> None:
    """The same create succeeds afterwards, and leaves one volume and its note."""
    kill(root, record, "create", point)
    view = await backend(root).create(WS, UID, restored_from="a1", spec={}, fence=record.fence)
    assert (view.uid, view.restored_from) == (UID, "a1")
    assert leftovers(root) == [str(Layout(root).note(WS))]


@pytest.mark.parametrize("point", CREATE)
async def test_create_then_undone(root: Path, record: RecordFile, point: str) -> None:
    """Given up after the crash, nothing of it is left, and the next uid gets a volume of its own."""
    kill(root, record, "create", point)
    record.give_up()
    await backend(root).delete(WS, UID, fence=record.fence, deletion=None)
    assert await backend(root).inspect(WS, fence=record.fence) is None
    assert leftovers(root) == []
    record.volume("u2", VolumeState.RESTORING)
    assert (await backend(root).create(WS, "u2", restored_from=None, spec={}, fence=record.fence)).uid == "u2"


@pytest.mark.parametrize("point", UNSEALED)
async def test_delete_before_the_seal(root: Path, record: RecordFile, ready: str, point: str) -> None:
    """The volume is whole where it stands, and has its name again at the next look."""
    kill(root, record, "delete", point)
    layout = Layout(root)
    stands = layout.volume(WS) if point == "directory.delete.rename" else layout.trash(WS)
    assert listing(stands) == ready
    view = await backend(root).inspect(WS, fence=record.fence)
    assert view is not None
    assert (view.uid, view.restored_from) == (UID, "a1")
    assert listing(layout.volume(WS)) == ready
    assert not layout.trash(WS).exists()


@pytest.mark.parametrize("point", UNSEALED)
async def test_delete_then_given_up(root: Path, record: RecordFile, ready: str, point: str) -> None:
    """Settled the other way: the record gave the uid up meanwhile, so whoever meets it removes it [H3, H7]."""
    kill(root, record, "delete", point)
    record.give_up()
    await backend(root).delete(WS, UID, fence=record.fence, deletion=None)
    assert await backend(root).inspect(WS, fence=record.fence) is None
    assert leftovers(root) == []


@pytest.mark.parametrize("point", SEALED)
async def test_delete_after_the_seal(root: Path, record: RecordFile, ready: str, point: str) -> None:
    """`deleting` is final: the next look finishes the removal, and deleting again is fine [H2]."""
    kill(root, record, "delete", point)
    volume = record.read().volume
    assert volume is not None
    assert volume.state is VolumeState.DELETING
    assert await backend(root).inspect(WS, fence=record.fence) is None
    await backend(root).delete(WS, UID, fence=record.fence, deletion=None)
    assert leftovers(root) == []


@pytest.mark.parametrize("point", BACK)
async def test_refused_delete(root: Path, record: RecordFile, ready: str, point: str) -> None:
    """A check that failed, and then the crash while the volume is put back: it is put back."""
    kill(root, record, "delete-refused", point)
    view = await backend(root).inspect(WS, fence=record.fence)
    assert view is not None
    assert view.uid == UID
    assert listing(root / f"ws_{WS}_home") == ready


@pytest.mark.parametrize("point", BACK)
async def test_second_crash_while_putting_back(root: Path, record: RecordFile, ready: str, point: str) -> None:
    """A crash in the settling of a crash changes nothing."""
    kill(root, record, "delete", "directory.delete.renamed")
    kill(root, record, "inspect", point)
    assert finish(start(root, record, "inspect")) == (0, UID)
    assert listing(root / f"ws_{WS}_home") == ready


@pytest.mark.parametrize("point", ["directory.trash.remove", "directory.remove.half:2", "directory.trash.removed"])
async def test_second_crash_while_removing(root: Path, record: RecordFile, ready: str, point: str) -> None:
    """Neither does one in the finishing of a removal."""
    kill(root, record, "delete", "directory.remove.half")
    kill(root, record, "inspect", point)
    assert finish(start(root, record, "inspect")) == (0, "None")
    assert leftovers(root) == []


@pytest.mark.parametrize("point", ATTACH)
async def test_attach(root: Path, record: RecordFile, ready: str, point: str, tmp_path: Path) -> None:
    """No mover outlives its worker; the next attach starts one."""
    kill_at = start(root, record, "attach", "idle", str(tmp_path / "out"), point=point)
    assert finish(kill_at)[0] == -signal.SIGKILL
    await attach_and_stop(root, record, tmp_path)


@pytest.mark.parametrize("point", MOVER)
async def test_mover(root: Path, record: RecordFile, ready: str, point: str, tmp_path: Path) -> None:
    """A mover that dies in its first moment is reported by its lease, and leaves no lock."""
    status, reason = finish(start(root, record, "attach", "idle", str(tmp_path / "out"), point=point))
    assert status == 0
    assert "SIGKILL" in reason or reason == ErrorCode.MOVER_FAILED
    await attach_and_stop(root, record, tmp_path)


async def attach_and_stop(root: Path, record: RecordFile, tmp_path: Path) -> None:
    """A new mover can be had, hence the old one is gone."""
    spec = MoverSpec(WS, UID, record.run_id, "mover/next/1", True, {"TEST_OUT": str(tmp_path / "next")})
    mover = await backend(root).attach(spec, fence=record.fence)
    await mover.stop()


async def test_a_paused_delete_locks_others_out(root: Path, record: RecordFile, ready: str, tmp_path: Path) -> None:
    """An effect held back behind its fence: nobody else gets in; when its process dies the volume is put back [H7]."""
    gate = tmp_path / "gate"
    held = start(root, record, "delete", point=f"directory.delete.renamed:pause={gate}")
    wait_for(Path(f"{gate}.reached"), held)
    impatient = DirectoryBackend(
        root, mover_entry="x:y", walk=change_fingerprint, wait_policy=WaitPolicy(0.1, 0.1), preload=()
    )
    with pytest.raises(StorageError, match=f"pid {held.pid} ") as error:
        await impatient.inspect(WS, fence=record.claim("run-2").fence)
    assert error.value.code is ErrorCode.BACKEND_UNAVAILABLE
    held.kill()
    finish(held)
    view = await impatient.inspect(WS, fence=record.claim("run-2").fence)
    assert view is not None
    assert listing(root / f"ws_{WS}_home") == ready


async def test_a_late_delete_meets_the_fence(root: Path, record: RecordFile, ready: str, tmp_path: Path) -> None:
    """Held back before its rename, let go after a newer run has claimed: it puts back what it took."""
    gate = tmp_path / "gate"
    held = start(root, record, "delete", point=f"directory.delete.rename:pause={gate}")
    wait_for(Path(f"{gate}.reached"), held)
    newer = record.claim("run-2")
    gate.touch()
    assert finish(held) == (0, "NotYours")
    view = await backend(root).inspect(WS, fence=newer.fence)
    assert view is not None
    assert view.uid == UID
    assert listing(root / f"ws_{WS}_home") == ready


@pytest.mark.parametrize("stopped", ["nobody", "mover and tar", "fork server"])
async def test_movers_and_tars_end_with_their_worker(
    root: Path, record: RecordFile, ready: str, tmp_path: Path, stopped: str
) -> None:
    """kill -9 of the worker ends a deaf mover and its child, by two walls: one where the mover's thread cannot run
    (the child is then evicted), one where the fork server does not end."""
    out = tmp_path / "out"
    worker = start(root, record, "attach", "with_tar", str(out))
    wait_for(out, worker)
    mover, tar = int(out.read_text().split()[0]), int(out.read_text().split()[-1])
    server = int(Path(f"/proc/{mover}/stat").read_text().rpartition(")")[2].split()[1])
    pids = {"nobody": [], "mover and tar": [mover, tar], "fork server": [server]}[stopped]
    ends = [os.pidfd_open(mover), os.pidfd_open(tar)]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        worker.kill()
        worker.wait()  # not for its output: the fork server has that too
        ended(ends[0])
        await attach_and_stop(root, record.claim("run-2"), tmp_path)
        ended(ends[1])
    finally:
        for fd in ends:
            os.close(fd)
        if stopped == "fork server":
            os.kill(server, signal.SIGCONT)
        finish(worker)


async def test_attach_waits_for_a_stopped_tar(root: Path, record: RecordFile, ready: str, tmp_path: Path) -> None:
    """The mover was killed alone and its stopped child still has the lock: it is killed before the next one starts."""
    out = tmp_path / "out"
    worker = start(root, record, "attach", "with_tar", str(out))
    wait_for(out, worker)
    mover, tar = int(out.read_text().split()[0]), int(out.read_text().split()[-1])
    tar_end = os.pidfd_open(tar)
    try:
        for pid in (worker.pid, tar):
            os.kill(pid, signal.SIGSTOP)
        os.kill(mover, signal.SIGKILL)
        await attach_and_stop(root, record.claim("run-2"), tmp_path)
        ended(tar_end)
    finally:
        os.close(tar_end)
        os.kill(worker.pid, signal.SIGCONT)
        worker.kill()
        finish(worker)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until another process has made the file; it must not die before."""
    while not path.exists():
        assert process.poll() is None
        select.select([], [], [], 0.01)


def ended(pidfd: int) -> None:
    """Until the process has ended; the suite's time limit is the bound."""
    select.select([pidfd], [], [])
