"""Activities of purge: refuse first, remove by exact name, check again.

Only what belongs to the given keys is removed. Anything else under the workspace's prefix is named and kept. A listing
shows versions and markers that no key names. It is not believed when it shows nothing: each key is requested by
itself, and so is the version that the manifest named.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from temporalio import activity

from activities.backends.base import Deletion, VolumeView, Walk
from activities.control.cleanup import Cleanup, describe_loss
from activities.control.services import Services
from activities.objectstore.base import UNVERSIONED, ObjectInfo, PreconditionFailed
from activities.state.fence import FencedRecord
from activities.state.proof import read_manifest
from activities.state.record import COLD, Record, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, is_foreign, manifest_key, record_key
from workflows.messages import PurgeStepInput, PurgeStepResult

MAX_LISTINGS = 20
"""Maximum number of times a listing is requested again. What keeps appearing after that is reported as left."""

NOBODYS = COLD | {VolumeState.RESTORING}
"""States of a volume that no user holds: it is deleted with its archive."""


class PurgeActivities:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store
        self._backend = services.backend
        self._cleanup = Cleanup(services)

    @activity.defn
    async def inspect_for_purge(self, step: PurgeStepInput) -> PurgeStepResult:
        """``VolumeInUse``, ``VolumeConflict``, ``VolumeChanged`` or ``InvalidInput`` before anything is removed."""
        here = self._backend.home_store_key(step.workspace_id)
        if step.home_store_key not in (None, here):
            raise StorageError(
                ErrorCode.INVALID_INPUT, f"{step.home_store_key} is not a volume of this backend; that would be {here}"
            )
        fenced = self._services.fenced(step.workspace_id)
        view = await self._backend.inspect(step.workspace_id, fence=fenced.check)
        record = await fenced.check()
        if view is None or not _is_in_scope(step, record, view):
            return PurgeStepResult()
        _check_ours(step, record, view)
        if not record.is_disposable(view.uid or ""):
            await self._cleanup.check_unused(fenced, view, remove_stopped=step.remove_stopped)
            check = _last_check(step, record)
            await check(lambda: self._backend.fingerprint(step.workspace_id, view.uid or "", fence=fenced.check))
        return PurgeStepResult()

    @activity.defn
    async def purge_archive(self, step: PurgeStepInput) -> PurgeStepResult:
        """Archive, manifest, their versions and markers, unfinished uploads; swept until nothing is seen any more."""
        removed: list[str] = []
        fenced = self._services.fenced(step.workspace_id)
        named = await self._named(step)
        for key in _keys(step):
            for _ in range(MAX_LISTINGS):
                if not await self._sweep(fenced, key, named if key == step.archive_key else (), removed):
                    break
        await self._services.outwait_deletes(activity.info().attempt)
        return PurgeStepResult(removed=tuple(removed), versions=named)

    async def _named(self, step: PurgeStepInput) -> tuple[str, ...]:
        """The version of the archive's object that its manifest names, while there is one that can be read."""
        if step.archive_key is None or is_foreign(step.archive_key):
            return ()
        try:
            found = await read_manifest(self._store, step.archive_key)
        except StorageError as error:
            if error.code not in (ErrorCode.ARCHIVE_CORRUPT, ErrorCode.UNSUPPORTED):
                raise
            return ()
        proven = found[0].object if found is not None else None
        return () if proven is None or proven.version_id is None else (proven.version_id,)

    async def _seen(self, key: str, named: Sequence[str]) -> list[ObjectInfo]:
        """What the store has for the key: its listing, then the object itself, then the versions that are named."""
        seen = await self._store.list_versions(key)
        known = {each.version_id or UNVERSIONED for each in seen}
        for version_id in (None, *named):
            info = await self._store.head(key, version_id=version_id)
            if info is not None and (info.version_id or UNVERSIONED) not in known:
                known.add(info.version_id or UNVERSIONED)
                seen.append(info)
        return seen

    async def _sweep(self, fenced: FencedRecord, key: str, named: Sequence[str], removed: list[str]) -> bool:
        """Delete what is seen now. False if that was nothing."""
        versions = await self._seen(key, named)
        for version in versions:
            await fenced.check()  # before each: a later run may have made an archive that is not to be purged
            try:
                await self._services.delete(key, version)
            except PreconditionFailed:
                continue  # replaced between listing and deletion: the next sweep sees what it is now
            removed.append(f"{key}@{version.version_id}" if version.version_id else key)
        uploads = await self._store.list_uploads(key)
        for upload_id in uploads:
            await fenced.check()
            await self._store.abort_upload(key, upload_id)
            removed.append(f"{key} (unfinished upload)")
        return bool(versions or uploads)

    @activity.defn
    async def purge_volume(self, step: PurgeStepInput) -> PurgeStepResult:
        """Delete the volume, if it is in scope: sealed first, unless no user was ever given it."""
        fenced = self._services.fenced(step.workspace_id)
        view = await self._backend.inspect(step.workspace_id, fence=fenced.check)
        record = await fenced.check()
        if view is None or not _is_in_scope(step, record, view):
            return PurgeStepResult()
        _check_ours(step, record, view)
        uid = view.uid or ""
        deletion = None
        if not record.is_disposable(uid):
            await self._cleanup.check_unused(fenced, view, remove_stopped=step.remove_stopped)
            deletion = Deletion(_last_check(step, record), lambda: _seal(fenced, uid))
        await self._backend.detach(step.workspace_id, uid, fence=fenced.check)  # it would keep files of it open
        left = await self._backend.delete(step.workspace_id, uid, fence=fenced.check, deletion=deletion)
        return PurgeStepResult(removed=(view.home_store_key,), left=(left,) if left else ())

    @activity.defn
    async def confirm_purge(self, step: PurgeStepInput) -> PurgeStepResult:
        """Check again. Where volume and archive are both gone the record becomes a tombstone."""
        fenced = self._services.fenced(step.workspace_id)
        faults: list[str] = []
        for key in _keys(step):
            versions = await self._seen(key, step.versions if key == step.archive_key else ())
            if versions or await self._store.list_uploads(key):
                faults.append(f"{_label(key, versions)} is still there")
        view = await self._backend.inspect(step.workspace_id, fence=fenced.check, users=False)
        record = await fenced.check()  # after the inspection, as in ``Cleanup``
        if view is not None and _is_in_scope(step, record, view):
            faults.append(f"volume {view.home_store_key} is still there")
        here = record.found_clear() if view is None else record
        left = await self._others(step)
        ours = {archive_key(step.workspace_id), manifest_key(archive_key(step.workspace_id))}
        for key in sorted(ours.difference(_keys(step), left)):
            if await self._store.head(key) is not None:
                left.append(key)
        left.extend(map(str, here.elsewhere))
        if view is not None and not _is_in_scope(step, record, view):
            left.append(view.home_store_key)
        lost = record.missing if view is None else None
        if view is None and not faults and not ours.intersection(left):
            if lost is None or step.home_store_key is not None:
                await fenced.change(Record.purged)  # last: it says that volume and archive are gone here
            else:
                left.append(f"{describe_loss(record, lost)}: purge the volume too, to have that forgotten")
        return PurgeStepResult(
            left=tuple(left), faults=tuple(faults), lost_volume_uid=lost.uid if lost else record.lost_volume_uid
        )

    async def _others(self, step: PurgeStepInput) -> list[str]:
        """Keys under the workspace's own prefix that are out of scope, those too that are not ours."""
        mine = {record_key(step.workspace_id), *_keys(step)}
        return [key for key in await self._store.list_keys(f"{step.workspace_id}/") if key not in mine]


def _label(key: str, versions: Sequence[ObjectInfo]) -> str:
    """The key, and which version of it is the first one that is left."""
    version_id = versions[0].version_id if versions else None
    return f"{key}@{version_id}" if version_id else key


def _keys(step: PurgeStepInput) -> list[str]:
    """Archive first, then what names it: a crash between leaves a manifest without object, which proves nothing."""
    if step.archive_key is None:
        return []
    if is_foreign(step.archive_key):
        return [step.archive_key]
    return [step.archive_key, manifest_key(step.archive_key)]


def _is_in_scope(step: PurgeStepInput, record: Record, view: VolumeView) -> bool:
    if step.home_store_key is not None:
        return True
    if step.archive_key is None or is_foreign(step.archive_key) or view.uid is None:
        return False
    volume = record.volume
    nobodys = volume is not None and volume.uid == view.uid and volume.state in NOBODYS
    nobodys = nobodys and not record.is_doubted(view.uid)
    return nobodys or record.is_given_up(view.uid)


def _check_ours(step: PurgeStepInput, record: Record, view: VolumeView) -> None:
    named = record.volume is not None and record.volume.uid == view.uid
    if view.uid is None or not (named or record.is_given_up(view.uid)):
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT,
            f"{view.home_store_key} ({view.uid or 'no uid of ours'}) is not this workspace's volume; it is kept",
        )
    if step.volume_uid not in (None, view.uid):
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT, f"{view.home_store_key} is {view.uid}; the caller expected {step.volume_uid}"
        )


def _last_check(step: PurgeStepInput, record: Record) -> Callable[[Walk], Awaitable[None]]:
    """What a volume must still be before it is deleted. With its own key it is deleted whatever it holds, and only
    users stop that.

    With the archive's key alone it must be what that archive was made from: ``VolumeChanged`` if it is more by now.
    """
    volume = record.volume
    is_named = step.home_store_key is not None or volume is None or volume.state != VolumeState.ARCHIVED

    async def check(walk: Walk) -> None:
        if not is_named and volume is not None and await walk() != volume.fingerprint:
            raise StorageError(
                ErrorCode.VOLUME_CHANGED,
                "the volume was written to after it was archived; it is kept, and so is the archive",
                hint="Archive again, or purge with the volume's key, too.",
            )

    return check


async def _seal(fenced: FencedRecord, uid: str) -> None:
    await fenced.change(lambda record: record.sealed(uid, purged_by=fenced.run_id))
