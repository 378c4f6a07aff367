"""The third wall alone: what Landlock stops when all other walls are down, and what it is known not to stop."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from activities.dataplane import confine
from activities.dataplane.confine import ConfinedThreads, Wall, landlock_abi
from activities.dataplane.threads import Stop, Stopped
from codehub_storage.errors import ErrorCode, StorageError

pytestmark = pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The folder inside the wall, and its neighbour with something to lose."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "victim").write_bytes(b"untouched")
    return inside, outside


async def inside_wall(inside: Path, task: Callable[[], object]) -> object:
    async with ConfinedThreads(inside, wall=Wall.REQUIRED, threads=1) as threads:
        return await threads.run(lambda stop: task())


ATTEMPTS: dict[str, Callable[[Path, Path], object]] = {
    "write a file": lambda inside, outside: (outside / "new").write_bytes(b"x"),
    "overwrite a file": lambda inside, outside: (outside / "victim").write_bytes(b"x"),
    "append to a file": lambda inside, outside: (outside / "victim").open("ab"),
    "truncate a file": lambda inside, outside: os.truncate(outside / "victim", 0),
    "remove a file": lambda inside, outside: (outside / "victim").unlink(),
    "rename a file": lambda inside, outside: (outside / "victim").rename(outside / "other"),
    "move a file in": lambda inside, outside: (outside / "victim").rename(inside / "mine"),
    "link a file in": lambda inside, outside: os.link(outside / "victim", inside / "mine"),
    "make a folder": lambda inside, outside: (outside / "new").mkdir(),
    "remove a folder": lambda inside, outside: (outside / "empty").rmdir(),
    "make a symbolic link": lambda inside, outside: (outside / "new").symlink_to("x"),
    "make a FIFO": lambda inside, outside: os.mkfifo(outside / "new"),
    "read a file": lambda inside, outside: (outside / "victim").read_bytes(),
    "list a folder": lambda inside, outside: os.listdir(outside),
    "read an environment": lambda inside, outside: Path("/proc/self/environ").read_bytes(),
    "write through a link": lambda inside, outside: (inside / "link/new").write_bytes(b"x"),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_it_stops_what_leaves_the_folder(folders: tuple[Path, Path], attempt: str) -> None:
    """The kernel refuses, for root too, and nothing outside has changed."""
    inside, outside = folders
    (outside / "empty").mkdir()
    (inside / "link").symlink_to(outside)
    with pytest.raises(OSError, match=r"Permission denied|cross-device"):
        await inside_wall(inside, lambda: ATTEMPTS[attempt](inside, outside))
    assert sorted(os.listdir(outside)) == ["empty", "victim"]
    assert (outside / "victim").read_bytes() == b"untouched"


async def test_a_tar_that_follows_absolute_names_cannot_write_outside(folders: tuple[Path, Path]) -> None:
    """A child process is inside the wall of the thread that started it: the worst options of tar do no harm."""
    inside, outside = folders
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in (str(outside / "absolute"), "../outside/parent", "fine"):
            tar.addfile(tarfile.TarInfo(name))
    command = ["tar", "-xPf", "-", "-C", str(inside)]

    def extract() -> int:
        return subprocess.run(command, input=archive.getvalue(), capture_output=True, check=False).returncode

    assert await inside_wall(inside, extract) == 2
    assert os.listdir(outside) == ["victim"]
    assert os.listdir(inside) == ["fine"]


async def test_everything_a_restore_needs_works_inside(folders: tuple[Path, Path]) -> None:
    """Files, folders, links across folders, FIFOs, removal, and reading the system's own files."""
    inside, _ = folders

    def work() -> None:
        (inside / "d").mkdir()
        (inside / "d/f").write_bytes(b"x")
        os.link(inside / "d/f", inside / "g")
        (inside / "s").symlink_to("/etc")
        os.mkfifo(inside / "p")
        (inside / "g").unlink()
        (inside / "d/f").rename(inside / "f")
        assert (inside / "f").read_bytes() == b"x"

    await inside_wall(inside, work)
    assert sorted(os.listdir(inside)) == ["d", "f", "p", "s"]


@pytest.mark.skipif(landlock_abi() < 4, reason="Landlock knows the network from ABI 4 on")
async def test_there_is_no_network_inside(folders: tuple[Path, Path]) -> None:
    """Writers need none; the event loop of the same process keeps its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with pytest.raises(PermissionError):
            await inside_wall(folders[0], lambda: socket.create_connection(address))
        await asyncio.to_thread(lambda: socket.create_connection(address).close())


async def test_other_threads_of_the_process_stay_free(folders: tuple[Path, Path]) -> None:
    """The wall belongs to the threads that put it up."""
    inside, outside = folders
    await inside_wall(inside, lambda: None)
    (outside / "new").write_bytes(b"x")
    await asyncio.to_thread((outside / "newer").write_bytes, b"x")
    assert (outside / "newer").exists()


async def test_required_without_landlock_is_unsupported(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory backend does not restore unconfined; containers go on without this wall."""
    monkeypatch.setattr(confine, "landlock_abi", lambda: 0)
    with pytest.raises(StorageError) as caught:
        ConfinedThreads(folders[0], wall=Wall.REQUIRED, threads=1)
    assert caught.value.code is ErrorCode.UNSUPPORTED
    async with ConfinedThreads(folders[0], wall=Wall.AVAILABLE, threads=1) as threads:
        assert await threads.run(lambda stop: 5) == 5


async def test_a_kernel_that_refuses_the_wall_stops_the_work(tmp_path: Path) -> None:
    """A wall that cannot be put up is an error, not a restore without it."""
    async with ConfinedThreads(tmp_path / "missing", wall=Wall.REQUIRED, threads=1) as threads:
        with pytest.raises(StorageError) as caught:
            await threads.run(lambda stop: (tmp_path / "written").write_bytes(b"x"))
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert not (tmp_path / "written").exists()


async def test_a_cancelled_task_is_stopped_and_waited_for(tmp_path: Path) -> None:
    """When the caller is gone, nothing of it writes any more; a task that had not begun never does."""
    begun, ended = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def work(stop: Stop) -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                stop.check()
        except Stopped:
            ended.append("first")
            raise

    async with ConfinedThreads(tmp_path, wall=Wall.REQUIRED, threads=1) as threads:
        first = asyncio.create_task(threads.run(work))
        await begun.wait()
        second = asyncio.create_task(threads.run(lambda stop: ended.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        first.cancel()
        results = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert ended == ["first"]
