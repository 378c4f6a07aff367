"""What the handle of an operation says where the server does not answer."""

from __future__ import annotations

import pytest
from temporalio.client import Client

from codehub_storage import ErrorCode, OperationHandle, StorageError
from codehub_storage.contracts import Operation
from codehub_storage.keys import workflow_id


@pytest.mark.parametrize("call", ["progress", "result", "cancel"])
async def test_a_server_that_is_away_is_one_of_our_errors(call: str) -> None:
    """Callers catch `StorageError` and nothing else."""
    client = await Client.connect("127.0.0.1:1", lazy=True)
    away = client.get_workflow_handle(workflow_id("ws1"), run_id="run")
    handle = OperationHandle("ws1", Operation.ARCHIVE, "run", away, client)
    with pytest.raises(StorageError) as caught:
        await getattr(handle, call)()
    assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE
