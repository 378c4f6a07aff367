"""The closed list of error codes, and what each asks of the caller and of the operator.

One table holds all of it: the client, the CLI, the activities and the documentation read it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple


class ErrorCode(StrEnum):
    """What went wrong. The list only grows; a reader maps a code that it does not know to ``UNKNOWN``."""

    OPERATION_IN_PROGRESS = "OperationInProgress"
    INVALID_INPUT = "InvalidInput"
    NOT_YOURS = "NotYours"
    WRONG_STORE = "WrongStore"
    STORE_UNAVAILABLE = "StoreUnavailable"
    ACCESS_DENIED = "AccessDenied"
    VOLUME_NOT_FOUND = "VolumeNotFound"
    VOLUME_LOST = "VolumeLost"
    VOLUME_IN_USE = "VolumeInUse"
    VOLUME_UNREADABLE = "VolumeUnreadable"
    VOLUME_CHANGED = "VolumeChanged"
    VOLUME_CONFLICT = "VolumeConflict"
    LINEAGE_CONFLICT = "LineageConflict"
    ARCHIVE_NOT_FOUND = "ArchiveNotFound"
    ARCHIVE_UNPROVEN = "ArchiveUnproven"
    ARCHIVE_CORRUPT = "ArchiveCorrupt"
    ARCHIVE_TOO_LARGE = "ArchiveTooLarge"
    ARCHIVE_LOCKED = "ArchiveLocked"
    NO_SPACE = "NoSpace"
    BACKEND_UNAVAILABLE = "BackendUnavailable"
    MOVER_FAILED = "MoverFailed"
    UNSUPPORTED = "Unsupported"
    PURGE_INCOMPLETE = "PurgeIncomplete"
    CANCELLED = "Cancelled"
    UNKNOWN = "Unknown"


class CodeFacts(NamedTuple):
    """What follows from a code.

    ``retryable``: the same call may succeed later without a repair.
    ``transient``: a step that meets it tries again by itself, bounded by time, before the operation fails.
    ``hint``: what a person does about it.
    """

    retryable: bool
    transient: bool
    hint: str


FACTS: Mapping[ErrorCode, CodeFacts] = {
    ErrorCode.OPERATION_IN_PROGRESS: CodeFacts(
        True, False, "Another operation of this workspace is running; wait for it, or cancel it."
    ),
    ErrorCode.INVALID_INPUT: CodeFacts(False, False, "Correct the call; nothing was touched."),
    ErrorCode.NOT_YOURS: CodeFacts(
        True, False, "A newer operation owns this workspace; look at that one. This attempt changed nothing more."
    ),
    ErrorCode.WRONG_STORE: CodeFacts(
        False,
        False,
        "The bucket or the volume place is not the one that `init` marked: check the mount, the bucket name and the "
        "place. Nothing was created, deleted or certified.",
    ),
    ErrorCode.STORE_UNAVAILABLE: CodeFacts(
        True, True, "Check that the object store is up and reachable; the source is untouched."
    ),
    ErrorCode.ACCESS_DENIED: CodeFacts(
        False, False, "Check the credentials and the rights that they have on the bucket or the volume place."
    ),
    ErrorCode.VOLUME_NOT_FOUND: CodeFacts(
        False, False, "There is neither the volume nor an archive made from it; look at the workspace's history."
    ),
    ErrorCode.VOLUME_LOST: CodeFacts(
        False,
        False,
        "The volume that the record calls ready is not there, and nobody of ours deleted it. Bring it back, or restore "
        "the last archive; to begin anew, call with `accept_loss` (`--accept-loss UID`).",
    ),
    ErrorCode.VOLUME_IN_USE: CodeFacts(
        True, False, "Stop what uses the volume (it is named in the message) and call again."
    ),
    ErrorCode.VOLUME_UNREADABLE: CodeFacts(
        True, False, "A file of the volume cannot be read (it is named); repair the disk or the file and call again."
    ),
    ErrorCode.VOLUME_CHANGED: CodeFacts(
        True, False, "Somebody writes to the volume; stop that and call again. The volume is kept."
    ),
    ErrorCode.VOLUME_CONFLICT: CodeFacts(
        False,
        False,
        "A volume stands there which this operation may not touch; both sides are kept. If an archive was left with "
        "`cleanup_required`, archive again.",
    ),
    ErrorCode.LINEAGE_CONFLICT: CodeFacts(
        False,
        False,
        "The volume and the archive have different origins and neither may replace the other; decide which one is "
        "right and purge the other by its key.",
    ),
    ErrorCode.ARCHIVE_NOT_FOUND: CodeFacts(
        False, False, "No such archive in this bucket; check the key, and the archive id if one was given."
    ),
    ErrorCode.ARCHIVE_UNPROVEN: CodeFacts(
        False,
        False,
        "The archive was never proven, or its manifest is missing: run `codehub-storage verify KEY --write-manifest`.",
    ),
    ErrorCode.ARCHIVE_CORRUPT: CodeFacts(
        False, False, "The stored bytes are not what was written; nothing was handed out. Restore the object first."
    ),
    ErrorCode.ARCHIVE_TOO_LARGE: CodeFacts(
        False, False, "The volume is past the stated limit of one archive; make it smaller or split it."
    ),
    ErrorCode.ARCHIVE_LOCKED: CodeFacts(
        False, False, "The object is frozen, locked, or subject to an expiry rule; lift that and call again."
    ),
    ErrorCode.NO_SPACE: CodeFacts(True, False, "Free space or inodes at the place that is named, then call again."),
    ErrorCode.BACKEND_UNAVAILABLE: CodeFacts(
        True, True, "Check that the volume place (engine, cluster, disk) is up; the source is untouched."
    ),
    ErrorCode.MOVER_FAILED: CodeFacts(
        True, False, "The process that moves the bytes died repeatedly; its log says why. Call again."
    ),
    ErrorCode.UNSUPPORTED: CodeFacts(
        False, False, "This store, volume or archive needs something that this version does not have."
    ),
    ErrorCode.PURGE_INCOMPLETE: CodeFacts(
        True, False, "What is left is named in the message; remove the cause and purge again."
    ),
    ErrorCode.CANCELLED: CodeFacts(True, False, "The operation was cancelled and undone."),
    ErrorCode.UNKNOWN: CodeFacts(False, False, "This client does not know the code; upgrade it, then look at the run."),
}


class StorageError(Exception):
    """The one error of this package: a code of the closed list, a message, a hint, and details for programs.

    Details never hold credentials or file contents.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, hint: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint or FACTS[code].hint
        self.details: dict[str, Any] = dict(details or {})

    @property
    def retryable(self) -> bool:
        """True where the same call may succeed later without a repair."""
        return FACTS[self.code].retryable

    @property
    def transient(self) -> bool:
        """True where a step tries again by itself before the operation fails."""
        return FACTS[self.code].transient

    def __str__(self) -> str:
        return f"{self.code.value}: {self.message}"

    @classmethod
    def from_type(cls, type_name: str | None, message: str, **kwargs: Any) -> StorageError:
        """The error whose code was on the wire as ``type_name``; unknown names become ``UNKNOWN``."""
        try:
            code = ErrorCode(type_name or "")
        except ValueError:
            code, message = ErrorCode.UNKNOWN, f"{type_name}: {message}" if type_name else message
        return cls(code, message, **kwargs)
