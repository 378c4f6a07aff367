"""What a person who reads of a failure wants to know first: is anything lost?

The promises are those of DESIGN.md. An archive deletes its volume only when its archive is proven, and what fails from
there on is reported as done, with what is left; so an archive that *fails* has its volume.
"""

from __future__ import annotations

from codehub_storage.contracts import Operation
from codehub_storage.errors import ErrorCode

_REFUSED = "nothing was touched"
_ANY_OPERATION = {
    ErrorCode.INVALID_INPUT: _REFUSED,
    ErrorCode.OPERATION_IN_PROGRESS: "this call touched nothing; the run that is open goes on",
    ErrorCode.WRONG_STORE: _REFUSED,
    ErrorCode.NOT_YOURS: "this run changed nothing any more; a newer one owns the workspace",
    ErrorCode.VOLUME_LOST: "nothing was touched; the volume was gone before, and an archive that exists is kept",
    ErrorCode.LINEAGE_CONFLICT: "nothing was touched: volume and archive are both kept",
    # Perhaps only this command can no longer reach it.
    ErrorCode.BACKEND_UNAVAILABLE: "a complete copy exists; an operation that was started may still go on",
    ErrorCode.UNKNOWN: "a complete copy exists; which one, `codehub-storage show` tells",
}
_OF_A_VOLUME = (
    ErrorCode.VOLUME_IN_USE,
    ErrorCode.VOLUME_UNREADABLE,
    ErrorCode.VOLUME_CHANGED,
    ErrorCode.ARCHIVE_TOO_LARGE,
    ErrorCode.ARCHIVE_CORRUPT,
    ErrorCode.MOVER_FAILED,
)
"""An archive that fails of one of these has seen its volume. Of others, it may have gone before, and be archived."""
_BY_OPERATION = {
    Operation.PROVISION: {
        ErrorCode.CANCELLED: "it was undone, nothing was handed out",
    },
    Operation.ARCHIVE: {
        ErrorCode.CANCELLED: "it was undone, the volume is intact",
        ErrorCode.VOLUME_NOT_FOUND: "nothing was touched: there is no such volume, and no archive of it",
        ErrorCode.VOLUME_CONFLICT: "the volume that stands there was not touched",
        **dict.fromkeys(_OF_A_VOLUME, "the volume is intact"),
    },
    Operation.RESTORE: {
        ErrorCode.CANCELLED: "it was undone, and no archive was touched",
        ErrorCode.ARCHIVE_NOT_FOUND: "nothing was touched: there is no such archive",
        ErrorCode.ARCHIVE_CORRUPT: "nothing was handed out, and the archive was not changed",
        ErrorCode.VOLUME_CONFLICT: "neither the archive nor the volume that stands there was touched",
    },
    Operation.PURGE: {
        ErrorCode.PURGE_INCOMPLETE: "what is named as left is still there; nothing was touched that was not named",
    },
}
_DEFAULTS = {
    Operation.PROVISION: "nothing was handed out; what was begun is removed, or taken over by the next call",
    Operation.ARCHIVE: "nothing was deleted: a volume goes only when its archive is proven",
    Operation.RESTORE: "no archive was touched, and nothing half-made was handed out",
    Operation.PURGE: "nothing was touched that was not named; what was named may be gone in part",
}


def what_is_safe(operation: Operation, code: ErrorCode, *, started: bool) -> str:
    """One sentence. ``started``: whether a run of the operation was started or joined."""
    found = _ANY_OPERATION.get(code) or _BY_OPERATION[operation].get(code)
    if not started and code != ErrorCode.OPERATION_IN_PROGRESS:
        return "nothing was started"
    return found or _DEFAULTS[operation]
