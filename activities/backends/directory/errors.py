"""Errors of the operating system, as the codes of this service; translated here and nowhere else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from codehub_storage.errors import ErrorCode, StorageError

_CODES = {
    errno.ENOSPC: ErrorCode.NO_SPACE,
    errno.EDQUOT: ErrorCode.NO_SPACE,
    errno.EACCES: ErrorCode.ACCESS_DENIED,
    errno.EPERM: ErrorCode.ACCESS_DENIED,
    errno.EBUSY: ErrorCode.VOLUME_IN_USE,
}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """``OSError`` becomes ``NoSpace``, ``AccessDenied``, ``VolumeInUse`` (a mount) or ``BackendUnavailable``."""
    try:
        yield
    except OSError as error:
        code = _CODES.get(error.errno or 0, ErrorCode.BACKEND_UNAVAILABLE)
        hint = "Set TMPDIR to a shorter path." if "AF_UNIX path too long" in str(error) else None
        raise StorageError(code, f"{what}: {error}", hint=hint) from error
