"""Failpoints: an armed one fires where, when and how it was told to, an unarmed one never."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from activities.backends.base import ReadOnlyBackend, VolumeBackend, VolumeView
from activities.control.adoption import Adopting
from activities.runtime import failpoints
from activities.state.record import Record
from worker.failpoint_wrappers import backend_with_failpoints

SCRIPT = """
import asyncio, sys
from activities.runtime import failpoints
ONE = failpoints.declare("test.one", effect="nothing yet")
TEN = failpoints.declare("test.one.ten", effect="nothing yet")
for step in range(4):
    print(step, flush=True)
    failpoints.reach_in_thread(TEN)
    if sys.argv[1] == "thread":
        failpoints.reach_in_thread(ONE)
    else:
        asyncio.run(failpoints.reach(ONE))
"""
WAYS = ["thread", "task"]


def run(armed: str, way: str = "thread") -> subprocess.CompletedProcess[str]:
    """The script with ``armed`` in its environment."""
    environment = {**os.environ, failpoints.VARIABLE: armed, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, way], check=False, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("armed", ["", "test.other", "test.on"])
def test_unarmed_does_nothing(armed: str) -> None:
    """A point fires only by its whole name."""
    done = run(armed)
    assert done.returncode == 0
    assert done.stdout.split() == list("0123")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("armed", "steps"), [("test.one", 1), ("test.one:3", 3), ("test.other,test.one:2", 2)])
def test_kills_its_process_at_the_nth_visit(armed: str, steps: int, way: str) -> None:
    """SIGKILL at exactly the visit that was asked for, whatever else is armed."""
    done = run(armed, way)
    assert done.returncode == -signal.SIGKILL
    assert len(done.stdout.split()) == steps


def test_once_fires_in_one_process_only(tmp_path: Path) -> None:
    """The first process dies and leaves the mark; the next one passes."""
    marker = tmp_path / "fired"
    assert run(f"test.one:once={marker}").returncode == -signal.SIGKILL
    assert marker.exists()
    assert run(f"test.one:once={marker}").returncode == 0


@pytest.mark.parametrize("way", WAYS)
def test_pause_holds_until_released(tmp_path: Path, way: str) -> None:
    """A paused process says that it stands there and goes on when told to."""
    gate = tmp_path / "gate"
    environment = {
        **os.environ,
        failpoints.VARIABLE: f"test.one:2:pause={gate}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, way], env=environment, stdout=subprocess.PIPE, text=True
    ) as held:
        assert held.stdout is not None
        assert [held.stdout.readline().strip() for _ in range(2)] == ["0", "1"]
        while not Path(f"{gate}.reached").exists():
            assert held.poll() is None
        gate.touch()
        assert held.stdout.read().split() == ["2", "3"]
    assert held.returncode == 0


def test_names_are_declared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry refuses a second declaration and a point that nobody declared."""
    monkeypatch.setattr(failpoints, "_points", {})
    name = failpoints.declare("test.registry.here", effect="before anything")
    assert name in failpoints.names()
    assert failpoints.effect(name) == "before anything"
    with pytest.raises(ValueError, match="twice"):
        failpoints.declare(name, effect="again")
    with pytest.raises(KeyError):
        failpoints.reach_in_thread("test.registry.nowhere")


def test_a_running_process_is_armed_by_a_file(tmp_path: Path) -> None:
    """``@FILE`` is read at every point, visits count from the arming, and the mark names the process that died."""
    armed, gate, marker = tmp_path / "armed", tmp_path / "gate", tmp_path / "fired"
    armed.write_text(f"test.one:2:pause={gate}")
    environment = {**os.environ, failpoints.VARIABLE: f"@{armed}", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "thread"], env=environment, stdout=subprocess.PIPE, text=True
    ) as held:
        while not Path(f"{gate}.reached").exists():
            assert held.poll() is None
        armed.write_text(f"test.one:2:once={marker}")
        gate.touch()
        held.wait()
    assert held.returncode == -signal.SIGKILL
    assert marker.read_text() == str(held.pid)


def test_what_has_points_is_of_the_protocols_of_what_is_behind_them() -> None:
    """From Python 3.12 on a Protocol looks for methods past `__getattr__`."""
    pointed = backend_with_failpoints(cast(VolumeBackend, Seen()))
    assert inspect.getattr_static(pointed, "peek", None) is not None
    assert isinstance(pointed, ReadOnlyBackend)
    assert not isinstance(pointed, Adopting)


class Seen:
    """Only ``ReadOnlyBackend``."""

    async def peek(self, workspace_id: str, record: Record) -> VolumeView | None:
        """Nothing is there."""
        return None

    async def list_volumes(self) -> dict[str, str | None]:
        """Nothing is there."""
        return {}
