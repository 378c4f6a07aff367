"""What the activities that move bytes have in common. They run in a mover, beside the volume, and nowhere else."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from temporalio import activity

from activities.dataplane.archiver import GIVE_UP_STATUS, ArchiverDied
from activities.dataplane.copy import Means
from activities.dataplane.plan import PlanLimits
from activities.mover.attempts import Attempts
from activities.objectstore.base import ObjectInfo, ObjectStore
from activities.runtime.heartbeats import Progress, beating, last_records
from activities.runtime.scratch import scratch_prefix
from activities.state.fence import FencedRecord
from codehub_storage.errors import ErrorCode, StorageError
from workflows.messages import StoredArchive

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MoverContext:
    """What a mover has: the volume's directory, the store, and the bounds of its work.

    ``lock_fd``: the lock of the volume, which what it starts holds as well. [B1]
    """

    root: Path
    store: ObjectStore
    place: str
    backend: str
    volume_uid: str
    limits: PlanLimits = field(default_factory=PlanLimits)
    concurrency: int = 4
    budget_bytes: int = 32 << 20
    lock_fd: int | None = None
    attempts: Attempts = field(default_factory=Attempts)
    epoch: int | None = None
    spool: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix=scratch_prefix(os.getpid()))))

    @property
    def means(self) -> Means:
        """What packing may use."""
        return Means(threads=self.concurrency, memory_bytes=self.budget_bytes, lock_fd=self.lock_fd)

    def close(self) -> None:
        """Remove the temporary directory."""
        shutil.rmtree(self.spool, ignore_errors=True)

    def folder(self) -> Path:
        """A new temporary directory."""
        return Path(tempfile.mkdtemp(dir=self.spool))

    def fenced(self, workspace_id: str) -> FencedRecord:
        """The workspace's record as the current run may write it."""
        return FencedRecord(self.store, workspace_id, activity.info().workflow_run_id or "", self.epoch)

    @contextlib.asynccontextmanager
    async def exclusive_attempt(self, volume_uid: str) -> AsyncIterator[Progress]:
        """The only attempt in this mover, heartbeating from its progress. ``NotYours`` for another volume's work."""
        if volume_uid != self.volume_uid:
            raise StorageError(ErrorCode.NOT_YOURS, f"this mover serves volume {self.volume_uid}, not {volume_uid}")
        progress = Progress(last_records())
        async with self.attempts.exclusive(), beating(progress):
            try:
                yield progress
            except ArchiverDied as died:
                # Out of memory, say. The lease replaces a mover that ends, a few times, and tells what it said last.
                log.critical("%s, so the mover ends. %s", died.message, died.hint or "")
                os._exit(GIVE_UP_STATUS)


def object_info(stored: StoredArchive) -> ObjectInfo:
    """The object that a step of this run completed."""
    return ObjectInfo(
        key=stored.key,
        size_bytes=stored.size_bytes,
        etag=stored.etag,
        version_id=stored.version_id,
        crc64=bytes.fromhex(stored.crc64) if stored.crc64 else None,
    )
