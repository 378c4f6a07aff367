"""What is recorded: each scenario brings a new workspace to an end of its own on real servers.

The history taken is that of the workspace's latest run. A scenario's name starts with the workflow's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType

from activities.runtime import failpoints
from activities.state.record import Owner, Record, VolumeRecord, VolumeState
from codehub_storage import CancelOutcome, ErrorCode, StorageError
from codehub_storage.keys import archive_key, record_key
from tests.fakes.s3_faults import Answer, Exchange, Fault, FlipStored, on
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.oracle import Store
from tests.harness.servers import believing_nothing
from tests.harness.site import Site
from tests.harness.stops import handle_of, paused_at, until

FILES = 3
FILE_BYTES = 12_000
SEGMENT_BYTES = "16KiB"
"""So each file is a segment, and a batch of data segments is part of every history."""

MORE_THAN_A_PART = 6 << 20
"""Less is sent with the tail, behind the second walk, as one part."""

FIRST_PART = "mover.store.upload_part.before"
ATTACH = "control.backend.attach.before"
DELETION = "control.backend.delete.before"


@dataclass
class _Notice(Fault):
    """Does nothing but tell of a request that it has come."""

    replaced: asyncio.Event = field(default_factory=asyncio.Event)

    async def before(self, exchange: Exchange) -> Answer | None:
        """It has."""
        self.replaced.set()
        return None


@dataclass(frozen=True)
class Stage:
    """A site behind a proxy, with a worker that is armed by a file."""

    site: Site
    proxy: S3Proxy
    armed: Path

    async def warm(self, bulk_bytes: int = 0) -> str:
        """A new workspace with files, one of so many bytes that cannot be compressed; its id."""
        workspace = self.site.workspace_id()
        await self.site.storage.provision(workspace)
        for number in range(FILES):
            (self.site.volume(workspace) / f"file-{number}").write_bytes(bytes(range(256)) * (FILE_BYTES // 256))
        (self.site.volume(workspace) / "bulk").write_bytes(os.urandom(bulk_bytes))
        (self.site.volume(workspace) / "link").symlink_to("file-0")
        return workspace

    async def cold(self) -> str:
        """A new workspace whose home is archived; its id."""
        workspace = await self.warm()
        await self.archive(workspace)
        return workspace

    async def archive(self, workspace: str) -> str:
        """Archive it."""
        return await self.site.storage.archive(self.key(workspace))

    async def restore(self, workspace: str) -> str:
        """Restore it."""
        return await self.site.storage.restore(archive_key(workspace))

    async def purge(self, workspace: str) -> None:
        """Purge volume and archive."""
        await self.site.storage.purge(self.key(workspace), archive_key(workspace))

    def key(self, workspace: str) -> str:
        """The name of its volume."""
        return self.site.volume(workspace).name

    def change(self, workspace: str) -> None:
        """Somebody writes to the home."""
        (self.site.volume(workspace) / "file-0").write_text("changed")

    @contextmanager
    def killing(self, point: str) -> Iterator[None]:
        """The first process that comes to ``point`` is killed there."""
        marker = self.armed.with_name(f"killed-{point}")
        marker.unlink(missing_ok=True)
        self.armed.write_text(f"{point}:once={marker}")
        yield
        self.armed.unlink()
        assert marker.exists(), f"nobody came to {point}"

    @asynccontextmanager
    async def holding(self, point: str, work: Awaitable[object]) -> AsyncIterator[asyncio.Future[object]]:
        """``work`` runs and stands at ``point`` within the block; afterwards it goes on."""
        gate = self.armed.with_name(f"gate-{self.site.workspace_id()}")
        self.armed.write_text(f"{point}:pause={gate}")
        running = asyncio.ensure_future(work)
        await paused_at(gate)
        self.armed.unlink()
        yield running
        gate.touch()

    async def hand_over(self) -> None:
        """The worker ends in order, while another is there. It is armed as the first was."""
        former = self.site.workers[-1]
        self.site.start_worker(**{failpoints.VARIABLE: f"@{self.armed}"})
        await asyncio.to_thread(former.stop)

    @contextmanager
    def rotten(self, workspace: str) -> Iterator[None]:
        """A byte of its stored archive is another one."""
        self.proxy.add(FlipStored(at=100), on(method="GET", key=archive_key(workspace)))
        yield
        self.proxy.clear()

    @contextmanager
    def rotten_once(self, workspace: str) -> Iterator[None]:
        """The same, of the object that is there now; one that replaces it is whole."""
        replaced = asyncio.Event()

        def fits(exchange: Exchange) -> bool:
            return exchange.method == "GET" and exchange.key.endswith(archive_key(workspace)) and not replaced.is_set()

        self.proxy.add(FlipStored(at=100), fits)
        self.proxy.add(_Notice(replaced=replaced), on(method="POST", key=archive_key(workspace), query="uploadId"))
        yield
        self.proxy.clear()

    async def copied(self, workspace: str) -> None:
        """Its stored archive is another object of the same bytes, as in a bucket that was mirrored."""
        key = archive_key(workspace)
        found = await self.site.truth.get(key)
        assert found is not None
        body, before = found
        to = self.site.store
        assert to.endpoint_url is not None
        assert to.access_key is not None
        assert to.secret_key is not None
        store = Store(to.endpoint_url, to.access_key, to.secret_key, to.bucket)
        with contextlib.closing(store.client()) as client:
            await asyncio.to_thread(
                client.put_object, Bucket=store.bucket, Key=key, Body=body, Metadata=dict(before.metadata)
            )
        info = await self.site.truth.head(key)
        assert info is not None
        assert info.etag != before.etag

    @contextmanager
    def stuck(self, workspace: str) -> Iterator[None]:
        """A file of its home cannot be removed, even by root. Needs a file system and a user that can do so."""
        (self.site.volume(workspace) / "stuck").touch()
        subprocess.run(["chattr", "+i", self.site.volume(workspace) / "stuck"], check=True)
        try:
            yield
        finally:
            for path in self.site.root.rglob("stuck"):
                subprocess.run(["chattr", "-i", path], check=True)

    async def until_cancel_arrived(self, workspace: str) -> None:
        """Return when the server knows that the workspace's run is to be cancelled."""

        async def has_arrived() -> bool:
            events = (await handle_of(self.site, workspace).fetch_history()).events
            return any(e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED for e in events)

        await until(has_arrived, f"no cancel came to {workspace}")


Scenario = Callable[[Stage], Awaitable[str]]
"""Answers the workspace whose latest run is the recorded one."""

SCENARIOS: dict[str, Scenario] = {}


def scenario(act: Scenario) -> Scenario:
    """One more history, of the function's name."""
    SCENARIOS[act.__name__] = act
    return act


async def fails(call: Awaitable[object], code: ErrorCode) -> None:
    """The call fails with ``code``."""
    with pytest.raises(StorageError) as failed:
        await call
    assert failed.value.code == code, failed.value


async def leave_record(stage: Stage, workspace: str, *, place: str, volume: VolumeRecord | None = None) -> None:
    """The record that a run left which never signed off."""
    owner = Owner(run_id="an-earlier-run", operation="purge")
    record = Record(workspace_id=workspace, place=place, owner=owner, volume=volume)
    data = record.model_dump_json(exclude_none=True).encode()
    await stage.site.truth.put_if(record_key(workspace), data, etag=None)


# ------------------------------------------------------------ provision


@scenario
async def provision_happy(stage: Stage) -> str:
    """A new volume."""
    return await stage.warm()


@scenario
async def provision_again(stage: Stage) -> str:
    """The volume is there."""
    workspace = await stage.warm()
    await stage.site.storage.provision(workspace)
    return workspace


@scenario
async def provision_refused(stage: Stage) -> str:
    """An archive is there."""
    workspace = await stage.cold()
    await fails(stage.site.storage.provision(workspace), ErrorCode.LINEAGE_CONFLICT)
    return workspace


@scenario
async def provision_cancelled(stage: Stage) -> str:
    """The user goes while the volume is made: it is given up."""
    workspace = stage.site.workspace_id()
    create = stage.site.storage.provision(workspace)
    async with stage.holding("control.backend.create.before", create) as running:
        cancel = asyncio.ensure_future(stage.site.storage.cancel(workspace))
        await stage.until_cancel_arrived(workspace)
    assert await cancel == CancelOutcome.CANCELLED
    await fails(running, ErrorCode.CANCELLED)
    return workspace


@scenario
async def provision_claim_refused(stage: Stage) -> str:
    """The record says that the workspace lives elsewhere: the sign-off finds that it was never ours."""
    workspace = stage.site.workspace_id()
    home = VolumeRecord(uid=f"{workspace}-0123456789abcdef", state=VolumeState.READY, place="elsewhere")
    await leave_record(stage, workspace, place="elsewhere", volume=home)
    await fails(stage.site.storage.provision(workspace), ErrorCode.WRONG_STORE)
    return workspace


@scenario
async def provision_after_an_earlier_owner(stage: Stage) -> str:
    """One that never signed off, in a store without conditional DELETE: its last write is waited out."""
    workspace = stage.site.workspace_id()
    await leave_record(stage, workspace, place=stage.site.place)
    async with believing_nothing(stage.site.truth, 10.0):  # scaled down like every time-out
        await stage.site.storage.provision(workspace)
    return workspace


# ------------------------------------------------------------ archive


@scenario
async def archive_happy(stage: Stage) -> str:
    """Copied, settled, verified, proven, deleted."""
    return await stage.cold()


@scenario
async def archive_again(stage: Stage) -> str:
    """It is archived."""
    workspace = await stage.cold()
    await stage.archive(workspace)
    return workspace


@scenario
async def archive_cancelled_in_upload(stage: Stage) -> str:
    """The user comes back in mid-upload: cancelled."""
    workspace = await stage.warm(MORE_THAN_A_PART)
    async with stage.holding(FIRST_PART, stage.archive(workspace)) as running:
        assert await stage.site.storage.cancel(workspace) == CancelOutcome.CANCELLED
    await fails(running, ErrorCode.CANCELLED)
    return workspace


@scenario
async def archive_cancelled_too_late(stage: Stage) -> str:
    """The user comes back behind the gate: it ends."""
    workspace = await stage.warm()
    async with stage.holding(DELETION, stage.archive(workspace)):
        cancel = asyncio.ensure_future(stage.site.storage.cancel(workspace))
        await stage.until_cancel_arrived(workspace)
    assert await cancel == CancelOutcome.TOO_LATE
    return workspace


@scenario
async def archive_asked_to_cancel_when_warm(stage: Stage) -> str:
    """No run is open; the look says cancelled."""
    workspace = await stage.warm()
    assert await stage.site.storage.cancel(workspace) == CancelOutcome.CANCELLED
    return workspace


@scenario
async def archive_asked_to_cancel_when_cold(stage: Stage) -> str:
    """No run is open; the look says too late."""
    workspace = await stage.cold()
    assert await stage.site.storage.cancel(workspace) == CancelOutcome.TOO_LATE
    return workspace


@scenario
async def archive_asked_to_cancel_nothing(stage: Stage) -> str:
    """No run is open, no volume and no archive is there: refused, and signed off."""
    workspace = stage.site.workspace_id()
    await fails(stage.site.storage.cancel(workspace), ErrorCode.VOLUME_NOT_FOUND)
    return workspace


@scenario
async def archive_mover_lost(stage: Stage) -> str:
    """The mover dies in mid-upload; the next one goes on."""
    workspace = await stage.warm(MORE_THAN_A_PART)
    with stage.killing(FIRST_PART):
        await stage.archive(workspace)
    return workspace


@scenario
async def archive_handed_over(stage: Stage) -> str:
    """The worker is replaced while it starts the mover: the lease is tried again, and the workflow hears nothing."""
    workspace = await stage.warm()
    async with stage.holding(ATTACH, stage.archive(workspace)) as running:
        await stage.hand_over()
    await running
    return workspace


@scenario
async def archive_cancelled_in_handover(stage: Stage) -> str:
    """The user comes back while the next worker is about to have the mover."""
    workspace = await stage.warm()
    async with stage.holding(ATTACH, stage.archive(workspace)) as running:
        async with stage.holding(ATTACH, stage.hand_over()) as handing_over:
            assert await stage.site.storage.cancel(workspace) == CancelOutcome.CANCELLED
        await handing_over
    await fails(running, ErrorCode.CANCELLED)
    return workspace


@scenario
async def archive_verify_failed(stage: Stage) -> str:
    """The store did not keep what was written."""
    workspace = await stage.warm()
    with stage.rotten(workspace):
        await fails(stage.archive(workspace), ErrorCode.ARCHIVE_CORRUPT)
    return workspace


@scenario
async def archive_changed_while_read(stage: Stage) -> str:
    """The volume changes under the copy: a second round."""
    workspace = await stage.warm(MORE_THAN_A_PART)
    async with stage.holding(FIRST_PART, stage.archive(workspace)) as running:
        stage.change(workspace)
    await running
    return workspace


@scenario
async def archive_volume_changed(stage: Stage) -> str:
    """The volume changes behind the gate: it is kept."""
    workspace = await stage.warm()
    async with stage.holding(DELETION, stage.archive(workspace)) as running:
        stage.change(workspace)
    await fails(running, ErrorCode.VOLUME_CHANGED)
    return workspace


@scenario
async def archive_after_change(stage: Stage) -> str:
    """Called again after that: a new archive."""
    workspace = await archive_volume_changed(stage)
    await stage.archive(workspace)
    return workspace


@scenario
async def archive_upload_lost(stage: Stage) -> str:
    """The store forgets the upload: a new one."""
    workspace = await stage.warm(MORE_THAN_A_PART)
    async with stage.holding(FIRST_PART, stage.archive(workspace)) as running:
        for upload_id in await stage.site.truth.list_uploads(archive_key(workspace)):
            await stage.site.truth.abort_upload(archive_key(workspace), upload_id)
    await running
    return workspace


@scenario
async def archive_cleanup_required(stage: Stage) -> str:
    """Proven, but the volume cannot be deleted."""
    workspace = await stage.warm()
    with stage.stuck(workspace):
        assert (await (await stage.site.storage.start_archive(stage.key(workspace))).result()).cleanup_required
    return workspace


@scenario
async def archive_finished_later(stage: Stage) -> str:
    """Called again after that: the deletion is finished."""
    workspace = await archive_cleanup_required(stage)
    await stage.archive(workspace)
    return workspace


@scenario
async def archive_proven_again(stage: Stage) -> str:
    """It is archived, in a bucket that was copied since: read back, proven again."""
    workspace = await stage.cold()
    await stage.copied(workspace)
    await stage.archive(workspace)
    return workspace


@scenario
async def archive_of_a_rotten_copy(stage: Stage) -> str:
    """The same, and a volume that was kept, but the copy is rotten: made anew."""
    workspace = await archive_volume_changed(stage)
    await stage.copied(workspace)
    with stage.rotten_once(workspace):
        await stage.archive(workspace)
    return workspace


# ------------------------------------------------------------ restore


@scenario
async def restore_proven_again(stage: Stage) -> str:
    """A deletion that was sealed is finished only when the copied archive was read back."""
    workspace = await archive_cleanup_required(stage)
    await stage.copied(workspace)
    await stage.restore(workspace)
    return workspace


@scenario
async def restore_happy(stage: Stage) -> str:
    """A new volume, filled, compared, handed out."""
    workspace = await stage.cold()
    await stage.restore(workspace)
    return workspace


@scenario
async def restore_again(stage: Stage) -> str:
    """The volume is there."""
    workspace = await restore_happy(stage)
    await stage.restore(workspace)
    return workspace


@scenario
async def restore_rolled_back(stage: Stage) -> str:
    """The archive is rotten: the half-made volume goes."""
    workspace = await stage.cold()
    with stage.rotten(workspace):
        await fails(stage.restore(workspace), ErrorCode.ARCHIVE_CORRUPT)
    return workspace


@scenario
async def restore_cancelled(stage: Stage) -> str:
    """The user goes in mid-restore: the half-made volume goes."""
    workspace = await stage.cold()
    async with stage.holding("mover.store.read.before", stage.restore(workspace)) as running:
        assert await stage.site.storage.cancel(workspace) == CancelOutcome.CANCELLED
    await fails(running, ErrorCode.CANCELLED)
    return workspace


@scenario
async def restore_mover_lost(stage: Stage) -> str:
    """The mover dies: once more, on a new volume."""
    workspace = await stage.cold()
    with stage.killing("mover.store.read.before"):
        await stage.restore(workspace)
    return workspace


@scenario
async def restore_foreign(stage: Stage) -> str:
    """An archive that we did not make."""
    workspace, other = stage.site.workspace_id(), await stage.cold()
    found = await stage.site.truth.get(archive_key(other))
    assert found is not None
    await stage.site.truth.put_if(f"archives/{workspace}.tar.gz", found[0], etag=None)
    await stage.site.storage.restore(f"archives/{workspace}.tar.gz")
    return workspace


# ------------------------------------------------------------ purge


@scenario
async def purge_happy(stage: Stage) -> str:
    """Volume and archive go."""
    workspace = await restore_happy(stage)
    await stage.purge(workspace)
    return workspace


@scenario
async def purge_refused(stage: Stage) -> str:
    """A stranger stands there."""
    workspace = stage.site.workspace_id()
    stage.site.volume(workspace).mkdir()
    await fails(stage.purge(workspace), ErrorCode.VOLUME_CONFLICT)
    return workspace


@scenario
async def purge_incomplete(stage: Stage) -> str:
    """The volume cannot be removed; the archive is."""
    workspace = await restore_happy(stage)
    with stage.stuck(workspace):
        await fails(stage.purge(workspace), ErrorCode.PURGE_INCOMPLETE)
    return workspace
