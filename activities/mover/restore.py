"""Activities that fill a new volume from an archive: directories, segments, links and metadata, comparison, sync.

Each may be repeated. None is carried over to another mover: where one died, the volume is given up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from temporalio import activity

from activities.dataplane.archiver import Wall
from activities.dataplane.foreign import restore_foreign
from activities.dataplane.manifest import Manifest
from activities.dataplane.report import RestoreReport
from activities.dataplane.restore import ArchiveRestore, sync_folder
from activities.mover.context import MoverContext
from activities.runtime.heartbeats import Progress
from activities.state.proof import copies, find_archive
from codehub_storage.errors import ErrorCode, StorageError
from workflows.messages import RestoreStepInput, RestoreStepResult

T = TypeVar("T")


class RestoreActivities:
    """See the module. ``wall``: whether the kernel must confine the writers to the volume's directory.

    The manifest is read once. Each activity looks the object up again: its ETag pins what that activity reads.
    """

    def __init__(self, context: MoverContext, wall: Wall) -> None:
        self._context = context
        self._wall = wall
        self._found: Manifest | None = None

    @activity.defn
    async def prepare_restore(self, step: RestoreStepInput) -> RestoreStepResult:
        """``NoSpace`` before a byte is written; then the directories."""
        async with self._context.exclusive_attempt(step.volume_uid) as progress:
            await self._of_a_copy(step, lambda restore: restore.prepare(progress=lambda folders: progress.touch()))
        return RestoreStepResult()

    @activity.defn
    async def restore_segments(self, step: RestoreStepInput) -> RestoreStepResult:
        """Data segments ``first`` to ``last``, digests checked as they stream."""
        async with self._context.exclusive_attempt(step.volume_uid) as progress:
            report = await self._of_a_copy(
                step,
                lambda restore: restore.restore_segments(
                    step.first, step.last, progress=progress.moved, restored=lambda number: progress.touch()
                ),
            )
        return RestoreStepResult(skipped=dict(report.skipped))

    @activity.defn
    async def finish_restore(self, step: RestoreStepInput) -> RestoreStepResult:
        """Links and metadata, then the comparison, then everything onto the disk."""
        async with self._context.exclusive_attempt(step.volume_uid) as progress:
            report = await self._of_a_copy(step, lambda restore: self._finish(restore, progress))
            manifest = await self._manifest(step)
        totals = manifest.totals
        skipped = dict(report.skipped + Counter(totals.skipped))
        return RestoreStepResult(files=totals.files, raw_bytes=totals.file_bytes, skipped=skipped)

    @activity.defn
    async def restore_foreign_archive(self, step: RestoreStepInput) -> RestoreStepResult:
        """Restore an archive that we did not make, as one stream, then sync everything to the disk.

        A stream cannot be resumed, and what an earlier attempt wrote cannot be distinguished. A second attempt is
        ``MoverFailed``, so that the workflow begins on a new volume.
        """
        if activity.info().attempt > 1:
            raise StorageError(ErrorCode.MOVER_FAILED, "the restore of a foreign archive was cut off")
        async with self._context.exclusive_attempt(step.volume_uid) as progress:
            manifest, info, found = await find_archive(self._context.store, step.archive_key, step.archive_id)
            if manifest is not None or found != step.archive_id:
                raise _replaced(step)
            report = await restore_foreign(
                self._context.root,
                self._context.store,
                info,
                spool=self._context.folder(),
                progress=progress.moved,
                wall=self._wall,
                lock_fd=self._context.lock_fd,
            )
            async with progress.bounded():
                await asyncio.to_thread(sync_folder, self._context.root)
        return RestoreStepResult(files=report.files, raw_bytes=report.bytes, skipped=dict(report.skipped))

    async def _finish(self, restore: ArchiveRestore, progress: Progress) -> RestoreReport:
        report = await restore.finish(progress=lambda done: progress.touch())
        async with progress.bounded():
            await restore.sync()
        return report

    async def _of_a_copy(self, step: RestoreStepInput, work: Callable[[ArchiveRestore], Awaitable[T]]) -> T:
        """``work`` on the newest copy that the digests accept. Every step may be repeated, so what a refused one wrote
        is written over."""
        refused: StorageError | None = None
        async for manifest in self._copies(step):
            try:
                return await work(self._restore(manifest))
            except StorageError as error:
                if error.code != ErrorCode.ARCHIVE_CORRUPT:
                    raise
                refused = error
        raise refused or _replaced(step)

    async def _copies(self, step: RestoreStepInput) -> AsyncIterator[Manifest]:
        """The map, pinned to each copy of the object in turn, as it is now."""
        manifest = await self._manifest(step)
        async for info in copies(self._context.store, step.archive_key, manifest):
            yield manifest.pinned_to(info)

    async def _manifest(self, step: RestoreStepInput) -> Manifest:
        """The map. ``ArchiveNotFound`` if another archive replaced the one that the workflow inspected."""
        if self._found is None or self._found.archive_id != step.archive_id:
            self._found, _, _ = await find_archive(self._context.store, step.archive_key, step.archive_id)
        if self._found is None or self._found.archive_id != step.archive_id:
            raise _replaced(step)
        return self._found

    def _restore(self, manifest: Manifest) -> ArchiveRestore:
        return ArchiveRestore(
            self._context.root,
            self._context.store,
            manifest,
            wall=self._wall,
            lanes=self._context.concurrency,
            lock_fd=self._context.lock_fd,
        )


def _replaced(step: RestoreStepInput) -> StorageError:
    return StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{step.archive_key} is no longer {step.archive_id}")
