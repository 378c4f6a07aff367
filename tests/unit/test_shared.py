"""The servers of a run: started once, by whoever asks first; stopped by the one who keeps them, and nothing is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.shared import Keeper, ask
from worker.dev.process import Child


class Sleeper:
    """A server that only is there."""

    def __init__(self, folder: Path) -> None:
        self.ports: tuple[int, ...] = tuple(range(1, 11))
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        self.child = Child("a sleeper", command, log=folder / "sleeper.log", pid_file=folder / "sleeper.pid")

    def start(self) -> None:
        self.child.start()

    def stop(self) -> None:
        self.child.stop()


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """It can start a sleeper, and nothing else."""
    keeper = Keeper()
    keeper.makers.clear()
    keeper.makers["seaweed"] = lambda: Sleeper(keeper.folder)
    yield keeper
    keeper.stop()


def test_each_is_started_once(keeper: Keeper) -> None:
    """Also where many ask at the same time; none before it is asked for."""
    assert list(keeper.folder.glob("*.pid")) == []
    with ThreadPoolExecutor(8) as askers:
        told = list(askers.map(lambda _: ask(keeper.servers.socket, "seaweed"), range(8)))
    assert told == [{"folder": str(keeper.folder), "ports": list(range(1, 11))}] * 8
    assert len(list(keeper.folder.glob("*.pid"))) == 1


def test_the_end_leaves_nothing(keeper: Keeper) -> None:
    """No process, no file; ending again is fine, and who asks afterwards finds nobody."""
    ask(keeper.servers.socket, "seaweed")
    pid = (keeper.folder / "sleeper.pid").read_text().split()[0]
    keeper.stop()
    keeper.stop()
    assert not Path("/proc", pid).exists()
    assert not keeper.folder.exists()
    with pytest.raises(OSError, match="No such file"):
        ask(keeper.servers.socket, "seaweed")


def test_logs_of_a_failed_run_are_kept(keeper: Keeper) -> None:
    """And nothing else."""
    ask(keeper.servers.socket, "seaweed")
    (keeper.folder / "data").mkdir()
    keeper.stop(keep_logs=True)
    kept = list(keeper.folder.iterdir())
    assert [path.name for path in kept] == ["sleeper.log"]
    kept[0].unlink()
    keeper.folder.rmdir()


def test_one_that_does_not_start_is_told(keeper: Keeper) -> None:
    """To each who asks; the others can still be had."""
    for _ in range(2):
        assert "minio" in ask(keeper.servers.socket, "minio")["failed"]
    assert ask(keeper.servers.socket, "seaweed")["ports"][:2] == [1, 2]


def test_a_test_cannot_stop_what_others_use(keeper: Keeper) -> None:
    """Its handle knows address and keys, and no process."""
    server = keeper.servers.seaweed()
    assert (server.ports[0], server.admin) == (1, keeper.servers.admin)
    for call in (server.restart, server.kill, server.stop):
        with pytest.raises(AssertionError, match="shares this server"):
            call()
