"""The traces that the rules [H1] to [H9] close, on real parts: an effect is held back and let go after the next step.

Each of these once lost data or locked a workspace out, in the model or on paper. `model/` searches them all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.api.enums.v1 import EventType

from activities.objectstore.identity import IDENTITY_KEY
from codehub_storage import ErrorCode, StorageError, keys
from codehub_storage.contracts import CancelOutcome, Phase
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.stops import (
    PATIENCE_SECONDS,
    Stop,
    Tree,
    fill,
    handle_of,
    history_of,
    how_it_ends,
    of,
    paused_at,
    phase_of,
    proven_tree,
    record_of,
    reset,
    until,
    until_no_mover,
    world_of,
)
from worker.dev.process import Child
from worker.dev.temporal import TemporalServer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Stand:
    """A site behind a proxy."""

    site: Site
    proxy: S3Proxy

    async def cold(self, text: str = "first") -> tuple[str, Tree]:
        """A workspace that was filled and archived; its id and what it holds."""
        workspace = self.site.workspace_id()
        volume_key = await self.site.storage.provision(workspace)
        tree = fill(self.site.volume(workspace), text)
        await self.site.storage.archive(volume_key)
        return workspace, tree

    def in_phase(self, workspace: str, phase: Phase) -> Stop:
        """Stop before the first request of a phase."""

        async def is_here() -> bool:
            return await phase_of(self.site, workspace) is phase

        return self.proxy.add(Stop(is_here=is_here), of(workspace))

    async def terminate(self, workspace: str) -> None:
        """End the open run without a word to it, and see its mover gone."""
        await handle_of(self.site, workspace).terminate("a test")
        await until_no_mover(self.site, workspace)


@asynccontextmanager
async def standing(folder: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> AsyncIterator[Stand]:
    """See ``Stand``."""
    async with (
        S3Proxy(seaweed.ports[0]) as proxy,
        open_site(folder, temporal_server, seaweed, endpoint_url=proxy.endpoint_url) as site,
    ):
        yield Stand(site, proxy)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand(
    tmp_path_factory: pytest.TempPathFactory, temporal_server: TemporalServer, seaweed: Seaweed
) -> AsyncIterator[Stand]:
    """With one worker, for all tests that do nothing to it."""
    async with standing(tmp_path_factory.mktemp("shared") / "site", temporal_server, seaweed) as at:
        at.site.start_worker()
        yield at


@pytest_asyncio.fixture(loop_scope="module")
async def bare(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> AsyncIterator[Stand]:
    """Without a worker."""
    async with standing(tmp_path / "site", temporal_server, seaweed) as at:
        yield at


async def reached(stop: Stop) -> None:
    """Return when the run stands there."""
    await asyncio.wait_for(stop.reached.wait(), PATIENCE_SECONDS)


async def until_dead(worker: Child) -> None:
    """Return when the worker has met its failpoint."""

    async def is_dead() -> bool:
        return worker.pid is None

    await until(is_dead, "the worker lives")


async def test_h1_an_old_run_that_is_reset_changes_nothing(stand: Stand) -> None:
    """[H1] A restore has ended and its user has written; reset to any task behind its claim, it touches nothing."""
    site = stand.site
    workspace, _ = await stand.cold()
    restore = await site.storage.start_restore(keys.archive_key(workspace))
    await restore.result()
    fill(site.volume(workspace), "written since")
    await site.storage.restore(keys.archive_key(workspace))  # a newer run, which finds nothing to do
    before = await world_of(site, workspace)
    events = await history_of(site, workspace, restore.run_id)
    tasks = sum(event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED for event in events)
    for task in range(1, tasks):
        await reset(site, workspace, restore.run_id, task)
        assert await how_it_ends(site, workspace) in (ErrorCode.NOT_YOURS, None)
        await until_no_mover(site, workspace)
        assert await world_of(site, workspace) == before, f"reset to task {task} of {tasks}"


async def test_h2_a_half_deleted_volume_is_only_ever_finished(bare: Stand, tmp_path: Path) -> None:
    """[H2] Killed in the middle of the removal, its run terminated: archive, cancel and restore finish the deletion."""
    site = bare.site
    outcomes = {}
    for step in ("archive", "cancel", "restore"):
        worker = site.start_worker(
            CODEHUB_STORAGE_FAILPOINT=f"directory.remove.half:once={tmp_path / step}",
        )
        workspace = site.workspace_id()
        volume_key = await site.storage.provision(workspace)
        tree = fill(site.volume(workspace))
        archive = await site.storage.start_archive(volume_key)
        await until_dead(worker)
        await handle_of(site, workspace).terminate("a test")
        outcomes[step] = (workspace, volume_key, tree, archive)
    site.start_worker()

    workspace, volume_key, tree, _ = outcomes["archive"]
    again = await (await site.storage.start_archive(volume_key)).result()
    assert again.moved is False
    assert (await proven_tree(site, workspace), site.volume(workspace).exists()) == (tree, False)

    workspace, _, tree, _ = outcomes["cancel"]
    assert await site.storage.cancel(workspace) is CancelOutcome.TOO_LATE
    assert (await proven_tree(site, workspace), site.volume(workspace).exists()) == (tree, False)

    workspace, _, tree, _ = outcomes["restore"]
    await site.storage.restore(keys.archive_key(workspace))
    world = await world_of(site, workspace)
    assert (world.volume, world.state, world.trash) == (tree, "ready", False)


async def test_h3_a_volume_that_was_given_up_is_never_handed_out(stand: Stand) -> None:
    """[H3] A restore is undone up to its record and terminated; its half volume stands, and no operation takes it."""
    site = stand.site
    workspace, tree = await stand.cold()
    copying = stand.in_phase(workspace, Phase.COPYING)
    restore = await site.storage.start_restore(keys.archive_key(workspace))
    await reached(copying)
    half = (await world_of(site, workspace)).inode

    async def is_given_up() -> bool:
        record = await record_of(site, workspace)
        undoing = await phase_of(site, workspace) is Phase.UNDOING
        return undoing and record is not None and record.get("volume") is None

    undoing = stand.proxy.add(Stop(is_here=is_given_up), of(workspace))
    await handle_of(site, workspace, restore.run_id).cancel()
    copying.release.set()
    copying.resume.set()
    await reached(undoing)
    assert (await world_of(site, workspace)).inode == half is not None
    await stand.terminate(workspace)
    undoing.resume.set()
    await site.storage.restore(keys.archive_key(workspace))
    world = await world_of(site, workspace)
    assert (world.volume, world.state) == (tree, "ready")
    await undoing.let_it_land()
    assert await world_of(site, workspace) == world


async def test_h4_a_tombstone_tells_whose_a_late_volume_is(stand: Stand) -> None:
    """[H4] After purge a volume appears that bears a uid of before: provision clears it, and is not refused."""
    site = stand.site
    workspace = site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    note = site.root / ".codehub/volumes" / f"{workspace}.json"
    text = json.loads(note.read_text())
    await site.storage.purge(volume_key, keys.archive_key(workspace))
    record = await record_of(site, workspace)
    assert record is not None
    assert text["uid"] in record["given_up"]
    late = site.volume(workspace)
    late.mkdir(mode=0o700)
    note.write_text(json.dumps({**text, "inode": late.stat().st_ino, "born_ns": None}))
    await site.storage.provision(workspace)
    world = await world_of(site, workspace)
    assert (world.volume, world.state) == ({}, "ready")
    assert world.record is not None
    assert world.record["volume"]["uid"] != text["uid"]


async def test_h4_an_unanswered_delete_is_waited_out(bare: Stand) -> None:
    """[H4] Where DELETE has no condition: the next run claims, and does nothing more before a late one has landed."""
    site = bare.site
    found = await site.truth.get(IDENTITY_KEY)
    assert found is not None
    identity = json.loads(found[0])
    identity["capabilities"]["conditional_delete"] = False
    identity["delete_wait_seconds"] = 40.0  # scaled down like every time-out
    await site.truth.put_if(IDENTITY_KEY, json.dumps(identity).encode(), etag=found[1].etag)
    site.start_worker()
    workspace, _ = await bare.cold()
    stop = bare.proxy.add(Stop(), of(workspace, method="DELETE", name="home.tar.gz.meta"))
    purge = await site.storage.start_purge(f"ws_{workspace}_home", keys.archive_key(workspace))
    await reached(stop)
    await bare.terminate(workspace)
    stop.resume.set()
    before = len(bare.proxy.log)
    again = await site.storage.start_purge(f"ws_{workspace}_home", keys.archive_key(workspace))

    async def is_claimed() -> bool:
        record = await record_of(site, workspace)
        return record is not None and record["owner"]["run_id"] == again.run_id != purge.run_id

    await until(is_claimed, "the next run does not claim")
    await site.truth.delete(keys.manifest_key(keys.archive_key(workspace)))  # it lands, by no condition
    claiming = [each for each in bare.proxy.log[before:] if of(workspace)(each)]
    assert {(each.method, each.key) for each in claiming} <= {
        (method, keys.record_key(workspace)) for method in ("GET", "PUT")
    }, "it went on while the DELETE was under way"
    await again.result()
    await site.storage.provision(workspace)
    tree = fill(site.volume(workspace), "new")
    await site.storage.archive(f"ws_{workspace}_home")
    assert await proven_tree(site, workspace) == tree


async def test_h5_the_first_proof_comes_after_purge(stand: Stand) -> None:
    """[H5] The manifest of a first archive lands after its workspace was purged: it finds nothing to replace."""
    site = stand.site
    workspace = site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    fill(site.volume(workspace))

    async def is_verifying() -> bool:
        return await phase_of(site, workspace) is Phase.VERIFYING

    proof = stand.proxy.add(Stop(is_here=is_verifying), of(workspace, method="PUT", name="home.tar.gz.meta"))
    await site.storage.start_archive(volume_key)
    await reached(proof)
    await stand.terminate(workspace)
    proof.resume.set()
    await site.storage.purge(volume_key, keys.archive_key(workspace))
    world = await world_of(site, workspace)
    await proof.let_it_land()
    assert await world_of(site, workspace) == world
    assert await site.storage.provision(workspace) == volume_key


async def test_h6_a_hung_attempt_is_ended_before_the_next_begins(bare: Stand) -> None:
    """[H6] A restore's read stands still; the attempt after it ends it first, so it never writes beside it."""
    site = bare.site
    site.start_worker(CODEHUB_STORAGE_TIME_SCALE="0.08")
    workspace, tree = await bare.cold()
    of_archive = of(workspace, method="GET", name="home.tar.gz")
    stop = bare.proxy.add(Stop(), of_archive)
    restore = await site.storage.start_restore(keys.archive_key(workspace))
    await reached(stop)

    async def only_the_next_one_reads() -> bool:
        reads = bare.proxy.seen(of_archive)
        still_open = [read for read in reads if not read.abandoned()]
        pending = (await handle_of(site, workspace).describe()).raw_description.pending_activities
        is_second = any(each.attempt > 1 and each.activity_type.name == "prepare_restore" for each in pending)
        return is_second and still_open == reads[-1:]

    await until(only_the_next_one_reads, "the step was not tried again, or its first attempt still waits to read")
    assert stop.exchange is not None
    assert stop.exchange.abandoned()
    stop.release.set()
    stop.resume.set()
    await restore.result()
    assert (await world_of(site, workspace)).volume == tree


async def test_h7_a_late_rename_finds_the_lock_its_own(bare: Stand, tmp_path: Path) -> None:
    """[H7] A deletion stands before its rename while its run is terminated: the next operation waits for its end."""
    site, gate = bare.site, tmp_path / "gate"
    site.start_worker(CODEHUB_STORAGE_FAILPOINT=f"directory.delete.rename:pause={gate}")
    workspace = site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    tree = fill(site.volume(workspace))
    inode = site.volume(workspace).stat().st_ino
    await site.storage.start_archive(volume_key)
    await paused_at(gate)
    await bare.terminate(workspace)
    site.start_worker()
    restore = await site.storage.start_restore(keys.archive_key(workspace))

    async def looks() -> bool:
        pending = (await handle_of(site, workspace).describe()).raw_description.pending_activities
        return any(each.activity_type.name == "inspect_for_restore" for each in pending)

    await until(looks, "the restore does not look")
    gate.touch()
    await restore.result()
    world = await world_of(site, workspace)
    assert (world.volume, world.inode, world.state, world.trash) == (tree, inode, "ready", False)


async def test_h7_what_is_in_the_trash_is_settled_first(bare: Stand, tmp_path: Path) -> None:
    """[H7] Killed behind the rename, before the seal: the next operation finds the volume under its name, whole."""
    site = bare.site
    worker = site.start_worker(CODEHUB_STORAGE_FAILPOINT="directory.delete.checked")
    workspace = site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    tree = fill(site.volume(workspace))
    inode = site.volume(workspace).stat().st_ino
    await site.storage.start_archive(volume_key)
    await until_dead(worker)
    assert (await world_of(site, workspace)).trash
    await handle_of(site, workspace).terminate("a test")
    site.start_worker()
    assert await site.storage.cancel(workspace) is CancelOutcome.CANCELLED
    world = await world_of(site, workspace)
    assert (world.volume, world.inode, world.state, world.trash) == (tree, inode, "ready", False)


async def test_h8_a_cancelled_archive_looks_before_it_answers(stand: Stand) -> None:
    """[H8] An archive ended between `archived` and the deletion; one that is cancelled at once makes `ready` true."""
    site = stand.site
    workspace = site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    tree = fill(site.volume(workspace))
    deleting = stand.in_phase(workspace, Phase.DELETING)
    await site.storage.start_archive(volume_key)
    await reached(deleting)
    await stand.terminate(workspace)
    deleting.resume.set()
    assert (await world_of(site, workspace)).state == "archived"
    claiming = stand.in_phase(workspace, Phase.CLAIMING)
    again = await site.storage.start_archive(volume_key)
    await reached(claiming)
    await handle_of(site, workspace, again.run_id).cancel()
    claiming.release.set()
    claiming.resume.set()
    with pytest.raises(StorageError) as ended:
        await again.result()
    assert ended.value.code == ErrorCode.CANCELLED
    world = await world_of(site, workspace)
    assert (world.volume, world.state) == (tree, "ready")
    await deleting.let_it_land()
    assert await world_of(site, workspace) == world


async def test_h8_cancel_where_nothing_runs(stand: Stand) -> None:
    """[H8] ready: cancelled. gone: too late. Never there: no volume. All of it without an archive being made."""
    site = stand.site
    workspace, tree = await stand.cold()
    assert await site.storage.cancel(workspace) is CancelOutcome.TOO_LATE
    assert await proven_tree(site, workspace) == tree
    await site.storage.restore(keys.archive_key(workspace))
    before = await world_of(site, workspace)
    assert await site.storage.cancel(workspace) is CancelOutcome.CANCELLED
    after = await world_of(site, workspace)
    assert (after.volume, after.inode, after.state) == (tree, before.inode, "ready")
    with pytest.raises(StorageError) as nothing:
        await site.storage.cancel(site.workspace_id())
    assert nothing.value.code == ErrorCode.VOLUME_NOT_FOUND


async def test_h9_a_shortcut_is_found_again(stand: Stand) -> None:
    """[H9] restore makes an `archived` volume ready and is terminated; the next one answers that volume."""
    site = stand.site
    workspace = site.workspace_id()
    volume_key, archive_key = await site.storage.provision(workspace), keys.archive_key(workspace)
    tree = fill(site.volume(workspace))
    inode = site.volume(workspace).stat().st_ino
    deleting = stand.in_phase(workspace, Phase.DELETING)
    await site.storage.start_archive(volume_key)
    await reached(deleting)
    await stand.terminate(workspace)
    deleting.resume.set()

    async def is_ready() -> bool:
        record = await record_of(site, workspace)
        return record is not None and record["owner"]["operation"] == "restore" and record["volume"]["state"] == "ready"

    shortcut = stand.proxy.add(Stop(is_here=is_ready), of(workspace))
    await site.storage.start_restore(archive_key)
    await reached(shortcut)
    await stand.terminate(workspace)
    shortcut.resume.set()
    again = await (await site.storage.start_restore(archive_key)).result()
    assert again.moved is False
    world = await world_of(site, workspace)
    assert (world.volume, world.inode, world.state) == (tree, inode, "ready")
    await deleting.let_it_land()
    await shortcut.let_it_land()
    assert await world_of(site, workspace) == world
