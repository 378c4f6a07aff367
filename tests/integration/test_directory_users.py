"""Who uses a folder is seen, however it is used; and who only passes by is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.backends.base import Deletion
from activities.backends.directory.backend import DirectoryBackend
from activities.backends.directory.users import users_of
from activities.backends.patience import Patience
from activities.dataplane.walk import change_fingerprint
from activities.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.records import RecordFile

WAYS = {
    "cwd": "import os; os.chdir(path)",
    "open": "held = open(path + '/file')",
    "deleted": "import os; held = open(path + '/doomed', 'w'); os.unlink(path + '/doomed')",
    "mapped": "import mmap; f = open(path + '/file', 'r+b'); held = mmap.mmap(f.fileno(), 0); f.close()",
}
IN_NAMESPACE = """
import os, subprocess, sys
from pathlib import Path
from activities.backends.directory.syscalls import inode
from activities.backends.directory.trash import remove_tree
from activities.backends.directory.mounts import mounts_below
from activities.backends.directory.users import users_of
from codehub_storage.errors import StorageError
folder, elsewhere = Path(sys.argv[1]), Path(sys.argv[2])
below = folder / "sub"
subprocess.run(["mount", "--bind", elsewhere, below], check=True)
assert mounts_below(folder) == [str(below)], mounts_below(folder)
assert [user.name for user in users_of(folder)] == [f"mount {below}"], users_of(folder)
try:
    remove_tree(folder, inode(folder))
    raise AssertionError("removed across a mount")
except StorageError as error:
    assert error.code == "VolumeInUse", error
assert (elsewhere / "kept").exists()
subprocess.run(["umount", below], check=True)
subprocess.run(["mount", "--bind", folder, elsewhere], check=True)
print("bound", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file in it, whose name says as little as a volume's could."""
    folder = tmp_path / "with blank\nand line" / "ws_ws1_home"
    folder.mkdir(parents=True)
    (folder / "file").write_text("content")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test starts; ended afterwards."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.communicate()


def hold(running: list[subprocess.Popen[str]], code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> int:
    """A process that runs ``code`` and then stands still; answers its id once it does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*prefix, sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    running.append(process)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "bound"
    return process.pid


@pytest.mark.parametrize("way", WAYS)
def test_a_process_inside(folder: Path, run: list[subprocess.Popen[str]], way: str) -> None:
    """Working folder, open file, removed file, mapped file: each is a user, named by pid."""
    code = f"import sys; path = sys.argv[1]; {WAYS[way]}; print('bound', flush=True); sys.stdin.read()"
    pid = hold(run, code, str(folder))
    assert [user.name.split(" (")[0] for user in users_of(folder)] == [f"pid {pid}"]
    assert users_of(folder, sessions=[os.getsid(pid)]) == ()


def test_neighbours_are_no_users(folder: Path, run: list[subprocess.Popen[str]]) -> None:
    """A process in the folder above, or in one whose name begins alike."""
    near = folder.with_name(folder.name + "2")
    near.mkdir()
    for path in (folder.parent, near):
        hold(run, "import os, sys; os.chdir(sys.argv[1]); print('bound', flush=True); sys.stdin.read()", str(path))
    assert users_of(folder) == ()


@pytest.mark.tool("unshare", "mount")
def test_mounts(tmp_path: Path, run: list[subprocess.Popen[str]]) -> None:
    """A bind mount below the folder, of its own file system: found, not crossed. One of it elsewhere: found, also
    from outside of that mount namespace (this is how a container has a folder)."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    folder, elsewhere = tmp_path / "ws_ws1_home", tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    prefix = ("unshare", "--mount", "--propagation", "private")
    pid = hold(run, IN_NAMESPACE, str(folder), str(elsewhere), prefix=prefix)
    (user,) = users_of(folder)
    assert user.name.startswith(f"mount {elsewhere} of pid {pid} (")


async def test_a_user_stops_the_deletion(tmp_path: Path, run: list[subprocess.Popen[str]]) -> None:
    """Somebody in the folder when it is taken away: found in the trash, ahead of the check; put back, not sealed."""
    record = RecordFile(tmp_path / "record.json")
    record.volume("u1", VolumeState.RESTORING)
    backend = DirectoryBackend(
        tmp_path / "volumes", mover_entry="x:y", walk=change_fingerprint, patience=Patience(5, 5), preload=()
    )
    await backend.mark("place-1", adopt=False)
    await backend.create("ws1", "u1", restored_from=None, spec={}, fence=record.fence)
    record.volume("u1", VolumeState.READY)
    code = "import os, sys; os.chdir(sys.argv[1]); print('bound', flush=True); sys.stdin.read()"
    pid = hold(run, code, str(tmp_path / "volumes/ws_ws1_home"))

    async def never(*_: object) -> None:
        raise AssertionError("checked or sealed although somebody is there")

    with pytest.raises(StorageError, match=f"pid {pid} ") as error:
        await backend.delete("ws1", "u1", fence=record.fence, deletion=Deletion(check=never, seal=never))
    assert error.value.code is ErrorCode.VOLUME_IN_USE
    seen = await backend.inspect("ws1", fence=record.fence)
    assert seen is not None
    assert seen.uid == "u1"
    assert [user.name.split(" (")[0] for user in seen.users] == [f"pid {pid}"]
