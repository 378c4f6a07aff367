"""What activities work with: the store, the backend, and the few settings that concern them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from temporalio import activity

from activities.backends.base import VolumeBackend
from activities.objectstore.base import ObjectInfo, ObjectStore
from activities.objectstore.identity import StoreIdentity, check_place, load_identity
from activities.state.fence import FencedRecord
from codehub_storage.errors import ErrorCode, StorageError


@dataclass(frozen=True)
class Services:
    """One place and the bucket that its archives go to.

    ``settle_seconds`` overrides that of the store's identity. ``sync_dir``: the embedded store's directory, synced
    instead. ``retention_keep``: older archive versions stay. ``epoch``: the store's when this process began; a run that
    claimed in another is fenced off.
    """

    store: ObjectStore
    backend: VolumeBackend
    place: str
    retention_keep: bool = False
    settle_seconds: float | None = None
    sync_dir: str | None = None
    time_scale: float = 1.0
    epoch: int | None = None

    def fenced(self, workspace_id: str) -> FencedRecord:
        """The workspace's record as the current run may write it."""
        return FencedRecord(self.store, workspace_id, activity.info().workflow_run_id or "", self.epoch)

    async def delete(self, key: str, version: ObjectInfo) -> None:
        """Delete one listed version, by its id, or by its ETag where it has none."""
        await self.store.delete(key, version_id=version.version_id, etag=version.etag or None)

    async def outwait_deletes(self, attempt: int) -> None:
        """[H4] Return when no DELETE of an earlier attempt can take effect any more.

        An earlier attempt failed, or was killed, perhaps with a DELETE under way whose response it never saw. Where
        the store obeys If-Match that one can hit nothing newer; elsewhere only waiting helps.
        """
        if attempt > 1:
            identity = await load_identity(self.store)
            if not identity.capabilities.conditional_delete:
                await asyncio.sleep(self.delete_wait(identity))

    def settle(self, identity: StoreIdentity) -> float:
        """Seconds that a complete object is left alone before it is read back."""
        if self.sync_dir is not None:
            return 0.0
        return identity.settle_seconds if self.settle_seconds is None else self.settle_seconds

    def delete_wait(self, identity: StoreIdentity) -> float:
        """Seconds after which an unanswered DELETE can no longer take effect (the client's read time-out)."""
        return identity.delete_wait_seconds * self.time_scale

    async def verify_identity(self) -> StoreIdentity:
        """The store's identity. ``WrongStore`` unless bucket and place are the ones that `init` marked."""
        identity = await load_identity(self.store)
        place_identity = await self.backend.identity()
        if place_identity is None:
            raise StorageError(
                ErrorCode.WRONG_STORE,
                f"place {self.place!r} has no identity: not mounted, or never marked",
                hint="Mount the volume root, or run `codehub-storage init` once for a new one.",
            )
        check_place(identity, self.place, place_identity)
        if self.epoch not in (None, identity.epoch):
            raise StorageError(
                ErrorCode.WRONG_STORE,
                f"the bucket is in epoch {identity.epoch}, this worker began in epoch {self.epoch}",
                hint="`init --adopt` was run since: start the workers anew.",
            )
        return identity
