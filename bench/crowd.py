"""Many small workspaces at once through one worker: operations by second, memory, and who waits for whom."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from bench.contenders import TOOLS
from bench.homes import make_small
from bench.measure import Sampler
from bench.store import Place, scratch_folder, store_server
from bench.trees import tree
from bench.whole import copy_tree, line_of, warm_site
from codehub_storage.keys import archive_key
from tests.harness.site import Site
from tests.harness.watching import pss_of
from worker.settings import Settings

_BEHIND = 40
"""Small ones that are counted behind a large one."""
_LOOP = 'aws s3 cp --only-show-errors "s3://$BUCKET/$1" - | tar xz -C "$(mktemp -d -p "$TARGET")"'


def run_crowd(count: int, tell: Callable[[dict[str, object]], None]) -> None:
    """``count`` small workspaces archived at once and restored at once; then some of them behind a large one."""
    with scratch_folder() as folder, store_server(folder) as server:

        async def run() -> None:
            async with warm_site(server, folder) as (site, worker):
                assert worker.pid is not None
                small = folder / "small"
                small.mkdir()
                await asyncio.to_thread(make_small, small)
                ids = [site.workspace_id() for _ in range(count)]
                await _some_at_a_time(ids, lambda each: _fill(site, each, small))
                tell(await _together("archive", ids, lambda each: _archive(site, each), worker.pid))
                tell(await _loop(site, Place(server.endpoint_url, server.admin, site.bucket), ids, folder))
                tell(await _together("restore", ids, lambda each: _restore(site, each), worker.pid))
                some = ids[:_BEHIND]
                tell(await _together("archive", some, lambda each: _archive(site, each), worker.pid))
                await _some_at_a_time(some, lambda each: _restore(site, each))
                large = site.workspace_id()
                await _fill(site, large, await asyncio.to_thread(tree, "home"))
                waiting = asyncio.create_task(_archive(site, large))
                await asyncio.sleep(1)
                behind = await _together("archive", some, lambda each: _archive(site, each), worker.pid)
                tell({**behind, "behind": "a home of 2 GB", "large_still_runs": not waiting.done()})
                await waiting

        asyncio.run(run())


async def _some_at_a_time(ids: Sequence[str], act: Callable[[str], Awaitable[None]]) -> None:
    turn = asyncio.Semaphore(Settings().max_movers)

    async def one(workspace: str) -> None:
        async with turn:
            await act(workspace)

    await asyncio.gather(*map(one, ids))


async def _fill(site: Site, workspace: str, source: Path) -> None:
    await site.storage.provision(workspace)
    await asyncio.to_thread(copy_tree, source, site.volume(workspace))


async def _archive(site: Site, workspace: str) -> None:
    await site.storage.archive(site.key(workspace))


async def _restore(site: Site, workspace: str) -> None:
    await site.storage.restore(archive_key(workspace))


async def _together(
    operation: str, ids: Sequence[str], act: Callable[[str], Awaitable[None]], worker: int
) -> dict[str, object]:
    seconds: list[float] = []

    async def timed(workspace: str) -> None:
        began = time.monotonic()
        await act(workspace)
        seconds.append(time.monotonic() - began)

    began = time.monotonic()
    with Sampler(partial(pss_of, worker)) as own, Sampler(partial(_below, worker)) as movers:
        await asyncio.gather(*map(timed, ids))
    wall = time.monotonic() - began
    return {
        "crowd": "ours",
        "operation": operation,
        "workspaces": len(ids),
        "movers_at_a_time": Settings().max_movers,
        "wall_seconds": round(wall, 1),
        "operations_by_second": round(len(ids) / wall, 2),
        "median_seconds": round(statistics.median(seconds), 2),
        "longest_seconds": round(max(seconds), 2),
        "worker_pss_mib": own.most >> 20,
        "movers_pss_mib": movers.most >> 20,
    }


async def _loop(site: Site, place: Place, ids: Sequence[str], folder: Path) -> dict[str, object]:
    """What a script does: as many at a time, nothing compared, nothing proven."""
    target, abreast = folder / "loop", Settings().max_movers
    target.mkdir()
    environment = {**os.environ, **place.environment(), "BUCKET": place.bucket, "TARGET": str(target)}
    environment["PATH"] = f"{TOOLS}{os.pathsep}{environment['PATH']}"
    began = time.monotonic()
    await asyncio.to_thread(
        subprocess.run,
        ["xargs", "-P", str(abreast), "-I", "{}", "sh", "-c", _LOOP, "sh", "{}"],
        input="\n".join(map(archive_key, ids)).encode(),
        env=environment,
        check=True,
    )
    wall = time.monotonic() - began
    shutil.rmtree(target)
    return {
        "crowd": "shell loop",
        "operation": "restore",
        "workspaces": len(ids),
        "at_a_time": abreast,
        "wall_seconds": round(wall, 1),
        "operations_by_second": round(len(ids) / wall, 2),
    }


def _below(worker: int) -> int:
    """Memory of all processes that it started, in bytes."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return sum(pss_of(pid) for pid in pids if pid != worker and worker in line_of(pid))
