"""The four operations as a reconciler sees them: the seed's Protocol, with every error that may come."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class StorageProvider(Protocol):
    """Moves a workspace's home between a volume and an archive.

    Every call may be repeated at any time, after any crash: it looks first, goes on where an earlier call stopped,
    and answers at once where its postcondition holds. Errors are ``StorageError``; ``error.retryable`` says whether
    the same call may succeed later although nobody repaired anything. All calls may raise, besides those named:
    ``OperationInProgress`` (another operation of this workspace is running), ``InvalidInput``, ``WrongStore``,
    ``AccessDenied``, ``StoreUnavailable``, ``BackendUnavailable``, ``NotYours`` (overtaken by a newer run),
    ``ArchiveCorrupt`` (record or manifest cannot be read, or is another workspace's), ``Cancelled``.
    """

    async def provision(self, workspace_id: str) -> str:
        """Make a new, empty volume; answer its ``home_store_key``.

        ``LineageConflict``: an archive exists. ``VolumeLost``: it had a home, which is gone.
        ``VolumeConflict``: another volume has the name. ``NoSpace``,
        ``Unsupported``: the volume cannot be made as asked.
        """
        ...

    async def archive(self, home_store_key: str) -> str:
        """Volume to proven archive, then the volume deleted; answer the ``archive_key``.

        Answers too where the archive is proven but the volume could not be deleted; the full result says
        ``cleanup_required`` and calling again finishes the deletion. ``VolumeNotFound``, ``VolumeLost``,
        ``VolumeInUse``,
        ``VolumeUnreadable``, ``VolumeChanged``, ``VolumeConflict``, ``LineageConflict``, ``ArchiveTooLarge``,
        ``ArchiveCorrupt`` (the store did not keep what was written), ``ArchiveNotFound`` (the proven object went
        away), ``MoverFailed``, ``Unsupported``. In all of them the volume is kept.
        """
        ...

    async def restore(self, archive_key: str) -> str:
        """Archive to new volume; answer its ``home_store_key``. The archive stays.

        An archived workspace is taken from another place. A home that was lost is told in the full result.
        ``ArchiveNotFound``, ``ArchiveUnproven``, ``ArchiveCorrupt``, ``ArchiveLocked``, ``VolumeConflict``,
        ``NoSpace``, ``MoverFailed``, ``Unsupported``. No half-filled volume is ever handed out.
        """
        ...

    async def purge(self, home_store_key: str | None, archive_key: str | None) -> None:
        """Remove the volume, the archive, or both; missing is fine, ``None`` is out of scope and stays.

        ``VolumeInUse``, ``VolumeConflict``, ``ArchiveLocked``; ``PurgeIncomplete`` names what is left.
        """
        ...
