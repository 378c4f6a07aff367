"""The volumes of this place compared with their records: is one lost, was one left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from activities.objectstore.base import ObjectStore
from activities.objectstore.identity import StoreIdentity
from activities.state.fence import read_record
from activities.state.record import Record
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import check_workspace_id
from worker.cli.bucket import open_marked
from worker.cli.checks.running import Check, Finding, ok, warning
from worker.cli.volumes_here import is_home_here, is_lost, is_told_ready, left_here, volumes_here
from worker.settings import Settings

_SECONDS = 60.0
_AT_A_TIME = 16
_RECORDS = 2000
_NAMED = 5
_SUFFIX = "/home.state"


def volume_check(settings: Settings, known: Callable[[], StoreIdentity | None]) -> Check:
    """``known``: the identity of the bucket, once it was read."""
    return Check("place.volumes", lambda: _look(settings, known()), ("store.bucket", "place.identity"), _SECONDS)


async def _look(settings: Settings, identity: StoreIdentity | None) -> Finding:
    async with open_marked(settings) as (store, _):
        names = [key.removesuffix(_SUFFIX) for key in await store.list_keys("") if key.endswith(_SUFFIX)]
        records, unread = await _read(store, names[:_RECORDS])
        standing = await volumes_here(settings, identity)  # after the records: what is not in them yet is not missed
        ready = [each for each in records if is_told_ready(each, settings.place)]
        lost = [each for each in ready if await is_lost(store, each, standing)]
        left = [found for each in records if (found := left_here(each, settings.place, standing)) is not None]
        away = [each for each in records if is_home_here(each, settings.place, standing)]
    text = f"{len(standing)} volumes stand here"
    if len(names) > _RECORDS:
        text += f" (of {len(names):,} records {_RECORDS:,} were looked at; `codehub-storage list` looks at all)"
    said, hints = [], []
    if lost:
        who = _named([f"{each.workspace_id} ({each.volume.uid})" for each in lost if each.volume])
        said.append(f"lost, though nobody of ours deleted it: the volume of {who}")
        hints.append("Restore the last archive, or begin anew: `codehub-storage show WORKSPACE_ID` tells more.")
    if left:
        said.append(f"left behind, since another place has the workspace: {_named([each.uid for each in left])}")
        hints.append(
            "Nobody is handed what was left behind: a restore of its workspace here removes it; you may, by hand."
        )
    if away:
        who = _named([f"{each.workspace_id} at place {each.place}" for each in away])
        said.append(f"the volume is here, the record of {who}")
        hints.append("The next operation here takes such a record back: remove nothing.")
    if unread:
        said.append(f"records that cannot be read: {_named(unread)}")
        hints.append("Restore an older version of these objects.")
    return warning("; ".join(said), " ".join(hints)) if said else ok(f"{text}, none is lost and none was left behind")


async def _read(store: ObjectStore, names: list[str]) -> tuple[list[Record], list[str]]:
    """The records, and the workspaces whose records are damaged."""
    turns, records, unread = asyncio.Semaphore(_AT_A_TIME), list[Record](), list[str]()

    async def read(name: str) -> None:
        async with turns:
            try:
                found = await read_record(store, check_workspace_id(name))
            except StorageError as error:
                if error.code is ErrorCode.ARCHIVE_CORRUPT:
                    unread.append(name)
                elif error.code is not ErrorCode.INVALID_INPUT:
                    raise
                return
            records.extend([found[0]] if found else [])

    await asyncio.gather(*(read(name) for name in names))
    return records, unread


def _named(what: list[str]) -> str:
    more = f" and {len(what) - _NAMED} more" if len(what) > _NAMED else ""
    return ", ".join(sorted(what)[:_NAMED]) + more
