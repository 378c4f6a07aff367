"""The embedded stack as a person meets it: a process that says `ready`, is killed, and goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from activities.objectstore.s3 import open_store
from worker.dev.info import DevInfo, Layout
from worker.settings import Settings
from worker.store import s3_settings

ROOT = Path(__file__).parents[2]
PROGRAM = "import asyncio, pathlib, sys; from worker.dev.run import run; asyncio.run(run(pathlib.Path(sys.argv[1])))"


class Dev:
    """A stack that runs in a process of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.layout = Layout(data_dir)
        self.errors = data_dir.with_suffix(".stderr")
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(data_dir)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                start_new_session=True,
            )

    def line(self) -> str:
        """The next line that it says; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def info(self) -> DevInfo:
        """What it wrote for others, once it is ready."""
        said = self.line()
        assert "ready" in said, said + self.errors.read_text()
        assert self.line().startswith("next, in another terminal: codehub-storage ")
        info = DevInfo.read(self.layout.data_dir)
        assert info is not None
        return info

    def pids(self) -> dict[str, int]:
        """Its parts by name."""
        return {path.stem: int(path.read_text().split()[0]) for path in self.layout.run.glob("*.pid")}

    def end(self, number: signal.Signals) -> int:
        """Send the signal, if it still runs, and answer the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit status, once it has ended."""
        assert self.process.stdout is not None
        while self.process.stdout.read(1 << 16):
            pass
        return self.process.wait()


@contextmanager
def dev(data_dir: Path) -> Iterator[Dev]:
    """One that is ended with the test, however that goes."""
    stack = Dev(data_dir)
    try:
        yield stack
    finally:
        stack.end(signal.SIGKILL)
        assert stack.process.stdout is not None
        stack.process.stdout.close()


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A stack that is ready, for the tests that leave it running."""
    with dev(tmp_path_factory.mktemp("dev") / "stack") as stack:
        stack.info()
        yield stack


@pytest.fixture
def own_stack_folder(tmp_path: Path) -> Path:
    """Where a test starts stacks itself."""
    return tmp_path / "stack"


def wait_until_gone(pids: dict[str, int]) -> None:
    """Ends when all have ended; the suite's own time limit is the only one."""
    while any(Path(f"/proc/{pid}").exists() for pid in pids.values()):
        time.sleep(0.01)


async def leave_work(info: DevInfo, data_dir: Path) -> None:
    """An object and an open run that a later stack must still have."""
    client = await Client.connect(info.temporal_address, namespace=info.namespace)
    await client.start_workflow("nobody-serves-this", id="left-open", task_queue="nobody")
    async with open_store(s3_settings(Settings.load(data_dir))) as store:
        await store.put_if("left/behind", b"bytes", etag=None)


async def check_work(info: DevInfo, data_dir: Path) -> None:
    client = await Client.connect(info.temporal_address, namespace=info.namespace)
    assert (await client.get_workflow_handle("left-open").describe()).status is WorkflowExecutionStatus.RUNNING
    async with open_store(s3_settings(Settings.load(data_dir))) as store:
        found = await store.get("left/behind")
    assert found is not None
    assert found[0] == b"bytes"


def test_goes_on_after_kill(own_stack_folder: Path) -> None:
    """SIGKILL ends all parts; the next stack has the same addresses, keys, objects and open runs, and ends in order.

    In order: status 0, no part left, and no dev.json that would lead others astray.
    """
    data_dir = own_stack_folder
    with dev(data_dir) as first:
        before = first.info()
        asyncio.run(leave_work(before, data_dir))
        pids = first.pids()
        assert set(pids) == {"temporal", "seaweedfs", "worker"}
        first.end(signal.SIGKILL)
        wait_until_gone(pids)
    with dev(data_dir) as second:
        assert second.info() == before
        asyncio.run(check_work(before, data_dir))
        pids = second.pids()
        assert second.end(signal.SIGTERM) == 0
        wait_until_gone(pids)
    assert DevInfo.read(data_dir) is None


def test_lost_server_is_named(own_stack_folder: Path) -> None:
    """A server that ends is the end of the stack; the error names it and its log, and the other parts end too."""
    with dev(own_stack_folder) as stack:
        stack.info()
        pids = stack.pids()
        os.kill(pids["temporal"], signal.SIGKILL)
        assert stack.wait() != 0
        wait_until_gone(pids)
        assert str(stack.layout.logs / "temporal.log") in stack.errors.read_text()


def test_second_stack_is_refused(own_stack: Dev) -> None:
    """A second one on the folder says so, and leaves the first and its dev.json alone."""
    folder = own_stack.layout.data_dir
    with dev(folder) as second:
        assert second.wait() != 0
        assert f"a stack runs on {folder} already (pid {own_stack.process.pid})" in second.errors.read_text()
    assert DevInfo.read(folder) is not None
    assert own_stack.process.poll() is None


def test_worker_is_started_again(own_stack: Dev) -> None:
    """A worker that is killed comes back, and the person is told."""
    old = own_stack.pids()["worker"]
    os.kill(old, signal.SIGKILL)
    assert "worker" in own_stack.line()
    while own_stack.pids().get("worker", old) == old:
        time.sleep(0.05)
    assert own_stack.process.poll() is None


def test_credentials_are_private(own_stack: Dev) -> None:
    """No file with a key in it can be read by others; no log has one."""
    info = DevInfo.read(own_stack.layout.data_dir)
    assert info is not None
    holders = [
        path
        for path in own_stack.layout.data_dir.rglob("*")
        if path.is_file() and info.s3_secret_key.encode() in path.read_bytes()
    ]
    assert own_stack.layout.info in holders
    for path in holders:
        assert path.parent != own_stack.layout.logs
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
