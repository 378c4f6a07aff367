"""The whole operation on the directory backend: from the client's call to the result, with a control worker of its own,
a mover for each operation and a Temporal server. Settle is 0. Volumes and the store's data are in memory.

What it consists of is read from its history: how long each step ran. A step's retries and its wait are not in that.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from bench.figures import WHOLE, Result
from bench.homes import make_small, size_of
from bench.rounds import NotEqual, tell
from bench.store import scratch_folder, stored
from codehub_storage.contracts import OperationResult
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from tests.harness.stops import history_of
from tests.harness.watching import Watch
from worker.dev.process import Child
from worker.dev.temporal import TemporalServer

_LEASE = "hold_mover"  # beside the steps, for as long as the mover lives
_TICKS = os.sysconf("SC_CLK_TCK")
_OURS = ("AWS_", "CODEHUB_STORAGE_", "TEMPORAL_")


def run_whole(server: S3Server, trees: Mapping[str, Path], rounds: int) -> list[Result]:
    """Each tree archived and restored, ``rounds`` times, after a small one that warms everything."""
    with scratch_folder() as folder:
        return asyncio.run(_run(server, folder, trees, rounds))


async def _run(server: S3Server, folder: Path, trees: Mapping[str, Path], rounds: int) -> list[Result]:
    results: list[Result] = []
    async with warm_site(server, folder) as (site, worker):
        small = folder / "warm"
        small.mkdir()
        make_small(small)
        for _ in range(2):
            await _take_turn(site, worker, server, "warm", small, -1)
        for name, tree in trees.items():
            for number in range(rounds):
                results += await _take_turn(site, worker, server, name, tree, number)
    return results


@asynccontextmanager
async def warm_site(server: S3Server, folder: Path) -> AsyncIterator[tuple[Site, Child]]:
    """A site in ``folder`` and its worker, with a Temporal server of their own."""
    temporal = TemporalServer(
        database=folder / "temporal.db", log=folder / "temporal.log", pid_file=folder / "temporal.pid"
    )
    temporal.start()
    try:
        async with open_site(folder / "site", temporal, server, time_scale=1) as site:
            kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
            worker = Child(
                "worker",
                [sys.executable, "-m", "worker.control"],
                log=folder / "worker.log",
                pid_file=folder / "worker.pid",
                environment={**kept, **site.environment},
            )
            worker.start()
            try:
                yield site, worker
            finally:
                worker.stop()
    finally:
        temporal.stop()


async def _take_turn(
    site: Site, worker: Child, server: S3Server, name: str, tree: Path, number: int
) -> Sequence[Result]:
    workspace = site.workspace_id()
    key = await site.storage.provision(workspace)
    await asyncio.to_thread(copy_tree, tree, site.volume(workspace))
    results = []
    with _Meter(site, workspace, worker) as meter:
        result = await (await site.storage.start_archive(key)).result()
    results.append(await _result(site, server, name, "archive", number, meter, result))
    archive_key = result.archive_key
    assert archive_key is not None
    with _Meter(site, workspace, worker) as meter:
        result = await (await site.storage.start_restore(archive_key)).result()
    results.append(await _result(site, server, name, "restore", number, meter, result))
    if size_of(site.volume(workspace)) != size_of(tree):
        raise NotEqual(f"{workspace} is not what {tree} is")
    await site.storage.purge(key, archive_key)
    for each in results if number >= 0 else ():
        tell(each)
    return results


def copy_tree(tree: Path, volume: Path) -> None:
    """Fill a volume, by a tool that is not ours."""
    subprocess.run(["rsync", "-aHAX", f"{tree}/", f"{volume}/"], check=True)


async def _result(
    site: Site, server: S3Server, name: str, operation: str, number: int, meter: _Meter, result: OperationResult
) -> Result:
    objects, stored_bytes = stored(server, site.bucket)
    steps = _seconds_by_step(await history_of(site, result.workspace_id, result.run_id))
    return Result(
        tree=name,
        contender=WHOLE,
        operation=operation,
        round=number,
        wall_seconds=round(meter.wall_seconds, 3),
        cpu_seconds=round(meter.cpu_seconds, 3),
        pss_bytes=meter.pss_bytes,
        stored_bytes=stored_bytes,
        objects=objects,
        phases=steps,
    )


def _seconds_by_step(history: Sequence[HistoryEvent]) -> dict[str, float]:
    """How long the last attempt of each step ran, summed by its name."""
    names, begun, steps = dict[int, str](), dict[int, float](), dict[str, float]()
    for event in history:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            begun[event.activity_task_started_event_attributes.scheduled_event_id] = _at(event)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            scheduled = event.activity_task_completed_event_attributes.scheduled_event_id
            name = names[scheduled]
            if name != _LEASE:
                steps[name] = round(steps.get(name, 0) + _at(event) - begun[scheduled], 3)
    return steps


def _at(event: HistoryEvent) -> float:
    return event.event_time.ToMicroseconds() / 1e6


class _Meter:
    """Wall time of the block; CPU time of the worker, its movers and their children; memory of the mover."""

    def __init__(self, site: Site, workspace: str, worker: Child) -> None:
        assert worker.pid is not None
        self._worker = worker.pid
        self._watch = Watch(site.root, workspace)
        self.wall_seconds = self.cpu_seconds = 0.0
        self.pss_bytes = 0

    def __enter__(self) -> _Meter:
        self._spent = _cpu_seconds(self._worker)
        self._watch.__enter__()
        self._began = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        self.wall_seconds = time.monotonic() - self._began
        self._watch.__exit__(None, None, None)
        self.cpu_seconds = _cpu_seconds(self._worker) - self._spent
        self.pss_bytes = self._watch.pss_bytes


def _cpu_seconds(root: int) -> float:
    """Of a process and of all below it, those included that ended and were waited for."""
    return sum(ticks for pid, ticks in _ticks().items() if root in line_of(pid)) / _TICKS


def _ticks() -> dict[int, int]:
    """User and system time by process, with the children that it waited for."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (fields := _stat(int(name))):
            found[int(name)] = sum(map(int, fields[11:15]))
    return found


def line_of(pid: int) -> Iterator[int]:
    """The process, its parent, and so on."""
    while pid > 1:
        yield pid
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """What follows the name in /proc; nothing of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
