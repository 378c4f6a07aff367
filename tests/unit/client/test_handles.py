"""What the handle of an operation says where the server does not answer."""

from __future__ import annotations

from typing import Any, cast

import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from codehub_storage import ErrorCode, OperationHandle, OperationResult, StorageError
from codehub_storage.contracts import Operation


class Unreachable:
    """A server that is away."""

    async def describe(self) -> None:
        raise RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")

    async def result(self) -> None:
        await self.describe()


@pytest.mark.parametrize("call", ["progress", "result"])
async def test_a_server_that_is_away_is_one_of_our_errors(call: str) -> None:
    """Callers catch `StorageError` and nothing else."""
    away = cast(WorkflowHandle[Any, OperationResult], Unreachable())
    handle = OperationHandle("ws1", Operation.ARCHIVE, "run", away)
    with pytest.raises(StorageError) as caught:
        await getattr(handle, call)()
    assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE
