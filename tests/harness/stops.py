"""Operations stopped at a place of a test's choosing, and the world as it stands then, seen past everything of ours.

A stop holds requests in front of the S3 server. The first of them is the one whose effect may be made to arrive late;
the run stands still before the others as well, tried again or not, until the test says `resume`.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowHandle
from temporalio.common import SearchAttributeKey

from codehub_storage import ErrorCode, StorageError, keys
from codehub_storage.client import OperationHandle
from codehub_storage.contracts import Operation, Phase
from tests.fakes.s3_faults import Exchange, Fault, Predicate
from tests.harness.site import Site

LOOK_SECONDS = 0.1
"""Each look is a request to the server. Many at a time, in eight trials at once, slow down what they wait for."""
PATIENCE_SECONDS = 600.0
_PHASE = SearchAttributeKey.for_keyword("WsPhase")

Tree = dict[str, tuple[str, int, str]]
"""Path -> kind, mode, digest or target."""


# ------------------------------------------------------------ stopping


def of(workspace_id: str, *, method: str | None = None, name: str | None = None, query: str | None = None) -> Predicate:
    """Fits requests for a workspace's objects and for listings of them; ``name``: of the object, such as home.state."""

    def fits(exchange: Exchange) -> bool:
        key = exchange.key or exchange.query.get("prefix", "")
        return (
            key.startswith(f"{workspace_id}/")
            and (method is None or exchange.method == method)
            and (name is None or key == f"{workspace_id}/{name}")
            and (query is None or query in exchange.query)
        )

    return fits


async def always() -> bool:
    """For a stop at the first request that fits."""
    return True


@dataclass
class Stop(Fault):
    """Holds the first request for which ``is_here`` answers True until ``release``, and all after it until ``resume``.

    ``after``: the server has acted on the first one, its answer is held.
    """

    is_here: Callable[[], Awaitable[bool]] = always
    after: bool = False
    times: int | None = None
    exchange: Exchange | None = field(default=None, init=False)
    reached: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    release: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    resume: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def request_body(self, exchange: Exchange, body: bytes) -> bytes:
        """The body is complete; nothing has reached the server."""
        is_first = self.exchange is None and await self.is_here() and self.exchange is None
        if is_first:
            self.exchange = exchange
            if not self.after:
                self.reached.set()
                await self.release.wait()
        elif self.exchange is not None:  # also where another came first while we looked
            await self.resume.wait()
        return body

    async def answered(self, exchange: Exchange, answer: Any) -> Any:
        """The server has acted."""
        if self.after and exchange is self.exchange:
            self.reached.set()
            await self.release.wait()
        return answer

    async def let_it_land(self) -> None:
        """Release what was held first, and return when the server has answered it."""
        assert self.exchange is not None
        self.release.set()
        if not self.after:
            await asyncio.wait_for(self.exchange.answered.wait(), PATIENCE_SECONDS)


async def phase_of(site: Site, workspace_id: str) -> Phase:
    """The phase that the server knows of the workspace's latest run."""
    description = await handle_of(site, workspace_id).describe()
    phase = description.typed_search_attributes.get(_PHASE)
    return Phase.CLAIMING if phase is None else Phase(phase)


def handle_of(site: Site, workspace_id: str, run_id: str | None = None) -> WorkflowHandle[Any, Any]:
    """The server's own handle of a run; of the latest one without ``run_id``."""
    return site.temporal.get_workflow_handle(keys.workflow_id(workspace_id), run_id=run_id)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return when ``condition`` holds. ``TimeoutError`` saying ``what`` did not come, after a time no test needs."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await condition():  # noqa: ASYNC110 - other processes make it true
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(what) from error


async def paused_at(gate: Path) -> None:
    """Return when a process stands at the pause failpoint that ``gate`` ends."""

    async def is_there() -> bool:
        return gate.with_name(gate.name + ".reached").exists()

    await until(is_there, f"nobody came to {gate.name}")


async def history_of(site: Site, workspace_id: str, run_id: str | None = None) -> list[HistoryEvent]:
    """All events of a run."""
    return list((await handle_of(site, workspace_id, run_id).fetch_history()).events)


def repeated_steps(history: Sequence[HistoryEvent]) -> list[str]:
    """The steps of a run's movers that took more than one attempt: such a one reads or sends bytes again."""
    scheduled = {
        event.event_id: event.activity_task_scheduled_event_attributes
        for event in history
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    }
    movers = {number: each for number, each in scheduled.items() if each.task_queue.name.startswith("mover/")}
    ended = [
        event.activity_task_started_event_attributes
        for event in history
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    ]
    attempts = {each.scheduled_event_id: each.attempt for each in ended if each.scheduled_event_id in movers}
    assert attempts, "no mover took a step"
    return [movers[number].activity_type.name for number, attempt in attempts.items() if attempt > 1]


async def reset(site: Site, workspace_id: str, run_id: str, task: int) -> None:
    """Reset a run to one of its completed workflow tasks, by its place in the list of them."""
    completed = [
        event.event_id
        for event in await history_of(site, workspace_id, run_id)
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]
    await site.temporal.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=site.temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=keys.workflow_id(workspace_id), run_id=run_id),
            reason="a test",
            workflow_task_finish_event_id=completed[task],
            request_id=str(uuid4()),
        )
    )


async def how_it_ends(site: Site, workspace_id: str) -> ErrorCode | None:
    """Waits for the workspace's latest run. The code it fails with; ``None`` for success."""
    description = await handle_of(site, workspace_id).describe()
    run = OperationHandle(
        workspace_id,
        Operation(description.workflow_type),
        description.run_id,
        handle_of(site, workspace_id, description.run_id),
        site.temporal,
    )
    try:
        await run.result()
    except StorageError as error:
        return error.code
    return None


# ------------------------------------------------------------ looking


def fill(folder: Path, text: str = "first") -> Tree:
    """A few files and links in a volume; what they are."""
    (folder / "src/deep").mkdir(parents=True, exist_ok=True)
    (folder / "src/deep/a.txt").write_text(text * 500)
    (folder / "src/odd name\n").write_bytes(bytes(range(256)))
    if not (folder / "src/link").is_symlink():
        (folder / "src/link").symlink_to("deep/a.txt")
    return tree_of(folder)


def tree_of(folder: Path) -> Tree:
    """All below a folder."""
    return {str(path.relative_to(folder)): _entry(path) for path in sorted(folder.rglob("*"))}


def _entry(path: Path) -> tuple[str, int, str]:
    if path.is_symlink():
        return "link", 0, os.readlink(path)
    mode = path.stat().st_mode & 0o7777
    return ("folder", mode, "") if path.is_dir() else ("file", mode, _digest(path.read_bytes()))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree_in(archive: bytes) -> Tree:
    """All in a tar.gz, by Python's own reader."""
    found: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            name = member.name.removeprefix("./").rstrip("/")
            if member.issym():
                found[name] = ("link", 0, member.linkname)
            elif member.isdir():
                found[name] = ("folder", member.mode, "")
            else:
                data = tar.extractfile(member)
                found[name] = ("file", member.mode, _digest(data.read() if data else b""))
    found.pop(".", None)
    found.pop("", None)
    return found


@dataclass(frozen=True)
class World:
    """A workspace as the disk and the store have it. Equal worlds: nothing appeared, changed or went.

    ``objects``: of each key all versions, as (version id, ETag, is a delete marker). ``inode``: of the volume's folder.
    """

    record: dict[str, Any] | None
    objects: dict[str, tuple[tuple[str | None, str, bool], ...]]
    uploads: int
    volume: Tree | None
    inode: int | None
    trash: bool

    @property
    def state(self) -> str | None:
        """The state of the record's volume; ``None`` if it has none."""
        volume = (self.record or {}).get("volume")
        return None if volume is None else str(volume["state"])

    @property
    def has_signed_off(self) -> bool:
        """True if the last owner has nothing in flight."""
        return self.record is not None and bool(self.record["owner"]["signed_off"])


async def world_of(site: Site, workspace_id: str) -> World:
    """The world of one workspace, now."""
    archive = keys.archive_key(workspace_id)
    folder = site.volume(workspace_id)
    objects = {}
    for key in (archive, keys.manifest_key(archive), keys.record_key(workspace_id)):
        versions = await site.truth.list_versions(key)
        objects[key] = tuple((each.version_id, each.etag, each.is_delete_marker) for each in versions)
    return World(
        record=await record_of(site, workspace_id),
        objects=objects,
        uploads=len(await site.truth.list_uploads(archive)),
        volume=tree_of(folder) if folder.exists() else None,
        inode=folder.stat().st_ino if folder.exists() else None,
        trash=site.habitat.has_trash(workspace_id),
    )


async def record_of(site: Site, workspace_id: str) -> dict[str, Any] | None:
    """The record's JSON."""
    found = await site.truth.get(keys.record_key(workspace_id))
    return None if found is None else dict(json.loads(found[0]))


async def proven_tree(site: Site, workspace_id: str) -> Tree | None:
    """What the archive extracts to; ``None`` unless the manifest names the stored object."""
    key = keys.archive_key(workspace_id)
    info = await site.truth.head(key)
    manifest = await site.truth.get(keys.manifest_key(key))
    if info is None or manifest is None or json.loads(manifest[0]).get("archive_id") != info.metadata["archive-id"]:
        return None
    return tree_in(b"".join([piece async for piece in site.truth.read(key, etag=info.etag)]))


async def until_no_mover(site: Site, workspace_id: str) -> None:
    """Return when no mover of the workspace is left."""

    async def is_gone() -> bool:
        return not await asyncio.to_thread(site.habitat.movers, workspace_id)

    await until(is_gone, f"a mover of {workspace_id} stays")
