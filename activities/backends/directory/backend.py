"""The directory backend: the Protocol's methods, each from its fence to its last effect under the workspace's lock."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from activities.backends.base import Deletion, Fence, Mover, MoverSpec, VolumeUser, VolumeView
from activities.backends.directory import lock as locks
from activities.backends.directory.errors import translated
from activities.backends.directory.layout import Layout
from activities.backends.directory.lock import STARTING_MOVER, Holder, Lock
from activities.backends.directory.movers import DirectoryMover, MoverStarter
from activities.backends.directory.place import read_identity, write_identity
from activities.backends.directory.volume_directory import FoundVolume, VolumeDirectory, volumes_in
from activities.backends.wait_policy import WaitPolicy
from activities.runtime import failpoints
from activities.runtime.cancellation import run_to_end
from activities.runtime.linux.held_files import Survey, survey, users_of
from activities.runtime.linux.syscalls import FileId
from activities.state.record import Record, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import check_workspace_id

PRELOAD = ("pydantic", "temporalio.worker", "aioboto3", "awscrt.checksums")
_CHECKED = failpoints.declare("directory.delete.checked", effect="the volume in the trash is unchanged and unused")
_SEALED = failpoints.declare("directory.delete.sealed", effect="the record says `deleting`, nothing is removed")
_DELETED = failpoints.declare("directory.delete.deleted", effect="folder and note are gone, the lock is still held")
_LOCKED = failpoints.declare("directory.attach.locked", effect="others are evicted, the mover is not started")
_ATTACHED = failpoints.declare("directory.attach.started", effect="the mover lives and has the lock")

Evictable = Callable[[Holder, Record], bool]


class FolderWalk(Protocol):
    """Walks a directory and returns its change fingerprint. ``VolumeInUse`` for what is in ``held``, naming who has
    it."""

    async def __call__(self, root: str, /, *, held: Mapping[FileId, str] = ...) -> str: ...


@dataclass(frozen=True)
class _Hold:
    """What a method works with while it has the workspace's lock."""

    directory: VolumeDirectory
    record: Record
    lock: Lock


class DirectoryBackend:
    """Directories below ``root``, moved by children of this process.

    ``mover_entry``: ``package.module:function``, called in the mover as (spec, directory, lock descriptor).
    ``environment``: variables that movers get besides those of this process.
    Several may serve one root, in one process or in several of one machine and pid namespace: a mover that another
    worker started is found, and killed if need be, by its process id.
    """

    name = "directory"
    movers_outlive_worker = False

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        mover_entry: str,
        walk: FolderWalk,
        wait_policy: WaitPolicy | None = None,
        preload: tuple[str, ...] = PRELOAD,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._layout = Layout(root)
        self._walk = walk
        self._wait_policy = wait_policy or WaitPolicy()
        self._starter = MoverStarter(mover_entry, preload, self._wait_policy, environment or {})
        self._movers: dict[str, DirectoryMover] = {}
        self._attaching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._identity: str | None = None

    def home_store_key(self, workspace_id: str) -> str:
        """``ws_{id}_home``."""
        return self._layout.name(workspace_id)

    async def identity(self) -> str | None:
        """What `init` wrote into the root; ``None`` also for a disk that is not mounted."""
        return await run_to_end(lambda: read_identity(self._layout))

    async def mark(self, identity: str, *, adopt: bool) -> str:
        """See ``write_identity``."""
        return await run_to_end(lambda: write_identity(self._layout, identity, adopt=adopt))

    async def create(
        self, workspace_id: str, uid: str, *, restored_from: str | None, spec: Mapping[str, str], fence: Fence
    ) -> VolumeView:
        """A new empty directory of mode 0700. Size and class are noted, not enforced."""
        async with self._hold(workspace_id, fence, "create") as hold:
            if hold.record.is_given_up(uid):
                raise StorageError(ErrorCode.VOLUME_CONFLICT, f"uid {uid} was given up; no volume is made for it")
            return await run_to_end(lambda: hold.directory.create(uid, restored_from, spec))

    async def inspect(self, workspace_id: str, *, fence: Fence, users: bool = True) -> VolumeView | None:
        """The directory and its users, but for the run's own mover; while that lives, nothing is settled or locked."""
        check_workspace_id(workspace_id)
        await self._check_place()
        record = await fence()
        holder = locks.read_holder(self._layout.lock(workspace_id))
        if holder is not None and holder.is_mover and holder.run_id == record.owner.run_id and holder.is_alive():
            directory = VolumeDirectory(self._layout, workspace_id)
            return await run_to_end(lambda: _view(directory, sessions=(holder.pid,), users=users))
        async with self._hold(workspace_id, fence, "inspect") as hold:
            return await run_to_end(lambda: _view(hold.directory, users=users))

    async def peek(self, workspace_id: str, record: Record) -> VolumeView | None:
        """The directory and its users, a mover of ours among them."""
        directory = VolumeDirectory(self._layout, check_workspace_id(workspace_id))
        return await run_to_end(lambda: _view(directory))

    async def list_volumes(self) -> Mapping[str, str | None]:
        """The directories of the root that have the name of a volume, and those in the trash."""
        await self._check_place()
        return await run_to_end(lambda: dict(volumes_in(self._layout)))

    async def fingerprint(self, workspace_id: str, uid: str, *, fence: Fence) -> str:
        """By a walk in this process."""
        async with self._hold(workspace_id, fence, "walk") as hold:
            found = await run_to_end(hold.directory.volume)
            if found is None or found.uid != uid:
                raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"there is no volume {uid} of workspace {workspace_id}")
            return await self._walk(str(found.path))

    async def delete(self, workspace_id: str, uid: str, *, fence: Fence, deletion: Deletion | None) -> None:
        """Rename to the trash, look for users, check, seal, remove.

        What was opened before the rename shows as a user, and after it no new process gets in. The window that remains
        is what /proc does not show. Any failure before the removal renames back. That is right even if the seal was
        written: the next run that finds `deleting` continues.
        """
        async with self._hold(workspace_id, fence, "delete") as hold:
            found = await run_to_end(hold.directory.volume)
            if found is None or found.uid != uid:
                return  # gone, by an earlier attempt; or another volume, which this deletion does not mean
            if deletion is None and not hold.record.is_disposable(uid):
                raise StorageError(
                    ErrorCode.VOLUME_CONFLICT, f"the record does not say that {found.path} may be deleted"
                )
            trash = await self._take_away(hold.directory, found, deletion)
            stop = threading.Event()
            await run_to_end(lambda: hold.directory.remove(trash, is_stopped=stop.is_set), on_cancel=stop.set)
            await failpoints.reach(_DELETED)

    async def remove_stopped_users(self, workspace_id: str, *, fence: Fence) -> None:
        """Nothing: every user of a directory is a process, and runs."""
        await fence()

    async def attach(self, spec: MoverSpec, *, fence: Fence, adopt_only: bool = False) -> Mover:
        """Start the run's mover and hand it the lock; another one is killed first, here or of another worker.

        Movers die with their worker, so none is adopted from another process.
        """
        check_workspace_id(spec.workspace_id)
        async with self._attaching.setdefault(spec.workspace_id, asyncio.Lock()):
            mover = self._movers.get(spec.workspace_id)
            if mover is not None and mover.is_alive() and mover.is_for(spec):
                await fence()
                return mover
            if adopt_only:
                raise StorageError(
                    ErrorCode.MOVER_FAILED, f"the mover on queue {spec.queue} is gone, or is not of this worker"
                )
            self._movers = {key: other for key, other in self._movers.items() if other.is_alive()}
            self._movers[spec.workspace_id] = mover = await self._start(spec, fence)
            await failpoints.reach(_ATTACHED)
            return mover

    async def detach(self, workspace_id: str, uid: str, *, fence: Fence, run_id: str | None = None) -> None:
        """Stop the workspace's mover, of this worker or another: that of ``run_id``, or any if it is ``None``."""
        check_workspace_id(workspace_id)
        await self._check_place()
        await fence()
        mover = self._movers.get(workspace_id)
        if mover is not None and run_id in (None, mover.spec.run_id):
            await mover.stop()
        path = self._layout.lock(workspace_id)

        async def attempt() -> bool | None:
            with translated(f"the lock of workspace {workspace_id}"):
                if locks.is_free(path):
                    return True
            holder = locks.read_holder(path)
            if holder is None or holder.doing == STARTING_MOVER:
                return None
            if not holder.is_mover or run_id not in (None, holder.run_id):
                return True
            await run_to_end(lambda: holder.kill(path))
            return None

        await self._wait_policy.until(attempt, lambda: f"{_label(path)} does not end")

    async def _start(self, spec: MoverSpec, fence: Fence) -> DirectoryMover:
        async with self._hold(spec.workspace_id, fence, STARTING_MOVER, is_evictable=_any_mover) as hold:
            found = await run_to_end(hold.directory.volume)
            if found is None:
                raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"there is no {self._layout.volume(spec.workspace_id)}")
            volume = hold.record.volume
            is_doomed = volume is not None and volume.uid == spec.volume_uid and volume.state is VolumeState.DELETING
            if found.uid != spec.volume_uid or is_doomed or hold.record.is_given_up(spec.volume_uid):
                raise StorageError(
                    ErrorCode.VOLUME_CONFLICT,
                    f"{found.path} (uid {found.uid}) is not volume {spec.volume_uid}, or is to be deleted",
                )
            await failpoints.reach(_LOCKED)
            log, lock_path = self._layout.log(spec.workspace_id), self._layout.lock(spec.workspace_id)
            with translated("the mover cannot be started"):
                return await self._starter.start(spec, found.path, log, hold.lock, lock_path)

    async def _take_away(
        self, directory: VolumeDirectory, found: FoundVolume, deletion: Deletion | None
    ) -> FoundVolume:
        """The volume in the trash, decided and sealed. Back under its name if anything fails."""
        try:
            trash = await run_to_end(lambda: directory.to_trash(found))
            if deletion is not None:
                seen = await run_to_end(lambda: survey(trash.path))  # after the rename: no new process gets in
                _refuse_users(found, seen)
                # The walk is last before the seal: what /proc shows no user of is not written to behind it.
                await self._check(trash, seen, deletion)
                await failpoints.reach(_CHECKED)
                await deletion.seal()
        except BaseException:
            await run_to_end(directory.put_back)
            raise
        await failpoints.reach(_SEALED)
        return trash

    async def _check(self, trash: FoundVolume, seen: Survey, deletion: Deletion) -> None:
        """One walk: it gets the fingerprint and looks for all that any process has. Done also where only users
        count."""
        is_walked = False

        async def walk() -> str:
            nonlocal is_walked
            is_walked = True
            return await self._walk(str(trash.path), held=seen.held)

        await deletion.check(walk)
        if not is_walked:
            try:
                await walk()
            except StorageError as error:
                if error.code is ErrorCode.VOLUME_IN_USE:
                    raise
                # What cannot be read is purged all the same. By their own paths no users were found.

    @asynccontextmanager
    async def _hold(
        self, workspace_id: str, fence: Fence, doing: str, *, is_evictable: Evictable | None = None
    ) -> AsyncIterator[_Hold]:
        """The lock, then the fence, then the trash settled; the lock is let go when the block and its threads end."""
        check_workspace_id(workspace_id)
        await self._check_place()
        lock = await self._take(workspace_id, fence, doing, is_evictable or _is_left_over)
        try:
            await self._check_place()
            # The fence under the lock: who waited for it may have lost the record meanwhile.
            hold = _Hold(VolumeDirectory(self._layout, workspace_id), await fence(), lock)
            stop = threading.Event()
            await run_to_end(
                lambda: hold.directory.settle(hold.record, is_stopped=stop.is_set),
                on_cancel=stop.set,
            )
            yield hold
        finally:
            lock.release()  # behind ``run_to_end``: no thread of ours works on the volume any more

    async def _take(self, workspace_id: str, fence: Fence, doing: str, is_evictable: Evictable) -> Lock:
        path = self._layout.lock(workspace_id)

        async def attempt() -> Lock | None:
            with translated(f"the lock of workspace {workspace_id}"):
                lock = locks.try_lock(path)
            if lock is not None:
                lock.sign(Holder.me(doing))
                return lock
            holder = locks.read_holder(path)
            if holder is not None and holder.is_mover and is_evictable(holder, await fence()):
                await run_to_end(lambda: holder.kill(path))
            return None

        return await self._wait_policy.until(attempt, lambda: f"workspace {workspace_id} is locked by {_label(path)}")

    async def _check_place(self) -> None:
        """``WrongStore`` unless the root bears the identity that it had when this backend first saw it."""
        found = await self.identity()
        if found is None or self._identity not in (None, found):
            raise StorageError(
                ErrorCode.WRONG_STORE,
                f"{self._layout.root} has identity {found}, expected {self._identity or 'one'}: is the disk mounted?",
            )
        self._identity = found


def _view(directory: VolumeDirectory, *, sessions: tuple[int, ...] = (), users: bool = True) -> VolumeView | None:
    found = directory.volume()
    if found is None:
        return None
    seen = tuple(map(VolumeUser, users_of(found.path, sessions=sessions))) if users else None
    return replace(directory.view(found), users=seen)


def _refuse_users(found: FoundVolume, seen: Survey) -> None:
    if seen.users:
        raise StorageError(ErrorCode.VOLUME_IN_USE, f"{found.path.name} is used by {', '.join(seen.users)}")


def _any_mover(holder: Holder, record: Record) -> bool:
    return True


def _is_left_over(holder: Holder, record: Record) -> bool:
    """A mover of another run, or children of one that is dead."""
    return holder.run_id != record.owner.run_id or not holder.is_alive()


def _label(path: Path) -> str:
    holder = locks.read_holder(path)
    return holder.label if holder else "an unknown process"
