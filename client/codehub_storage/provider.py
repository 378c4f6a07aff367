"""The four operations as a reconciler sees them: the seed's Protocol, with every error that may come."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class StorageProvider(Protocol):
    """Moves a workspace's home between a volume and an archive.

    Every call may be repeated at any time, after any crash. It inspects first, continues where an earlier call stopped,
    and returns at once where its postcondition holds.

    Raises:
        StorageError: if ``error.retryable``, the same call may succeed later without a repair.
            Besides the codes that each call names, all may raise ``OperationInProgress`` (another operation
            of this workspace is running), ``NotYours`` (overtaken by a newer run), ``Cancelled``, ``InvalidInput``,
            ``WrongStore``, ``AccessDenied``, ``StoreUnavailable``, ``BackendUnavailable``, ``NoSpace``,
            ``ArchiveCorrupt`` (record or manifest cannot be read, or is another workspace's), ``Unsupported``, and
            ``Unknown`` (a code of a service that is newer than this client).
    """

    async def provision(self, workspace_id: str) -> str:
        """Make a new, empty volume; return its ``home_store_key``.

        Raises:
            StorageError: ``LineageConflict`` (an archive exists), ``VolumeLost`` (it had a home, which is gone),
                ``VolumeConflict`` (another volume has the name), ``VolumeInUse`` (what an earlier run left is in use),
                ``ArchiveNotFound`` (its home was archived, and that archive is gone).
        """
        ...

    async def archive(self, home_store_key: str) -> str:
        """Volume to proven archive, then the volume deleted; return the ``archive_key``.

        It returns, too, where the archive is proven but the volume could not be deleted. The full result then has
        ``cleanup_required``, and calling again finishes the deletion.

        Raises:
            StorageError: the volume is kept. ``VolumeNotFound`` (there is neither the volume nor an archive of it),
                ``VolumeLost``, ``VolumeInUse``, ``VolumeUnreadable``, ``VolumeChanged`` (a process writes to it),
                ``VolumeConflict``, ``LineageConflict``, ``ArchiveTooLarge``, ``ArchiveCorrupt`` (the store did not
                keep what was written), ``ArchiveNotFound`` (the proven object went away), ``MoverFailed``.
        """
        ...

    async def restore(self, archive_key: str) -> str:
        """Archive to new volume; return its ``home_store_key``. The archive stays.

        An archived workspace is taken from another place. A home that was lost is reported in the full result.

        Raises:
            StorageError: no half-filled volume is handed out. ``ArchiveNotFound``, ``ArchiveUnproven``,
                ``ArchiveCorrupt`` (its bytes are not what was stored: a person must step in), ``ArchiveLocked``,
                ``ArchiveTooLarge`` (the volume's file system cannot hold it), ``VolumeConflict`` (another volume
                is there), ``VolumeInUse``, ``VolumeUnreadable``, ``MoverFailed``.
        """
        ...

    async def purge(self, home_store_key: str | None, archive_key: str | None) -> None:
        """Remove the archive and the volume that are named; missing is fine, ``None`` is out of scope and stays.

        Raises:
            StorageError: ``VolumeInUse``, ``VolumeConflict``, ``VolumeChanged`` (nothing was removed);
                ``PurgeIncomplete`` (a deletion failed, the message and the details name what is left: call again),
                with what caused it, such as ``ArchiveLocked``, in the message.
        """
        ...
