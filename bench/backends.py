"""What each backend adds to the data plane: `make bench-backends`, which runs this once on each.

On each: one workspace of 10 MB several times, one of 2.5 GB once; archive and restore, from the client's call to the
result, beside the bare data plane on a folder with the same home, the same store and settings, in one process. Settle
is 0. The store is MinIO, at an address that containers reach, so nothing of ours stands between.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType

from activities.dataplane.copy import Means
from activities.dataplane.plan import PlanLimits
from activities.dataplane.restore import ArchiveRestore
from activities.dataplane.verify import verify_archive
from bench.homes import make_developer, make_small, size_of
from bench.whole import copy_tree, seconds_at
from codehub_storage import keys
from codehub_storage.client import OperationHandle
from tests.fidelity.looking import rsync_would
from tests.harness.archives import ignore, make_archive, restore_archive
from tests.harness.habitats import BACKEND
from tests.harness.minio import Minio
from tests.harness.site import Site, open_site
from tests.harness.stops import history_of
from tests.harness.watching import Watch
from worker.dev.temporal import TemporalServer

pytestmark = pytest.mark.timeout(3600)
ROUNDS = 5


@dataclass
class Spent:
    """Seconds of each round, by what they were spent on."""

    whole: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    pss_bytes: int = 0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Minio]:
    """Where containers and Pods reach it, and where we do."""
    host = {"local-docker": "docker_engine", "k8s": "cluster"}.get(BACKEND)
    address = request.getfixturevalue(host).host_address if host else "127.0.0.1"
    admin = request.getfixturevalue("store_admin")  # whose keys the Secret of the movers' Pods has
    server = Minio(tmp_path_factory.mktemp("bench-minio") / "data", address=address, admin=admin)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, store: Minio) -> AsyncIterator[Site]:
    """A site with one worker, and nothing timed out early."""
    async with open_site(
        tmp_path / "site",
        temporal_server,
        store,
        time_scale=1,
        CODEHUB_STORAGE_MOVER_S3_ENDPOINT=store.endpoint_url,
    ) as opened:
        opened.start_worker()
        yield opened


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """On the disk that has the volumes, too."""
    folder = Path(tempfile.mkdtemp(prefix="codehub-storage-bench-"))
    yield folder
    shutil.rmtree(folder)


async def test_small(site: Site, scratch: Path) -> None:
    """10 MB, several times: what an operation costs beside its bytes, and how long a mover takes to be ready."""
    home = scratch / "small"
    home.mkdir()
    make_small(home)
    await measure(site, home, ROUNDS + 1)


async def test_large(site: Site, scratch: Path) -> None:
    """2.5 GB, once."""
    home = scratch / "large"
    home.mkdir()
    await make_developer(home)
    await measure(site, home, 1)


async def measure(site: Site, home: Path, rounds: int) -> None:
    """Take the home through archive and restore. Of several rounds the first, which warms everything, is left out."""
    archive, restore = Spent(), Spent()
    for _ in range(rounds):
        await bare(site, home, archive, restore)
        await whole(site, home, archive, restore)
    entries, total = size_of(home)
    for name, spent in (("archive", archive), ("restore", restore)):
        tell(name, spent, entries, total, skip=1 if rounds > 1 else 0)


async def bare(site: Site, home: Path, archive: Spent, restore: Spent) -> None:
    """The data plane alone: walk, pack, send, walk, read back whole; then fetch, unpack, compare, sync."""
    target = home.with_name(f"{home.name}-restored")
    target.mkdir()
    began = time.monotonic()
    made = await make_archive(home, site.truth, limits=PlanLimits(), key="bare/home.tar.gz", means=Means())
    await verify_archive(site.truth, made.info, made.manifest, progress=ignore)
    archive.bare.append(time.monotonic() - began)
    began = time.monotonic()
    await restore_archive(ArchiveRestore(target, site.truth, made.manifest))
    restore.bare.append(time.monotonic() - began)
    shutil.rmtree(made.plan.folder)
    shutil.rmtree(target)


async def whole(site: Site, home: Path, archive: Spent, restore: Spent) -> None:
    """The operations, from call to result, and the same tree afterwards."""
    workspace = site.workspace_id()
    key = await site.storage.provision(workspace)
    copy_tree(home, site.volume(workspace))
    os.sync()  # so that nobody pays for it later
    archive_key = keys.archive_key(workspace)
    await timed(archive, site, workspace, site.storage.start_archive(key))
    await timed(restore, site, workspace, site.storage.start_restore(archive_key))
    assert rsync_would(home, site.volume(workspace)) == ""
    await site.storage.purge(key, archive_key)


async def timed(spent: Spent, site: Site, workspace: str, starting: Awaitable[OperationHandle]) -> None:
    """One operation. A mover is ready when it takes its first step, and begun when the lease on it is scheduled."""
    with watching(site, workspace) as watch:
        began = time.monotonic()
        handle = await starting
        await handle.result()
        spent.whole.append(time.monotonic() - began)
    begun, ready, mine = 0.0, 0.0, set[int]()
    for event in await history_of(site, workspace, handle.run_id):
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled = event.activity_task_scheduled_event_attributes
            if scheduled.activity_type.name == "hold_mover":
                begun = begun or seconds_at(event)
            elif scheduled.task_queue.name not in (keys.storage_queue(site.place), keys.movers_queue(site.place)):
                mine.add(event.event_id)
        elif event.activity_task_started_event_attributes.scheduled_event_id in mine:
            ready = ready or seconds_at(event)
    assert 0 < begun < ready
    spent.ready.append(ready - begun)
    spent.pss_bytes = max(spent.pss_bytes, watch.pss_bytes)


def watching(site: Site, workspace: str) -> Watch:
    """The memory of a mover, be it a process, a container or a Pod."""
    if BACKEND == "directory":
        return Watch(site.root, workspace)
    return Watch(site.root, workspace, marks=lambda: site.habitat.control_groups(workspace))


def tell(operation: str, spent: Spent, entries: int, total: int, skip: int) -> None:
    """One JSON line: medians, and the whole's share that the data plane is."""
    whole, plain, ready = (statistics.median(each[skip:]) for each in (spent.whole, spent.bare, spent.ready))
    line = {
        "backend": BACKEND,
        "operation": operation,
        "entries": entries,
        "megabytes": round(total / 1e6),
        "rounds": len(spent.whole) - skip,
        "whole_seconds": round(whole, 2),
        "spread_seconds": [round(min(spent.whole[skip:]), 2), round(max(spent.whole[skip:]), 2)],
        "bare_seconds": round(plain, 2),
        "share_of_bare": round(plain / whole, 2),
        "mover_ready_seconds": round(ready, 2),
        "mover_pss_mib": spent.pss_bytes >> 20,
    }
    print("\n" + json.dumps(line))
