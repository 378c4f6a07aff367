"""How a call of ours fails."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from codehub_storage.errors import ErrorCode, StorageError


async def refused(call: Awaitable[object]) -> StorageError:
    """The error with which a call fails; that it does not is a failure of the test."""
    with pytest.raises(StorageError) as caught:
        await call
    return caught.value


async def code_of(call: Awaitable[object]) -> ErrorCode | None:
    """The code with which a call fails; ``None`` for success."""
    try:
        await call
    except StorageError as error:
        return error.code
    return None
