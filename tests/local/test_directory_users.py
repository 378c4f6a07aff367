"""Who uses a folder is seen, however it is used; and who only passes by is not."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from activities.backends.base import Deletion, Walk
from activities.backends.directory.backend import DirectoryBackend
from activities.backends.wait_policy import WaitPolicy
from activities.dataplane.fingerprint import change_fingerprint
from activities.runtime.linux import processes
from activities.runtime.linux.held_files import users_of
from activities.runtime.linux.syscalls import FileId
from activities.state.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.records import RecordFile
from tests.harness.mounts import btrfs, mount_point, overlay

MAP = """
import ctypes
def mapping(file):  # Python's own mmap keeps a descriptor of the file; PROT_READ, MAP_SHARED
    call = ctypes.CDLL(None, use_errno=True).mmap
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    call.restype = ctypes.c_void_p
    held = call(None, 4096, 1, 1, file.fileno(), 0)
    assert held != ctypes.c_void_p(-1).value, ctypes.get_errno()
    return held
"""
WAYS = {
    "cwd": "import os; os.chdir(path)",
    "open": "held = open(path + '/file')",
    "deleted": "import os; held = open(path + '/doomed', 'w'); os.unlink(path + '/doomed')",
    "mapped": f"{MAP}\nwith open(path + '/file', 'rb') as file: mapping(file)",
}
IN_NAMESPACE = """
import os, subprocess, sys
from pathlib import Path
from activities.runtime.linux.syscalls import FileId, inode
from activities.backends.directory.trash import remove_tree
from activities.runtime.linux.mounts import mounts_below
from activities.runtime.linux.held_files import users_of
from codehub_storage.errors import StorageError
folder, elsewhere = Path(sys.argv[1]), Path(sys.argv[2])
below = folder / "sub"
subprocess.run(["mount", "--bind", elsewhere, below], check=True)
assert mounts_below(folder) == [str(below)], mounts_below(folder)
assert list(users_of(folder)) == [f"mount {below}"], users_of(folder)
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
BY_ANOTHER_NAME = f"""{MAP}
import os, socket, subprocess, sys
from pathlib import Path
home, elsewhere = Path(sys.argv[1]), Path(sys.argv[2])
root = home.parent
def bind(source):
    subprocess.run(["mount", "--bind", source, elsewhere], check=True)
    return elsewhere
def map_only(home):
    with open(home / "file", "rb") as file:
        mapping(file)
{{}}
print("bound", flush=True)
sys.stdin.read()
"""
OTHER_NAMES = {
    "parent": "os.chdir(bind(root) / home.name)",
    "parent-of-the-parent": "os.chdir(bind(root.parent) / root.name / home.name / 'sub')",
    "subfolder": "os.chdir(bind(home / 'sub'))",
    "open": "held = open(bind(root) / home.name / 'sub/file', 'a')",
    "removed": "held = open(bind(root) / home.name / 'sub/doomed', 'a'); (home / 'sub/doomed').unlink()",
    "mapping": "map_only(bind(root) / home.name)",
    "root": "os.chroot(home); os.chdir('/')",
    "descriptor-from-elsewhere": """
ours, theirs = socket.socketpair()
if os.fork() == 0:
    file = os.open(bind(root) / home.name / "file", os.O_WRONLY | os.O_APPEND)
    socket.send_fds(theirs, [b"x"], [file])
    os._exit(0)
_, held, _, _ = socket.recv_fds(ours, 1, 1)
os.wait()
os.chdir("/")
""",
}
"""How a process has something of a volume and calls it otherwise, by a mount that some namespace still has."""
NO_NAMES = {
    "root-in-a-namespace-of-its-own": """
assert ctypes.CDLL(None).unshare(0x20000) == 0  # CLONE_NEWNS
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
os.chroot(bind(root) / home.name / "sub")
os.chdir("/")
""",
    "unmounted-parent": """
os.chdir(bind(root) / home.name / "sub")
subprocess.run(["umount", "--lazy", elsewhere], check=True)
""",
    "descriptor-from-a-namespace-that-is-gone": """
ours, theirs = socket.socketpair()
opener = '''
import os, socket, subprocess, sys
subprocess.run(["mount", "--bind", sys.argv[1], sys.argv[2]], check=True)
file = os.open(sys.argv[2] + "/" + sys.argv[3] + "/sub/file", os.O_WRONLY | os.O_APPEND)
socket.send_fds(socket.socket(fileno=int(sys.argv[4])), [b"x"], [file])
'''
subprocess.run(
    ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", opener]
    + [root, elsewhere, home.name, str(theirs.fileno())],
    check=True, pass_fds=[theirs.fileno()],
)
_, held, _, _ = socket.recv_fds(ours, 1, 1)
os.chdir("/")
""",
    "too-deep": """
os.chdir(home)
for _ in range(20):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
""",
}
"""The same, but the kernel has no path for it that says where it lies."""
THREADS = {
    "own-folder": """
def stay():
    assert libc.unshare(0x200) == 0  # CLONE_FS
    os.chdir(path)
    print("bound", flush=True)
    time.sleep(1000)
threading.Thread(target=stay, daemon=True).start()
sys.stdin.read()
""",
    "outlives-the-first": """
def stay():
    held = open(path + "/file", "a")
    while "State:\\tZ" not in open("/proc/self/status").read():
        time.sleep(0.01)
    print("bound", flush=True)
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=stay).start()
libc.syscall(number, 0)  # ends this thread alone
""",
}
THREAD = """
import ctypes, os, sys, threading, time
path, number = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
{}
"""
EXIT = {"x86_64": 60, "aarch64": 93}.get(platform.machine(), 93)
AS_USER = f"""{MAP}
import os, sys
os.chdir(sys.argv[1])
os.setgroups([])
os.setresgid(*[int(sys.argv[2])] * 3)
os.setresuid(*[int(sys.argv[2])] * 3)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as after exec
if sys.argv[3] == "mapping":
    with open("file", "rb") as file:
        mapping(file)
    os.chdir("/")
print("bound", flush=True)
sys.stdin.read()
"""
LOOK_AS_USER = """
import asyncio, json, os, sys
from pathlib import Path
from activities.runtime.linux.held_files import users_of
from worker.cli.checks.place import place_checks
from worker.settings import Settings
os.environ["CODEHUB_STORAGE_VOLUME_ROOT"] = sys.argv[1]
(check,) = [one for one in place_checks(Settings.load(), lambda: None) if one.name == "place.users"]
os.setgroups([])
os.setresgid(*[int(sys.argv[2])] * 3)
os.setresuid(*[int(sys.argv[2])] * 3)
found = asyncio.run(check.look())
print(json.dumps([[*users_of(Path(sys.argv[1]))], found.verdict, found.text]))
"""
LOOK_ELSEWHERE = """
import json, subprocess, sys
from pathlib import Path
from activities.runtime.linux.held_files import users_of
root, elsewhere, name = sys.argv[1:]
subprocess.run(["mount", "--bind", root, elsewhere], check=True)
print(json.dumps([*users_of(Path(elsewhere) / name)]))
"""
UNSHARED = ("unshare", "--mount", "--propagation", "private")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting, and other users, take root")


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
    end(running)


def end(running: list[subprocess.Popen[str]]) -> None:
    """End them, and wait until they are gone."""
    for process in running:
        process.kill()
        process.communicate()
    running.clear()


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
    code = f"import sys; path = sys.argv[1]; {WAYS[way]}\nprint('bound', flush=True); sys.stdin.read()"
    pid = hold(run, code, str(folder))
    assert [user.split(" (")[0] for user in users_of(folder)] == [f"pid {pid}"]
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
    pid = hold(run, IN_NAMESPACE, str(folder), str(elsewhere), prefix=UNSHARED)
    (user,) = users_of(folder)
    assert user.startswith(f"mount {elsewhere} of pid {pid} (")


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """A place with one volume that was handed out."""
    return await made(tmp_path / "area" / "volumes", tmp_path)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Where processes of a test mount things."""
    with mount_point(tmp_path / "elsewhere") as target:
        yield target


@dataclass(frozen=True)
class Place:
    """A root with the one volume ``ws1``, uid ``u1``."""

    backend: DirectoryBackend
    record: RecordFile
    home: Path

    async def processes(self) -> list[str]:
        """Those that are seen to use it by the look ahead of an operation."""
        view = await self.backend.inspect("ws1", fence=self.record.fence)
        assert view is not None
        return [user.name.split(" (")[0] for user in (view.users or ()) if not user.name.startswith("mount")]

    async def refusal(self, *, is_purge: bool = False) -> StorageError:
        """The error of a deletion, which is not sealed and has put the volume back."""
        before = await self.backend.fingerprint("ws1", "u1", fence=self.record.fence)

        async def check(walk: Walk) -> None:
            if not is_purge:
                assert await walk() == before

        async def never() -> None:
            raise AssertionError("sealed although somebody is there")

        with pytest.raises(StorageError) as error:
            await self.backend.delete("ws1", "u1", fence=self.record.fence, deletion=Deletion(check, never))
        assert (self.home / "file").read_text() == "content"
        return error.value

    async def delete(self) -> None:
        """The same where nobody is in the way."""
        await self.backend.delete("ws1", "u1", fence=self.record.fence, deletion=self.record.deletion())
        assert not self.home.exists()


async def made(root: Path, folder: Path) -> Place:
    """A place at ``root``, whose record stands in ``folder``."""
    root.parent.mkdir(exist_ok=True)
    record = RecordFile(folder / "record.json")
    record.volume("u1", VolumeState.RESTORING)
    backend = DirectoryBackend(
        root, mover_entry="x:y", walk=change_fingerprint, wait_policy=WaitPolicy(5, 5), preload=()
    )
    await backend.mark("place-1", adopt=False)
    await backend.create("ws1", "u1", restored_from=None, spec={}, fence=record.fence)
    record.volume("u1", VolumeState.READY)
    home = root / "ws_ws1_home"
    (home / "sub").mkdir()
    (home / "file").write_text("content")
    (home / "sub/file").write_text("content")
    return Place(backend, record, home)


@needs_root
@pytest.mark.field("D1")
@pytest.mark.tool("unshare", "mount")
@pytest.mark.parametrize("prefix", [(), UNSHARED], ids=["one-namespace", "another-namespace"])
@pytest.mark.parametrize("way", OTHER_NAMES)
async def test_a_process_by_another_name(
    place: Place, elsewhere: Path, run: list[subprocess.Popen[str]], way: str, prefix: tuple[str, ...]
) -> None:
    """Through a bind mount, a chroot, a descriptor or a mapping alone: seen by the look, and by the deletion."""
    pid = hold(run, BY_ANOTHER_NAME.format(OTHER_NAMES[way]), str(place.home), str(elsewhere), prefix=prefix)
    assert await place.processes() == [f"pid {pid}"]
    error = await place.refusal()
    assert error.code is ErrorCode.VOLUME_IN_USE
    assert f"pid {pid} " in error.message


@needs_root
@pytest.mark.field("D1")
@pytest.mark.tool("unshare", "mount")
@pytest.mark.parametrize("is_purge", [False, True], ids=["archive", "purge"])
@pytest.mark.parametrize("way", NO_NAMES)
async def test_a_process_without_a_name_for_it(
    place: Place, elsewhere: Path, run: list[subprocess.Popen[str]], way: str, is_purge: bool
) -> None:
    """Its mount is in no namespace any more, or its path is too long to be told: seen by the walk of the deletion."""
    pid = hold(run, BY_ANOTHER_NAME.format(NO_NAMES[way]), str(place.home), str(elsewhere))
    error = await place.refusal(is_purge=is_purge)
    assert error.code is ErrorCode.VOLUME_IN_USE
    assert f"pid {pid} " in error.message


@needs_root
@pytest.mark.field("D1")
@pytest.mark.tool("unshare", "mount")
def test_a_worker_in_another_namespace(folder: Path, elsewhere: Path, run: list[subprocess.Popen[str]]) -> None:
    """It knows the volume by another name than the user does; what lies beside the volume is still no user's."""
    (folder / "doomed").write_text("")
    codes = ["os.chdir(path)", "held = open(path + '/doomed', 'a'); os.unlink(path + '/doomed')"]
    pids = [
        hold(
            run,
            f"import os, sys; path = sys.argv[1]; {code}; print('bound', flush=True); sys.stdin.read()",
            str(folder),
        )
        for code in codes
    ]
    hold(run, "import os, sys; os.chdir(sys.argv[1]); print('bound', flush=True); sys.stdin.read()", str(folder.parent))
    command = [*UNSHARED, sys.executable, "-c", LOOK_ELSEWHERE, str(folder.parent), str(elsewhere), folder.name]
    looked = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [name.split(" (")[0] for name in json.loads(looked.stdout)] == [f"pid {pid}" for pid in sorted(pids)]


@pytest.mark.field("D1")
@pytest.mark.parametrize("way", THREADS)
async def test_a_thread_on_its_own(place: Place, run: list[subprocess.Popen[str]], way: str) -> None:
    """One with a working folder of its own, and one that has outlived the first of its process."""
    pid = hold(run, THREAD.format(THREADS[way]), str(place.home), str(EXIT))
    assert await place.processes() == [f"pid {pid}"]
    assert (await place.refusal()).code is ErrorCode.VOLUME_IN_USE


@needs_root
@pytest.mark.field("D1")
@pytest.mark.tool("mount")
async def test_a_mount_in_the_home_by_another_name(
    place: Place, elsewhere: Path, run: list[subprocess.Popen[str]]
) -> None:
    """It is not in the way of the path that we know, and holds the folder all the same."""
    mounting = "bind(root); subprocess.run(['mount', '-t', 'tmpfs', 'none', elsewhere / home.name / 'sub'], check=True)"
    hold(run, BY_ANOTHER_NAME.format(mounting), str(place.home), str(elsewhere), prefix=UNSHARED)
    (user,) = users_of(place.home)
    assert user.startswith(f"mount {elsewhere}/ws_ws1_home/sub of pid ")
    assert (await place.refusal()).code is ErrorCode.VOLUME_IN_USE


@needs_root
@pytest.mark.field("D1")
@pytest.mark.tool("mkfs.btrfs", "mount")
@pytest.mark.parametrize("kind", [btrfs, overlay])
async def test_a_mapping_where_maps_shows_another_device(
    kind: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path, run: list[subprocess.Popen[str]]
) -> None:
    """A file held by nothing but a mapping, on file systems with device numbers of their own, by its own name and by
    another; a neighbour on the same file system is no user."""
    with kind(tmp_path) as disk:
        place = await made(disk / "volumes", tmp_path)
        hold(run, "import os, sys; os.chdir(sys.argv[1]); print('bound', flush=True); sys.stdin.read()", str(disk))
        assert await place.processes() == []
        ways = ("map_only(home)", OTHER_NAMES["mapping"])
        with mount_point(tmp_path / "elsewhere") as elsewhere:
            pids = [hold(run, BY_ANOTHER_NAME.format(way), str(place.home), str(elsewhere)) for way in ways]
            assert await place.processes() == [f"pid {pid}" for pid in sorted(pids)]
            assert (await place.refusal()).code is ErrorCode.VOLUME_IN_USE
            end(run)
        await place.delete()


@needs_root
@pytest.mark.field("D1")
def test_a_process_of_another_user(run: list[subprocess.Popen[str]]) -> None:
    """Root sees it. Another user does not, which `doctor` tells as that user; it still sees its own, although it may
    not follow what they have mapped."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        home = Path(folder) / "ws_ws1_home"
        home.mkdir()
        (home / "file").write_text("content")
        theirs = hold(run, AS_USER, str(home), "1001", "folder")
        assert [user.split(" (")[0] for user in users_of(home)] == [f"pid {theirs}"]
        own = [hold(run, AS_USER, str(home), "1002", what) for what in ("folder", "mapping")]
        looked = subprocess.run(
            [sys.executable, "-c", LOOK_AS_USER, str(home), "1002"], check=True, capture_output=True, text=True
        )
        seen, verdict, text = json.loads(looked.stdout)
        assert [name.split(" (")[0] for name in seen] == [f"pid {pid}" for pid in sorted(own)]
        assert verdict == "warning"
        assert "processes of other users" in text


@needs_root
@pytest.mark.field("D1")
@pytest.mark.tool("unshare")
def test_a_worker_in_a_container_is_told_what_it_does_not_see(tmp_path: Path) -> None:
    """In a pid namespace of its own `doctor` names those outside of it."""
    command = ("unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", LOOK_AS_USER, str(tmp_path), "0")
    looked = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "processes outside of this container" in looked.stdout


@pytest.mark.field("D1")
def test_processes_that_are_forked_meanwhile(run: list[subprocess.Popen[str]]) -> None:
    """Who was forked while others were looked at is looked at, too."""
    everybody = processes.everybody()
    next(everybody)
    pid = hold(run, "import sys; print('bound', flush=True); sys.stdin.read()")
    assert pid in {process.pid for process in everybody}


async def test_a_user_stops_the_deletion(place: Place, run: list[subprocess.Popen[str]]) -> None:
    """Somebody in the folder when it is taken away: found in the trash, ahead of the check; put back, not sealed."""
    code = "import os, sys; os.chdir(sys.argv[1]); print('bound', flush=True); sys.stdin.read()"
    pid = hold(run, code, str(place.home))

    async def never(*_: object) -> None:
        raise AssertionError("checked or sealed although somebody is there")

    with pytest.raises(StorageError, match=f"pid {pid} ") as error:
        await place.backend.delete("ws1", "u1", fence=place.record.fence, deletion=Deletion(check=never, seal=never))
    assert error.value.code is ErrorCode.VOLUME_IN_USE
    assert await place.processes() == [f"pid {pid}"]


async def test_a_home_that_cannot_be_read_is_purged(place: Place, tmp_path: Path) -> None:
    """Where nothing is compared a walk that comes to no end stops nothing but an archive."""

    async def unreadable(root: str, /, *, held: Mapping[FileId, str] = MappingProxyType({})) -> str:
        raise StorageError(ErrorCode.VOLUME_UNREADABLE, "file: Input/output error")

    root = place.home.parent
    backend = DirectoryBackend(root, mover_entry="x:y", walk=unreadable, wait_policy=WaitPolicy(5, 5), preload=())

    async def check(walk: Walk) -> None:
        await walk()

    with pytest.raises(StorageError, match="Input/output"):
        await backend.delete(
            "ws1", "u1", fence=place.record.fence, deletion=Deletion(check, place.record.deletion().seal)
        )
    assert place.home.exists()
    await backend.delete("ws1", "u1", fence=place.record.fence, deletion=place.record.deletion())
    assert not place.home.exists()


async def test_a_home_that_nobody_uses_goes(place: Place) -> None:
    """What all processes of this machine have elsewhere is in nobody's way."""
    await place.delete()
