"""What bucket and Temporal know of every workspace, for `list`.

The bucket is listed once, then records and manifests are read, a few at a time; Temporal is asked once, page by page.
Where one of the two is away, what the other knows is still shown.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

from activities.dataplane.manifest import Manifest
from activities.objectstore.base import ObjectInfo, ObjectStore
from activities.objectstore.identity import StoreIdentity
from activities.state.fence import read_record
from activities.state.proof import read_manifest, stored_archive
from activities.state.record import Record, VolumeState
from codehub_storage.errors import StorageError
from codehub_storage.keys import is_workspace_id, workflow_id
from worker.cli.answers import ListAnswer, State, WorkspaceRow
from worker.cli.bucket import open_marked
from worker.cli.runs import OURS, attribute, executions, moment, status_of
from worker.cli.session import connect_temporal
from worker.cli.volumes_here import is_lost, is_told_ready, volumes_here
from worker.settings import Settings

_AT_A_TIME = 16
_OF_A_WORKSPACE = re.compile(
    r"(?P<id>[^/]+)/home\.(?P<what>tar\.gz|tar\.gz\.meta|state)|archives/(?P<foreign>[^/]+)\.tar\.gz"
)
_HELD = frozenset({VolumeState.READY, VolumeState.ARCHIVED})
Progress = Callable[[int, int], None]
"""Gets how many workspaces were read, and of how many."""


@dataclass
class Stored:
    """What the bucket holds about a workspace. ``keys``: of what it has, by kind. ``seen``: whether the volume that its
    record calls ready is at the place of these settings; ``None`` where that could not be read."""

    keys: dict[str, str] = field(default_factory=dict)
    record: Record | None = None
    manifest: Manifest | None = None
    object: ObjectInfo | None = None
    proven: bool = False
    seen: bool | None = None
    problem: StorageError | None = None


@dataclass(frozen=True)
class Sides:
    """What both sides know, ``None`` of one that is away, and why it is."""

    stored: Mapping[str, Stored] | None
    runs: Mapping[str, WorkflowExecution] | None
    errors: Sequence[StorageError]

    def names(self) -> list[str]:
        """The workspaces of the bucket, and those that something is done to; of a bucket that is away, all."""
        runs = self.runs or {}
        if self.stored is None:
            return sorted(runs)
        return sorted(self.stored.keys() | {name for name, run in runs.items() if _is_open(run)})


async def workspaces_of(
    settings: Settings, states: Collection[str], limit: int | None, progress: Progress
) -> tuple[ListAnswer, Sequence[StorageError]]:
    """The workspaces in these states (none: in any), so many at most; and why not all is known."""
    sides = await _ask(settings, None if states else limit, progress)
    now = datetime.now(UTC)
    rows = [_row(name, sides, now) for name in sides.names()]
    return ListAnswer(workspaces=[each for each in rows if not states or each.state in states][:limit]), sides.errors


async def _ask(settings: Settings, limit: int | None, progress: Progress) -> Sides:
    """Ask both at once. ``limit``: maximum number of workspaces of the bucket that are read."""
    stored: dict[str, Stored] = {}
    listed: asyncio.Future[Collection[str] | None] = asyncio.get_running_loop().create_future()
    sides = await asyncio.gather(
        _read_bucket(settings, limit, stored, listed, progress), _last_runs(settings, listed), return_exceptions=True
    )
    errors = [each for each in sides if isinstance(each, StorageError)]
    for each in sides:
        if isinstance(each, BaseException) and not isinstance(each, StorageError):
            raise each
    is_away = isinstance(sides[0], StorageError)
    runs = sides[1]
    errors += [each.problem for each in stored.values() if each.problem is not None][:1]
    return Sides(None if is_away else stored, None if isinstance(runs, BaseException) else runs, errors)


async def _read_bucket(
    settings: Settings,
    limit: int | None,
    stored: dict[str, Stored],
    listed: asyncio.Future[Collection[str] | None],
    progress: Progress,
) -> None:
    """Fill ``stored``; ``listed`` gets the workspaces early, where only some of them count."""
    try:
        async with open_marked(settings) as (store, identity):
            found = _by_workspace(await store.list_keys(""))
            stored.update({name: found[name] for name in sorted(found)[:limit]})
            listed.set_result(None if limit is None else stored.keys())
            await _read_all(store, stored, progress)
            await _look_around(settings, store, identity, stored)
    finally:
        if not listed.done():
            listed.set_result(None)


def _by_workspace(keys: Sequence[str]) -> dict[str, Stored]:
    """The keys of the bucket that are of a workspace."""
    found: dict[str, Stored] = {}
    for key in keys:
        match = _OF_A_WORKSPACE.fullmatch(key)
        if match is None or not is_workspace_id(match["id"] or match["foreign"]):
            continue
        what = match["what"] or "foreign"
        found.setdefault(match["id"] or match["foreign"], Stored()).keys[what] = key
    return found


async def _last_runs(
    settings: Settings, listed: asyncio.Future[Collection[str] | None]
) -> dict[str, WorkflowExecution]:
    """The last run of each workspace; only of those that are ``listed``, if any are."""
    client = await connect_temporal(settings)
    wanted = await listed
    found: dict[str, WorkflowExecution] = {}
    names = None if wanted is None else {workflow_id(each): each for each in wanted}
    if names is not None and not names:
        return found
    async for each in executions(client, OURS):
        name = each.id.partition("/")[2] if names is None else names.get(each.id)
        if name is not None and _is_newer(each, found.get(name)):
            found[name] = each
        if names is not None and len(found) == len(names):
            break
    return found


def _is_open(run: WorkflowExecution) -> bool:
    return run.status is WorkflowExecutionStatus.RUNNING


def _is_newer(run: WorkflowExecution, known: WorkflowExecution | None) -> bool:
    return known is None or run.start_time > known.start_time


async def _read_all(store: ObjectStore, stored: Mapping[str, Stored], progress: Progress) -> None:
    """Read what each has; a store that stops responding is not asked for the rest."""
    turns, numbers = asyncio.Semaphore(_AT_A_TIME), itertools.count(1)
    away: list[StorageError] = []

    async def read(name: str, entry: Stored) -> None:
        async with turns:
            progress(next(numbers), len(stored))
            if away:
                entry.problem = away[0]
                return
            try:
                await _read(store, name, entry)
            except StorageError as error:
                entry.problem = error
                if error.transient:
                    away.append(error)

    await asyncio.gather(*(read(name, entry) for name, entry in stored.items()))


async def _look_around(
    settings: Settings, store: ObjectStore, identity: StoreIdentity, stored: Mapping[str, Stored]
) -> None:
    """Find which of the volumes that records call ready are here. A place out of reach is no failure."""
    ready = [
        (entry, entry.record)
        for entry in stored.values()
        if entry.record is not None and is_told_ready(entry.record, settings.place)
    ]
    with suppress(StorageError):
        standing = await volumes_here(settings, identity) if ready else {}
        for entry, record in ready:
            is_there = record.volume is not None and standing.get(record.workspace_id) == record.volume.uid
            entry.seen = True if is_there else (False if await is_lost(store, record, standing) else None)


async def _read(store: ObjectStore, name: str, entry: Stored) -> None:
    if "state" in entry.keys:
        found = await read_record(store, name)
        entry.record = found[0] if found else None
    key = entry.keys.get("tar.gz") or entry.keys.get("foreign")
    if key is None:
        return
    if "tar.gz.meta" in entry.keys:
        manifest = await read_manifest(store, key)
        entry.manifest = manifest[0] if manifest else None
    entry.object, entry.proven = await stored_archive(store, key, entry.manifest)


def _row(name: str, sides: Sides, now: datetime) -> WorkspaceRow:
    stored = (sides.stored or {}).get(name, Stored())
    run = sides.runs.get(name) if sides.runs is not None else None
    record, volume = stored.record, stored.record.volume if stored.record else None
    made = _time_of(stored)
    by_record = record.owner if record and run is None else None
    return WorkspaceRow(
        workspace_id=name,
        state=_state(stored, run, sides),
        place=record.place if record else None,
        volume_uid=volume.uid if volume and volume.state in _HELD else None,
        volume_seen=stored.seen,
        archive_key=stored.object.key if stored.object else None,
        archive_id=stored.manifest.archive_id if stored.manifest and stored.proven else None,
        archive_bytes=stored.object.size_bytes if stored.object else None,
        archived_at=moment(made) if made else None,
        archive_age_seconds=round((now - made).total_seconds(), 1) if made else None,
        operation=run.workflow_type if run else by_record.operation if by_record else None,
        status=status_of(run) if run else None,
        phase=attribute(run, "WsPhase", str) if run else None,
        run_id=run.run_id if run else by_record.run_id if by_record else None,
        started_at=moment(run.start_time) if run else None,
        problem=str(stored.problem) if stored.problem else None,
    )


def _time_of(stored: Stored) -> datetime | None:
    """When the archive was made: by its manifest, else by the store."""
    if stored.object is None:
        return None
    with suppress(ValueError, OverflowError):
        if stored.manifest is not None and stored.proven:
            return datetime.fromisoformat(stored.manifest.created_at).astimezone(UTC)
    return datetime.fromtimestamp(stored.object.modified_at, UTC)


def _state(stored: Stored, run: WorkflowExecution | None, sides: Sides) -> State:
    """See ``WorkspaceRow.state``. Without Temporal, a workspace whose record was not released counts as moving."""
    if run is not None and _is_open(run):
        return "moving"
    if stored.problem is not None or sides.stored is None:
        return "unknown"
    record, volume = stored.record, stored.record.volume if stored.record else None
    if record is not None and not record.owner.signed_off:
        return "moving" if sides.runs is None else "unfinished"
    if volume is not None and volume.state is VolumeState.RESTORING:
        return "unfinished"
    if stored.seen is False:
        return "lost"
    if volume is not None and volume.state in _HELD:
        return "both" if stored.proven else "warm"
    if stored.proven:
        return "cold"
    if stored.object is not None:
        return "unproven"
    return "lost" if volume is not None and volume.archive_id is not None else "empty"
