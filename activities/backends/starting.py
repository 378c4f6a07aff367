"""What kept a mover from starting, as its last line: its backend gets no more of it than its exit and its output."""

from __future__ import annotations

import json

from codehub_storage.errors import ErrorCode, StorageError

_MARK = "the mover cannot start: "


def last_words(error: StorageError) -> str:
    """The line, for the mover to print."""
    return _MARK + json.dumps({"code": error.code.value, "message": error.message, "hint": error.hint})


def why_it_ended(death: str) -> StorageError:
    """The error for the end of a mover. It is that of its last line, with its own code where trying again does not
    help; else it is ``MoverFailed``."""
    words = death.rpartition("\n")[2]
    if words.startswith(_MARK):
        try:
            told = json.loads(words.removeprefix(_MARK))
            error = StorageError(ErrorCode(told["code"]), str(told["message"]), hint=str(told["hint"]))
        except (ValueError, KeyError, TypeError):
            return StorageError(ErrorCode.MOVER_FAILED, f"the mover ended: {death}")
        if error.transient:
            return StorageError(ErrorCode.MOVER_FAILED, f"{_MARK}{error}", hint=error.hint)
        return StorageError(error.code, f"{_MARK}{error.message}", hint=error.hint)
    return StorageError(ErrorCode.MOVER_FAILED, f"the mover ended: {death}")
