"""Storage operations behind a web service: a request starts one and gets its response at once, the client polls.

| request | does |
|---|---|
| ``POST /workspaces/{id}/provision``, ``/archive``, ``/restore`` | starts the operation, or joins the open run of it |
| ``DELETE /workspaces/{id}`` | the same with purge |
| ``POST /workspaces/{id}/cancel`` | stops what runs and undoes it; returns ``cancelled`` or ``too_late`` |
| ``GET /workspaces/{id}`` | phase, bytes, last error and next attempt of the latest operation |

An operation responds with 202, its run id and the ``Location`` to poll. ``?wait=20`` waits up to 20 seconds first: 200
with the result if it ends in time, the status of its error if it fails. No state is kept here. Any request may be sent
again, after any crash, to any instance of this service. It joins the open run, or continues where an ended one stopped.

Run it with TEMPORAL_ADDRESS and the like in the environment (see ``codehub_storage.connect``):

    pip install fastapi uvicorn
    uvicorn --factory --app-dir examples fastapi_handler:create_app
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, cast

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from codehub_storage import (
    CancelOutcome,
    ErrorCode,
    OperationHandle,
    OperationResult,
    Progress,
    StorageClient,
    StorageError,
    keys,
)

CONFLICTS = {
    *(ErrorCode.OPERATION_IN_PROGRESS, ErrorCode.NOT_YOURS, ErrorCode.CANCELLED),
    *(ErrorCode.VOLUME_IN_USE, ErrorCode.VOLUME_CHANGED, ErrorCode.VOLUME_CONFLICT, ErrorCode.LINEAGE_CONFLICT),
}
STATUS = {
    ErrorCode.INVALID_INPUT: 400,
    ErrorCode.VOLUME_NOT_FOUND: 404,
    ErrorCode.ARCHIVE_NOT_FOUND: 404,
    ErrorCode.NO_SPACE: 507,
    **dict.fromkeys(CONFLICTS, 409),
}
"""Of all other codes: 503 may be sent again, 500 is for an operator."""
RETRY_SECONDS = 5

router = APIRouter(prefix="/workspaces/{workspace_id}")


def create_app(place: str = "default") -> FastAPI:
    """The service for one volume place. It connects once, as it starts."""

    @asynccontextmanager
    async def connected(app: FastAPI) -> AsyncIterator[None]:
        app.state.storage = await StorageClient.connect(place=place)
        yield

    app = FastAPI(title="Workspace storage", lifespan=connected)
    app.include_router(router)
    app.add_exception_handler(StorageError, answer_error)
    return app


def connected_storage(request: Request) -> StorageClient:
    """The one client of this process."""
    return cast(StorageClient, request.app.state.storage)


Storage = Annotated[StorageClient, Depends(connected_storage)]
Wait = Annotated[float, Query(ge=0, le=60, description="So many seconds the answer may wait for the end.")]


class Started(BaseModel):
    """An operation that runs on."""

    operation: str
    workspace_id: str
    run_id: str


Outcome = Started | OperationResult


def home_store_key(workspace_id: str) -> str:
    """The volume's name by the rule of directory and Docker places. Better: keep what ``provision`` returned."""
    return f"ws_{workspace_id}_home"


@router.post("/provision", status_code=202)
async def provision(workspace_id: str, storage: Storage, response: Response, wait: Wait = 0) -> Outcome:
    """A new, empty volume."""
    return await answer(await storage.start_provision(workspace_id), response, wait)


@router.post("/archive", status_code=202)
async def archive(workspace_id: str, storage: Storage, response: Response, wait: Wait = 0) -> Outcome:
    """WARM to COLD."""
    return await answer(await storage.start_archive(home_store_key(workspace_id)), response, wait)


@router.post("/restore", status_code=202)
async def restore(workspace_id: str, storage: Storage, response: Response, wait: Wait = 0) -> Outcome:
    """COLD to WARM."""
    return await answer(await storage.start_restore(keys.archive_key(workspace_id)), response, wait)


@router.delete("", status_code=202)
async def purge(workspace_id: str, storage: Storage, response: Response, wait: Wait = 0) -> Outcome:
    """Volume and archive, whichever there is."""
    handle = await storage.start_purge(home_store_key(workspace_id), keys.archive_key(workspace_id))
    return await answer(handle, response, wait)


@router.post("/cancel")
async def cancel(workspace_id: str, storage: Storage) -> dict[str, CancelOutcome]:
    """Returns when it is undone, or done."""
    return {"outcome": await storage.cancel(workspace_id)}


@router.get("")
async def progress(workspace_id: str, storage: Storage) -> Progress:
    """``closed`` with the phase ``done``: it succeeded. ``closed`` with another one: it failed by ``last_error``."""
    found = await storage.progress(workspace_id)
    if found is None:
        raise HTTPException(404, f"no operation of workspace {workspace_id} is known")
    return found


async def answer(handle: OperationHandle, response: Response, wait: float) -> Outcome:
    """The result if it is there in time. Giving up to wait leaves the operation alone."""
    try:
        async with asyncio.timeout(wait):
            result = await handle.result()
    except TimeoutError:
        response.headers["Location"] = f"/workspaces/{handle.workspace_id}"
        return Started(operation=handle.operation, workspace_id=handle.workspace_id, run_id=handle.run_id)
    response.status_code = 200
    return result


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """Code and hint as the command line prints them; the status shows programs whether to try again."""
    assert isinstance(error, StorageError)
    status = STATUS.get(error.code, 503 if error.retryable else 500)
    told = {"code": error.code, "message": error.message, "retryable": error.retryable, "hint": error.hint}
    headers = {"Retry-After": str(RETRY_SECONDS)} if error.retryable else None
    return JSONResponse({"error": {**told, "details": error.details}}, status, headers)
