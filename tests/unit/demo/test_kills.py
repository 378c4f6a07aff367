"""The demo kills in the middle of an archive or fails, and says whom."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from codehub_storage.contracts import Phase, Progress
from codehub_storage.errors import ErrorCode, StorageError
from examples.demo.kills import Kills, MissedTheMiddle


def progress(phase: Phase, done: int = 0, total: int = 100, *, closed: bool = False) -> Progress:
    return Progress(
        operation="archive", workspace_id="demo", phase=phase, bytes_done=done, bytes_total=total, closed=closed
    )


class Scene:
    """A worker, a mover and an archive that goes through ``script``; who is killed is followed by another."""

    def __init__(self, *script: Progress | StorageError | None) -> None:
        self._script = list(script)
        self.said: list[str] = []
        self.movers, self.workers = [self._start()], [self._start()]

    def kills(self) -> Kills:
        """Those of this scene."""
        return Kills(self.look, lambda: self._pid(self.movers), lambda: self._pid(self.workers), self.said.append)

    def end(self) -> None:
        """End all processes."""
        for process in (*self.movers, *self.workers):
            process.kill()
            process.wait()

    async def look(self) -> Progress | None:
        """The next entry of the script; its last one for ever."""
        found = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(found, StorageError):
            raise found
        return found

    def signals(self) -> dict[str, list[int]]:
        """How those that have ended did."""
        return {
            name: [-process.returncode for process in processes if process.poll() is not None]
            for name, processes in (("movers", self.movers), ("workers", self.workers))
        }

    def _pid(self, processes: list[subprocess.Popen[bytes]]) -> int | None:
        if processes[-1].poll() is None:
            return processes[-1].pid
        if processes is self.workers:
            self.movers[-1].kill()  # as the kernel does
        processes.append(self._start())
        return None

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "600"])


@pytest.fixture
def scenes() -> Iterator[list[Scene]]:
    """Scenes that are ended with the test."""
    found: list[Scene] = []
    yield found
    for scene in found:
        scene.end()


async def test_both_are_killed_in_the_middle(scenes: list[Scene]) -> None:
    """The mover once a share is copied, and the worker once more is; each pid is told, and who came after it."""
    scene = Scene(
        None,
        progress(Phase.PLANNING, 90),
        progress(Phase.COPYING),
        StorageError(ErrorCode.BACKEND_UNAVAILABLE, "no answer"),
        progress(Phase.COPYING, 20),
        progress(Phase.COPYING, 20),
        progress(Phase.UNKNOWN),
        progress(Phase.COPYING, 60),
    )
    scenes.append(scene)
    mover, worker = scene.movers[0].pid, scene.workers[0].pid
    await scene.kills().both()
    assert scene.signals() == {"movers": [signal.SIGKILL, signal.SIGKILL], "workers": [signal.SIGKILL]}
    killed = [line for line in scene.said if "SIGKILL" in line]
    assert killed == [
        f"SIGKILL to the mover, pid {mover}: 20 B of 100 B are copied",
        f"SIGKILL to the worker, pid {worker}: 60 B of 100 B are copied",
    ]
    assert any(str(scene.workers[1].pid) in line for line in scene.said)


@pytest.mark.parametrize(
    "end", [progress(Phase.FINISHING, 100), progress(Phase.VERIFYING), progress(Phase.COPYING, 50, closed=True)]
)
async def test_nothing_is_killed_beyond_the_middle(scenes: list[Scene], end: Progress) -> None:
    """An archive that was too fast is a failure of the demo, and says where the archive is."""
    scene = Scene(progress(Phase.PLANNING), progress(Phase.COPYING), end)
    scenes.append(scene)
    with pytest.raises(MissedTheMiddle, match="the archive"):
        await scene.kills().both()
    assert scene.signals() == {"movers": [], "workers": []}


async def test_a_worker_that_lives_is_a_failure(scenes: list[Scene]) -> None:
    """The mover's death alone is not the story."""
    scene = Scene(progress(Phase.COPYING, 50), progress(Phase.FINISHING))
    scenes.append(scene)
    with pytest.raises(MissedTheMiddle):
        await scene.kills().both()
    assert scene.signals() == {"movers": [signal.SIGKILL], "workers": []}
