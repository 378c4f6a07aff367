"""The whole operation on the directory backend: from the client's call to the result, with a control worker of its own,
a mover for each operation and a Temporal server. Settle is 0. Volumes and the store's data are in memory.

What it consists of is read from its history: how long each step ran. A step's retries and its wait are not in that.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from bench.figures import WHOLE, Result
from bench.homes import make_small, size_of
from bench.measure import Measured
from bench.rounds import NotEqual, result_of, tell
from bench.store import Place, scratch_folder
from codehub_storage.client import OperationHandle
from codehub_storage.keys import archive_key
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from tests.harness.stops import history_of
from tests.harness.watching import Watch
from worker.dev.process import Child
from worker.dev.temporal import TemporalServer

_LEASE = "hold_mover"  # beside the steps, for as long as the mover lives
_TICKS = os.sysconf("SC_CLK_TCK")
_OURS = ("AWS_", "CODEHUB_STORAGE_", "TEMPORAL_")


def run_whole(server: S3Server, name: str, tree: Path, rounds: int) -> list[Result]:
    """The tree archived and restored, ``rounds`` times, after a small one that warms everything."""
    with scratch_folder() as folder:
        return asyncio.run(_run(server, folder, name, tree, rounds))


async def _run(server: S3Server, folder: Path, name: str, tree: Path, rounds: int) -> list[Result]:
    results: list[Result] = []
    async with warm_site(server, folder) as (site, worker):
        small = folder / "warm"
        small.mkdir()
        make_small(small)
        place = Place(server.endpoint_url, server.admin, site.bucket)
        for _ in range(2):
            await _take_turn(site, worker, place, "warm", small, -1)
        for number in range(rounds):
            results += await _take_turn(site, worker, place, name, tree, number)
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


async def _take_turn(site: Site, worker: Child, place: Place, name: str, tree: Path, number: int) -> Sequence[Result]:
    workspace = site.workspace_id()
    key = await site.storage.provision(workspace)
    await asyncio.to_thread(copy_tree, tree, site.volume(workspace))
    measured = await _measure(site, worker, site.storage.start_archive(key))
    results = [result_of(measured, place, name, WHOLE, "archive", number)]
    measured = await _measure(site, worker, site.storage.start_restore(archive_key(workspace)))
    results.append(result_of(measured, place, name, WHOLE, "restore", number))
    if size_of(site.volume(workspace)) != size_of(tree):
        raise NotEqual(f"{workspace} is not what {tree} is")
    await site.storage.purge(key, archive_key(workspace))
    for each in results if number >= 0 else ():
        tell(each)
    return results


def copy_tree(tree: Path, volume: Path) -> None:
    """Fill a volume, by a tool that is not ours."""
    subprocess.run(["rsync", "-aHAX", f"{tree}/", f"{volume}/"], check=True)


async def _measure(site: Site, worker: Child, starting: Awaitable[OperationHandle]) -> Measured:
    """CPU time of the worker, its movers and their children; memory of the mover; the seconds of the steps are said."""
    assert worker.pid is not None
    spent, began = _cpu_seconds(worker.pid), time.monotonic()
    handle = await starting
    with Watch(site.root, handle.workspace_id) as watch:
        await handle.result()
    wall, cpu = time.monotonic() - began, _cpu_seconds(worker.pid) - spent
    steps = _seconds_by_step(await history_of(site, handle.workspace_id, handle.run_id))
    return Measured(wall, cpu, watch.pss_bytes, json.dumps(steps))


def _seconds_by_step(history: Sequence[HistoryEvent]) -> dict[str, float]:
    """How long the last attempt of each step ran, summed by its name."""
    names, begun, steps = dict[int, str](), dict[int, float](), dict[str, float]()
    for event in history:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            begun[event.activity_task_started_event_attributes.scheduled_event_id] = seconds_at(event)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            scheduled = event.activity_task_completed_event_attributes.scheduled_event_id
            name = names[scheduled]
            if name != _LEASE:
                steps[name] = round(steps.get(name, 0) + seconds_at(event) - begun[scheduled], 3)
    return steps


def seconds_at(event: HistoryEvent) -> float:
    """When it happened."""
    return event.event_time.ToMicroseconds() / 1e6


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
