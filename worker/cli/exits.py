"""How a command ends: one status for each kind of outcome, so that a script needs to parse nothing."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codehub_storage.errors import StorageError


class Exit(IntEnum):
    """The statuses. A signal N that ends a command early makes it 128 + N."""

    DONE = 0
    BUG = 1
    USAGE = 2
    RETRY = 3
    OPERATOR = 4
    CANCELLED = 5
    TOO_LATE = 6


MEANINGS = {
    "0": "done, or nothing was left to do (a warning on stderr names what must be cleaned up)",
    "1": "a fault of this program",
    "2": "the call or a setting is wrong (InvalidInput); nothing was touched",
    "3": "failed, but the same call may succeed later (`retryable` is true)",
    "4": "failed, and a person has to look (`retryable` is false)",
    "5": "the operation was cancelled and undone (Cancelled)",
    "6": "`cancel`: too late, the operation is done",
    "130, 143": "stopped by Ctrl-C or SIGTERM; an operation that was started goes on",
}
"""The text of `--help` and of the documentation about each."""


def exit_of(error: StorageError) -> Exit:
    """The status for an error, by its kind."""
    from codehub_storage.errors import ErrorCode

    if error.code == ErrorCode.INVALID_INPUT:
        return Exit.USAGE
    if error.code == ErrorCode.CANCELLED:
        return Exit.CANCELLED
    return Exit.RETRY if error.retryable else Exit.OPERATOR
