"""Activities that fill a new volume from an archive: folders, segments, links and metadata, comparison, sync.

Each may be repeated. None is carried over to another mover: where one died, the volume is given up.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from temporalio import activity

from activities.dataplane.confine import Wall
from activities.dataplane.foreign import restore_foreign
from activities.dataplane.manifest import Manifest
from activities.dataplane.restore import ArchiveRestore, sync_folder
from activities.objectstore.base import ObjectInfo
from activities.proofs import find_archive
from activities.transfers import MoverGround
from codehub_storage.errors import ErrorCode, StorageError
from workflows.messages import FillInput, FillResult


class FillingActivities:
    """See the module. ``wall``: whether the kernel must confine the writers to the volume's folder."""

    def __init__(self, ground: MoverGround, wall: Wall) -> None:
        self._ground = ground
        self._wall = wall
        self._found: tuple[Manifest | None, ObjectInfo, str] | None = None

    @activity.defn
    async def prepare_restore(self, step: FillInput) -> FillResult:
        """``NoSpace`` before a byte is written; then the folders."""
        async with self._ground.alone(step.volume_uid) as progress:
            await (await self._restore(step)).prepare(progress=lambda folders: progress.stir())
        return FillResult()

    @activity.defn
    async def fill_segments(self, step: FillInput) -> FillResult:
        """Data segments ``first`` to ``last``, digests checked as they stream."""
        async with self._ground.alone(step.volume_uid) as progress:
            restore = await self._restore(step)
            report = await restore.restore_segments(
                step.first, step.last, progress=progress.moved, restored=lambda number: progress.stir()
            )
        return FillResult(skipped=dict(report.skipped))

    @activity.defn
    async def finish_restore(self, step: FillInput) -> FillResult:
        """Links and metadata, then the comparison, then everything onto the disk."""
        async with self._ground.alone(step.volume_uid) as progress:
            restore = await self._restore(step)
            report = await restore.finish(progress=lambda entries: progress.stir())
            await restore.compare(progress=lambda entries: progress.stir())
            async with progress.bounded():
                await restore.sync()
            manifest = await self._manifest(step)
        totals = manifest.totals
        skipped = dict(report.skipped + Counter(totals.skipped))
        return FillResult(files=totals.files, raw_bytes=totals.file_bytes, skipped=skipped)

    @activity.defn
    async def fill_foreign(self, step: FillInput) -> FillResult:
        """An archive of somebody else, as one stream, then everything onto the disk.

        A stream cannot be gone on with, and what an earlier attempt wrote cannot be told apart: ``MoverFailed`` then,
        so that the workflow begins on a new volume.
        """
        if activity.info().attempt > 1:
            raise StorageError(ErrorCode.MOVER_FAILED, "the restore of a foreign archive was cut off")
        async with self._ground.alone(step.volume_uid) as progress:
            _, info, _ = await self._find(step)
            report = await restore_foreign(
                self._ground.root,
                self._ground.store,
                info,
                spool=self._ground.folder(),
                progress=progress.moved,
                wall=self._wall,
            )
            async with progress.bounded():
                await asyncio.to_thread(sync_folder, self._ground.root)
        return FillResult(files=report.files, raw_bytes=report.bytes, skipped=dict(report.skipped))

    async def _find(self, step: FillInput) -> tuple[Manifest | None, ObjectInfo, str]:
        if self._found is None:
            self._found = await find_archive(self._ground.store, step.archive_key, step.archive_id)
        return self._found

    async def _manifest(self, step: FillInput) -> Manifest:
        """The map. ``ArchiveNotFound`` if another archive took the place of the one that the workflow looked at."""
        manifest, _, found = await self._find(step)
        if manifest is None or found != step.archive_id:
            raise StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{step.archive_key} is no longer {step.archive_id}")
        return manifest

    async def _restore(self, step: FillInput) -> ArchiveRestore:
        return ArchiveRestore(
            self._ground.root,
            self._ground.store,
            await self._manifest(step),
            wall=self._wall,
            concurrency=self._ground.concurrency,
            pool=self._ground.pool,
            walker=self._ground.walker,
        )
