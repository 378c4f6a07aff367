"""One complete copy, whatever is killed: SIGKILL of worker and mover before and after every call that leaves them.

The list of trials is the trace of one clean run of each operation, so a new call is a new trial by itself. At every
kill, and again at the end, an oracle that shares no code with the service looks where the complete copy is.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import traceback
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from activities.runtime import failpoints
from codehub_storage.contracts import OperationResult
from tests.harness.habitats import BACKEND
from tests.harness.oracle import NoCopy, Oracle, Store
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.stops import handle_of
from tests.harness.trials import Seat, Trial, trials_of
from worker.dev.temporal import TemporalServer

FULL = bool(os.environ.get("STORAGE_TESTS_N"))
"""The long form: every visit of every point, on both kinds of bucket."""
SEATS = {False: 6, True: 2} if BACKEND == "directory" else {False: 4}
"""Sites side by side, by whether their bucket is versioned."""
PREFIXES = {"directory": "directory.", "local-docker": "docker.", "k8s": "kubernetes."}
"""How each backend's own points begin."""
TIME_SCALE = 0.1
SEGMENT_BYTES = 64 << 10
"""Three data segments of the tree below: two parts of their own, and the last one shared with the tail."""
OPERATIONS = ("provision", "archive", "prove", "restore", "purge")
"""``prove``: archive, again, of a home that is COLD, in a bucket that was copied meanwhile."""

UNMET = {
    "control.backend.mark": "`init`'s, not an operation's",
    "directory.mark.prepared": "`init`'s; killed in local/test_directory_kills.py",
    "control.backend.remove_stopped_users": "nobody holds the volume",
    "control.backend.fingerprint": "only where an archived volume is still there; see contract/test_volume_backend.py",
    "directory.trash.back": "a deletion that was refused; killed in local/test_directory_kills.py",
    "directory.trash.restored": "a deletion that was refused; killed in local/test_directory_kills.py",
    "control.store.upload_part": "archives are written by movers",
    "control.store.list_parts": "parts are looked up by movers",
    "mover.store.list_parts": "only after a copy that was cut off; see fault/test_progress.py",
    "mover.store.create_upload": "begun by the control worker",
    "mover.store.complete_upload": "completed by the control worker",
    "mover.store.abort_upload": "aborted by the control worker",
    "mover.store.delete": "movers delete nothing",
    "mover.store.list_uploads": "movers list no uploads",
    "mover.store.list_keys": "movers list no keys",
    "mover.store.list_versions": "only past a copy that its digests refuse; killed in integration/test_mirrors.py",
    "mover.store.is_versioned": "asked by the control worker",
}
"""Points that no clean run of an operation comes to, and why; a call's two points by the call's name."""

pytestmark = [pytest.mark.tool("rsync"), pytest.mark.timeout(3 * 3600 if FULL else 1800)]


@dataclass
class Bench:
    """What all seats of one kind of bucket share: the trials that are still to do, and what went wrong."""

    versioned: bool
    todo: dict[str, list[Trial]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    done: int = 0

    def operations(self) -> tuple[str, ...]:
        """Those that the next workspace must go through to come to a trial; empty when there is none left."""
        last = max((at for at, operation in enumerate(OPERATIONS) if self.todo[operation]), default=-1)
        return OPERATIONS[: last + 1]


@dataclass(frozen=True)
class Workspace:
    """One workspace at a seat, and what must be true of it during and after each operation."""

    seat: Seat
    oracle: Oracle
    reference: Path
    id: str

    @property
    def volume_key(self) -> str:
        return self.seat.site.key(self.id)

    @property
    def archive_key(self) -> str:
        return f"{self.id}/home.tar.gz"

    async def prepare(self, operation: str) -> None:
        """What a clean run of the operation needs to come to its rare calls."""
        if operation == "archive":
            fill(self.reference, self.seat.site.volume(self.id))
        if operation == "prove":
            await asyncio.to_thread(self.oracle.copy, self.archive_key)
        if operation in ("archive", "purge"):
            await asyncio.to_thread(self.oracle.litter, self.archive_key)

    async def call(self, operation: str) -> OperationResult:
        storage = self.seat.site.storage
        if operation == "provision":
            handle = await storage.start_provision(self.id)
        elif operation in ("archive", "prove"):
            handle = await storage.start_archive(self.volume_key)
        elif operation == "restore":
            handle = await storage.start_restore(self.archive_key)
        else:
            handle = await storage.start_purge(self.volume_key, self.archive_key)
        result = await handle.result()
        assert not result.cleanup_required
        return result

    def check_at_kill(self, operation: str) -> None:
        """What holds at every instant of the operation."""
        state = self.oracle.state(self.id)
        if operation == "archive":
            self.oracle.check_copy(self.id)
        elif operation == "prove":
            self.oracle.check_archive(self.id, is_copied=True)
        elif operation == "restore":
            self.oracle.check_archive(self.id)
            if state == "ready":
                self.oracle.check_volume(self.id)
        elif operation == "provision":
            if state == "ready":
                self.oracle.check_empty(self.id)
        elif state == "ready":
            self.oracle.check_volume(self.id)

    def check_at_end(self, operation: str) -> None:
        """What the operation promised."""
        oracle = self.oracle
        assert oracle.is_signed_off(self.id)
        if operation == "provision":
            oracle.check_empty(self.id)
        elif operation in ("archive", "prove"):
            oracle.check_archive(self.id)
            objects = oracle.objects(self.id)
            # Where versions are kept, a manifest that is rewritten leaves the one before it; the next archive prunes.
            objects = sorted(set(objects)) if operation == "prove" else objects
            assert objects == [self.archive_key, f"{self.archive_key}.meta"]
            assert oracle.folders(self.id) == []
        elif operation == "restore":
            oracle.check_archive(self.id)
            assert oracle.check_volume(self.id) == "volume"
        else:
            assert oracle.objects(self.id) == []
            assert oracle.folders(self.id) == []
            assert oracle.state(self.id) is None


async def test_one_complete_copy(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """Every trial: whole at the kill, the operation ends after it, and every declared point was met or is excused."""
    reference = tmp_path / "reference"
    make_reference(reference)
    benches = {versioned: Bench(versioned) for versioned in SEATS}
    async with AsyncExitStack() as stack:
        seats: list[tuple[Bench, Seat, Oracle]] = []
        for versioned, count in SEATS.items():
            for number in range(count):
                folder = tmp_path / f"{'versioned' if versioned else 'plain'}-{number}"
                site = await stack.enter_async_context(
                    open_site(
                        folder / "site",
                        temporal_server,
                        seaweed,
                        versioned=versioned,
                        time_scale=TIME_SCALE,
                        CODEHUB_STORAGE_SEGMENT_BYTES=str(SEGMENT_BYTES),
                    )
                )
                store = Store(seaweed.endpoint_url, seaweed.admin.access_key, seaweed.admin.secret_key, site.bucket)
                seats.append((benches[versioned], Seat(site, folder), oracle_of(site, store, reference)))
        firsts = [next(each for each in seats if each[0] is bench) for bench in benches.values()]
        clean = await asyncio.gather(*(clean_run(seat, oracle, reference) for _, seat, oracle in firsts))
        for bench, traces in zip(benches.values(), clean, strict=True):
            known = {trial for other in benches.values() for listed in other.todo.values() for trial in listed}
            for operation, trace in traces.items():
                found = [trial for trial in trials_of(operation, trace, full=FULL) if concerns(trial.point)]
                bench.todo[operation] = [trial for trial in found if FULL or trial not in known]
        expected = sum(len(listed) for bench in benches.values() for listed in bench.todo.values())
        await asyncio.gather(*(work(bench, seat, oracle, reference) for bench, seat, oracle in seats))
        met = {point for _, seat, _ in seats for point in seat.all_traced()}
    failures = [failure for bench in benches.values() for failure in bench.failures]
    assert not failures, "\n\n".join(failures)
    assert sum(bench.done for bench in benches.values()) == expected
    assert unmet(met) == set()
    assert {name for name in UNMET if not is_unmet(name, clean)} == set(), "no longer to be excused"


@pytest.mark.skipif(BACKEND != "directory", reason="the oracle is the same for all")
async def test_the_oracle_sees_damage(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """What it must not take for a copy: a changed file, a sealed volume, another object of that size, no manifest."""
    reference = tmp_path / "reference"
    make_reference(reference)
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site:
        store = Store(seaweed.endpoint_url, seaweed.admin.access_key, seaweed.admin.secret_key, site.bucket)
        seat, oracle, client = Seat(site, tmp_path), oracle_of(site, store, reference), store.client()
        seat.ensure_worker()
        here = Workspace(seat, oracle, reference, site.workspace_id())
        await here.call("provision")
        fill(reference, volume := site.volume(here.id))
        assert oracle.check_copy(here.id) == "volume"
        volume.rename(trash := site.root / ".codehub/trash" / here.id)
        assert oracle.check_copy(here.id) == "trash"
        record = client.get_object(Bucket=site.bucket, Key=f"{here.id}/home.state")["Body"].read()
        sealed = record.replace(b'"ready"', b'"deleting"')
        client.put_object(Bucket=site.bucket, Key=f"{here.id}/home.state", Body=sealed)
        with pytest.raises(NoCopy, match="deleting"):
            oracle.check_copy(here.id)
        client.put_object(Bucket=site.bucket, Key=f"{here.id}/home.state", Body=record)
        trash.rename(volume)
        os.utime(volume / "folder 0/data", ns=(0, 1))
        with pytest.raises(NoCopy, match="folder 0/data"):
            oracle.check_copy(here.id)
        fill(reference, volume)
        await here.call("archive")
        assert oracle.check_copy(here.id) == "archive"
        size = client.head_object(Bucket=site.bucket, Key=here.archive_key)["ContentLength"]
        client.put_object(Bucket=site.bucket, Key=here.archive_key, Body=bytes(size))
        with pytest.raises(NoCopy, match="but stored is"):
            oracle.check_copy(here.id)
        client.delete_object(Bucket=site.bucket, Key=f"{here.archive_key}.meta")
        with pytest.raises(NoCopy, match="no manifest"):
            oracle.check_copy(here.id)


async def clean_run(seat: Seat, oracle: Oracle, reference: Path) -> dict[str, list[str]]:
    """The points that each operation comes to, in order, nobody being killed and nothing tried again."""
    seat.ensure_worker()
    # What a worker does at its start belongs to no operation, and is over when it has done a first one.
    await Workspace(seat, oracle, reference, seat.site.workspace_id()).call("provision")
    for _ in range(3):  # a busy machine may be late with something, as a node with a mount
        workspace = Workspace(seat, oracle, reference, seat.site.workspace_id())
        traces, attempts = {}, 1
        for operation in OPERATIONS:
            await workspace.prepare(operation)
            seat.traced()
            await workspace.call(operation)
            traces[operation] = seat.traced()
            attempts = max(attempts, await most_attempts(seat.site, workspace.id))
            await asyncio.to_thread(workspace.check_at_end, operation)
        if attempts == 1:
            return traces
    raise AssertionError("in three runs something had to be tried again each time, so none tells where a run comes")


async def most_attempts(site: Site, workspace: str) -> int:
    """Of a step of the workspace's latest run."""
    history = [event async for event in handle_of(site, workspace).fetch_history_events()]
    return max(event.activity_task_started_event_attributes.attempt for event in history)


async def work(bench: Bench, seat: Seat, oracle: Oracle, reference: Path) -> None:
    """Take workspaces through the operations, a trial at each, until none is left."""
    while operations := bench.operations():
        workspace = Workspace(seat, oracle, reference, seat.site.workspace_id())
        for operation in operations:
            trial = bench.todo[operation].pop() if bench.todo[operation] else None
            if operation == "prove" and trial is None and not bench.versioned:
                continue  # it leaves all as it was; with versions it leaves one more, which purge then deletes
            try:
                await one(workspace, operation, trial)
                bench.done += trial is not None
            except Exception:
                bench.failures.append(f"{trial or operation} at {workspace.id}:\n{traceback.format_exc()}")
                break


async def one(workspace: Workspace, operation: str, trial: Trial | None) -> None:
    """One operation, with or without a kill, looked at in any case."""

    def look(check: Callable[[str], None]) -> Awaitable[None]:
        return asyncio.to_thread(check, operation)

    workspace.seat.ensure_worker()
    await workspace.prepare(operation)
    if trial is None:
        await workspace.call(operation)
    else:
        await workspace.seat.kill(trial, lambda: workspace.call(operation), lambda: look(workspace.check_at_kill))
    await look(workspace.check_at_end)


def unmet(met: set[str]) -> set[str]:
    """Declared points that nothing came to and nothing excuses."""
    names = {name for name in failpoints.names() if concerns(name)}
    return {name for name in names if name not in met and name not in UNMET and call_of(name) not in UNMET}


def concerns(point: str) -> bool:
    """False for other backends' points. Containers are not armed, and calls to the store are the directory's trials."""
    own = PREFIXES[BACKEND]
    if BACKEND != "directory":
        return point.startswith(("control.backend.", own))
    return not point.startswith(tuple(prefix for prefix in PREFIXES.values() if prefix != own))


def oracle_of(site: Site, store: Store, reference: Path) -> Oracle:
    """A stranger's view of the site."""
    return Oracle(store, site.root, reference, site.habitat.folder)


def is_unmet(name: str, traces: Iterable[dict[str, list[str]]]) -> bool:
    """True if the excuse still holds: the clean runs do not come there."""
    met = {point for trace in traces for points in trace.values() for point in points}
    return not {name, f"{name}.before", f"{name}.after"} & met


def call_of(name: str) -> str:
    return name.rpartition(".")[0]


def make_reference(root: Path) -> None:
    """Six files of 30 kB in folders, so that they make three segments, with what archives most often get wrong."""
    source = random.Random(7)
    for number in range(6):
        folder = root / f"folder {number}"
        folder.mkdir(parents=True)
        (folder / "data").write_bytes(source.randbytes(30_000))
    (root / "folder 0/twin").hardlink_to(root / "folder 1/data")
    (root / "folder 1/link").symlink_to("../folder 2/data")
    (root / "odd\nname").write_bytes(b"")
    os.setxattr(root / "folder 2/data", "user.note", b"kept")
    (root / "folder 3/data").chmod(0o4711)
    (root / "closed").mkdir(mode=0o500)
    os.utime(root / "folder 4/data", ns=(0, 1_234_567_890_123_456_789))
    root.chmod(0o750)


def fill(reference: Path, volume: Path) -> None:
    subprocess.run(["rsync", "-aHAX", f"{reference}/", f"{volume}/"], check=True)
