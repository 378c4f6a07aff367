"""StorageClient: the typed door to the service, over Temporal.

One workflow id per workspace, whatever the operation, so the server runs one at a time. An open run of the same
operation and input is joined; any other is ``OperationInProgress``. Nothing is remembered here: a new call starts a
new run, whose first steps look at the world and answer at once where nothing is left to do.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import re
import time
from dataclasses import dataclass
from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
)
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from codehub_storage import keys
from codehub_storage.contracts import (
    DEFAULT_PLACE,
    UID_PATTERN,
    ArchiveInput,
    CancelOutcome,
    Contract,
    Operation,
    OperationResult,
    Progress,
    ProvisionInput,
    PurgeInput,
    RestoreInput,
    VolumeSpec,
)
from codehub_storage.converter import DATA_CONVERTER
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.runs import outcome, progress_of, unreachable

WS_ID = SearchAttributeKey.for_keyword("WsId")
WS_OP = SearchAttributeKey.for_keyword("WsOp")
_INPUT_DIGEST = "input-digest"
_STARTS = 3
_LAST_WAIT_SECONDS = 0.05


async def connect(**options: Any) -> Client:
    """A Temporal client as the environment says (``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ...).

    ``options`` override single settings of ``temporalio.client.Client.connect``. ``BackendUnavailable`` if there is
    no server.
    """
    _wait_at_exit()
    settings: dict[str, Any] = {**ClientConfig.load_client_connect_config(), **options}
    try:
        return await Client.connect(**{"data_converter": DATA_CONVERTER, **settings})
    except RuntimeError as error:
        raise StorageError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"no Temporal server at {settings.get('target_host')}",
            hint="Check TEMPORAL_ADDRESS and that the server is up.",
        ) from error


@functools.cache
def _wait_at_exit() -> None:
    """Let the SDK's threads drop what they hold of a finished call before the interpreter is torn down.

    Otherwise one that comes to that later ends the process with SIGABRT or SIGSEGV: with both cores busy, one in five
    programs that did nothing but connect (https://github.com/temporalio/sdk-python/issues/300).
    """
    atexit.register(time.sleep, _LAST_WAIT_SECONDS)


@dataclass(frozen=True)
class OperationHandle:
    """A started (or joined) operation. Poll ``progress``, or await ``result``."""

    workspace_id: str
    operation: Operation
    run_id: str
    _handle: WorkflowHandle[Any, OperationResult]

    async def result(self) -> OperationResult:
        """Wait for the end. ``StorageError`` if it failed or was cancelled."""
        return await outcome(self._handle)

    async def progress(self) -> Progress:
        """Phase, bytes, last error, next attempt. ``BackendUnavailable`` if the server does not answer."""
        try:
            return await progress_of(self._handle, self.workspace_id)
        except RPCError as error:
            raise unreachable(error) from error

    async def cancel(self) -> None:
        """Ask this run to stop and undo. How that ends, ``result`` tells: ``Cancelled``, or what it returns if it was
        too late. Fine if it has ended."""
        await _request_cancel(self._handle)


class StorageClient:
    """``StorageProvider`` over Temporal.

    ``place`` is where this client's workspaces live; every call can name another.
    """

    def __init__(self, client: Client, *, place: str = DEFAULT_PLACE) -> None:
        self._client = client
        self._place = place

    @classmethod
    async def connect(cls, *, place: str = DEFAULT_PLACE, **options: Any) -> StorageClient:
        """Connect as the environment says; see ``codehub_storage.client.connect``."""
        return cls(await connect(**options), place=place)

    # ------------------------------------------------------------ the four operations, blocking

    async def provision(
        self,
        workspace_id: str,
        *,
        place: str | None = None,
        size_bytes: int | None = None,
        storage_class: str | None = None,
        accept_loss: str | None = None,
    ) -> str:
        """See ``StorageProvider.provision``. Size and class are wishes to the backend.

        ``accept_loss``: the uid of a volume that was lost, and that a new one may stand in for.
        """
        handle = await self.start_provision(
            workspace_id, place=place, size_bytes=size_bytes, storage_class=storage_class, accept_loss=accept_loss
        )
        return _required((await handle.result()).home_store_key)

    async def archive(
        self,
        home_store_key: str,
        *,
        place: str | None = None,
        expected_volume_uid: str | None = None,
        remove_stopped: bool = False,
    ) -> str:
        """See ``StorageProvider.archive``.

        ``expected_volume_uid``: ``VolumeConflict`` if another volume has the name by now. ``remove_stopped``: stopped
        containers and finished Pods of this workspace that hold the volume may be removed.
        """
        handle = await self.start_archive(
            home_store_key, place=place, expected_volume_uid=expected_volume_uid, remove_stopped=remove_stopped
        )
        return _required((await handle.result()).archive_key)

    async def restore(
        self,
        archive_key: str,
        *,
        place: str | None = None,
        archive_id: str | None = None,
        size_bytes: int | None = None,
        storage_class: str | None = None,
        accept_loss: str | None = None,
        old_place_is_dead: bool = False,
    ) -> str:
        """See ``StorageProvider.restore``. ``archive_id``: a kept older version instead of the current one.

        An archived workspace is taken from another place as it is. ``accept_loss``: the uid of a volume there that may
        hold newer work and is given up. ``old_place_is_dead``: the last run there has not ended, and never will.
        """
        handle = await self.start_restore(
            archive_key,
            place=place,
            archive_id=archive_id,
            size_bytes=size_bytes,
            storage_class=storage_class,
            accept_loss=accept_loss,
            old_place_is_dead=old_place_is_dead,
        )
        return _required((await handle.result()).home_store_key)

    async def purge(
        self,
        home_store_key: str | None,
        archive_key: str | None,
        *,
        place: str | None = None,
        expected_volume_uid: str | None = None,
        remove_stopped: bool = False,
        accept_loss: str | None = None,
        old_place_is_dead: bool = False,
    ) -> None:
        """See ``StorageProvider.purge``. With two ``None`` nothing is started.

        ``accept_loss``, ``old_place_is_dead``: as in ``restore``.
        """
        if home_store_key is None and archive_key is None:
            return
        handle = await self.start_purge(
            home_store_key,
            archive_key,
            place=place,
            expected_volume_uid=expected_volume_uid,
            remove_stopped=remove_stopped,
            accept_loss=accept_loss,
            old_place_is_dead=old_place_is_dead,
        )
        await handle.result()

    # ------------------------------------------------------------ start and poll

    async def start_provision(
        self,
        workspace_id: str,
        *,
        place: str | None = None,
        size_bytes: int | None = None,
        storage_class: str | None = None,
        accept_loss: str | None = None,
    ) -> OperationHandle:
        """Start ``provision``, or join it."""
        return await self._start(
            Operation.PROVISION,
            ProvisionInput(
                workspace_id=keys.check_workspace_id(workspace_id),
                place=place or self._place,
                volume=_volume(size_bytes, storage_class),
                accept_loss=_uid(accept_loss),
            ),
        )

    async def start_archive(
        self,
        home_store_key: str,
        *,
        place: str | None = None,
        expected_volume_uid: str | None = None,
        remove_stopped: bool = False,
    ) -> OperationHandle:
        """Start ``archive``, or join it."""
        return await self._start(
            Operation.ARCHIVE,
            ArchiveInput(
                workspace_id=keys.workspace_of_volume(home_store_key),
                home_store_key=home_store_key,
                place=place or self._place,
                expected_volume_uid=expected_volume_uid,
                remove_stopped=remove_stopped,
            ),
        )

    async def start_restore(
        self,
        archive_key: str,
        *,
        place: str | None = None,
        archive_id: str | None = None,
        size_bytes: int | None = None,
        storage_class: str | None = None,
        accept_loss: str | None = None,
        old_place_is_dead: bool = False,
    ) -> OperationHandle:
        """Start ``restore``, or join it."""
        return await self._start(
            Operation.RESTORE,
            RestoreInput(
                workspace_id=keys.workspace_of_archive(archive_key),
                archive_key=archive_key,
                archive_id=archive_id,
                place=place or self._place,
                volume=_volume(size_bytes, storage_class),
                accept_loss=_uid(accept_loss),
                old_place_is_dead=old_place_is_dead,
            ),
        )

    async def start_purge(
        self,
        home_store_key: str | None,
        archive_key: str | None,
        *,
        place: str | None = None,
        expected_volume_uid: str | None = None,
        remove_stopped: bool = False,
        accept_loss: str | None = None,
        old_place_is_dead: bool = False,
    ) -> OperationHandle:
        """Start ``purge``, or join it. ``InvalidInput`` for no key, or for keys of two workspaces."""
        named = {keys.workspace_of_volume(home_store_key)} if home_store_key is not None else set()
        named |= {keys.workspace_of_archive(archive_key)} if archive_key is not None else set()
        if len(named) != 1:
            raise StorageError(ErrorCode.INVALID_INPUT, "purge takes one or two keys, of one workspace")
        return await self._start(
            Operation.PURGE,
            PurgeInput(
                workspace_id=named.pop(),
                home_store_key=home_store_key,
                archive_key=archive_key,
                place=place or self._place,
                expected_volume_uid=expected_volume_uid,
                remove_stopped=remove_stopped,
                accept_loss=_uid(accept_loss),
                old_place_is_dead=old_place_is_dead,
            ),
        )

    async def progress(self, workspace_id: str) -> Progress | None:
        """The workspace's latest operation; ``None`` if the server knows of none."""
        handle = self._client.get_workflow_handle(keys.workflow_id(keys.check_workspace_id(workspace_id)))
        try:
            return await progress_of(handle, workspace_id)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise unreachable(error) from error

    # ------------------------------------------------------------ the user comes back

    async def cancel(self, workspace_id: str, *, place: str | None = None) -> CancelOutcome:
        """Stop what runs and undo it. ``CANCELLED``: the workspace is as it was before. ``TOO_LATE``: it is done.

        Where nothing runs, an archive is asked to look whether an earlier one is past its point of no return:
        ``CANCELLED`` then means that the volume is there and ready. ``VolumeNotFound`` if there is none and no archive.
        """
        handle = await self._open_run(workspace_id)
        if handle is not None:
            await _request_cancel(handle)
        else:
            started = await self._start(
                Operation.ARCHIVE,
                ArchiveInput(
                    workspace_id=keys.check_workspace_id(workspace_id), place=place or self._place, cancel_only=True
                ),
            )
            handle = started._handle
        try:
            await outcome(handle)
        except StorageError as error:
            if error.code == ErrorCode.CANCELLED:
                return CancelOutcome.CANCELLED
            raise
        return CancelOutcome.TOO_LATE

    async def _open_run(self, workspace_id: str) -> WorkflowHandle[Any, OperationResult] | None:
        workflow_id = keys.workflow_id(keys.check_workspace_id(workspace_id))
        handle = self._client.get_workflow_handle(workflow_id, result_type=OperationResult)
        try:
            description = await handle.describe()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise unreachable(error) from error
        if description.status != WorkflowExecutionStatus.RUNNING:
            return None
        return self._client.get_workflow_handle(workflow_id, run_id=description.run_id, result_type=OperationResult)

    # ------------------------------------------------------------ starting

    async def _start(
        self, operation: Operation, request: ProvisionInput | ArchiveInput | RestoreInput | PurgeInput
    ) -> OperationHandle:
        """Start or join. The policy is FAIL: the server's own adoption ignores type and input."""
        workflow_id = keys.workflow_id(request.workspace_id)
        digest = input_digest(operation, request)
        for _ in range(_STARTS):
            try:
                handle: WorkflowHandle[Any, OperationResult] = await self._client.start_workflow(
                    operation.value,
                    request,
                    id=workflow_id,
                    task_queue=keys.storage_queue(request.place),
                    result_type=OperationResult,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    memo={_INPUT_DIGEST: digest},
                    search_attributes=TypedSearchAttributes(
                        [
                            SearchAttributePair(WS_ID, request.workspace_id),
                            SearchAttributePair(WS_OP, operation.value),
                        ]
                    ),
                    static_summary=f"{operation.value} workspace {request.workspace_id}",
                    static_details=_details(operation, request),
                )
                return OperationHandle(request.workspace_id, operation, handle.first_execution_run_id or "", handle)
            except WorkflowAlreadyStartedError as error:
                joined = await self._join(operation, request, digest, error)
                if joined is not None:
                    return joined
            except RPCError as error:
                raise unreachable(error) from error
        raise StorageError(ErrorCode.OPERATION_IN_PROGRESS, f"workspace {request.workspace_id} is never free")

    async def _join(
        self,
        operation: Operation,
        request: ProvisionInput | ArchiveInput | RestoreInput | PurgeInput,
        digest: str,
        error: WorkflowAlreadyStartedError,
    ) -> OperationHandle | None:
        """The open run, if it does the same; ``None`` if it has ended meanwhile."""
        handle: WorkflowHandle[Any, OperationResult] = self._client.get_workflow_handle(
            error.workflow_id, run_id=error.run_id, result_type=OperationResult
        )
        try:
            description = await handle.describe()
        except RPCError as failed:
            raise unreachable(failed) from failed
        if description.status != WorkflowExecutionStatus.RUNNING:
            return None
        same = description.workflow_type == operation.value
        if same and await description.memo_value(_INPUT_DIGEST, None) == digest:
            return OperationHandle(request.workspace_id, operation, description.run_id, handle)
        raise StorageError(
            ErrorCode.OPERATION_IN_PROGRESS,
            f"{description.workflow_type} of workspace {request.workspace_id} is running"
            + (", with other parameters" if same else ""),
            details={"operation": description.workflow_type, "run_id": description.run_id},
        )


async def _request_cancel(handle: WorkflowHandle[Any, OperationResult]) -> None:
    try:
        await handle.cancel()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:  # that: it ended just now, and its outcome tells
            raise unreachable(error) from error


def input_digest(operation: Operation, request: Contract) -> str:
    """What tells whether two calls ask for the same."""
    text = f"{operation.value}:{request.model_dump_json(exclude_defaults=True)}"
    return hashlib.sha256(text.encode()).hexdigest()


def _volume(size_bytes: int | None, storage_class: str | None) -> VolumeSpec:
    if size_bytes is not None and size_bytes <= 0:
        raise StorageError(ErrorCode.INVALID_INPUT, f"a volume of {size_bytes} bytes cannot be made")
    return VolumeSpec(size_bytes=size_bytes, storage_class=storage_class)


def _uid(accept_loss: str | None) -> str | None:
    if accept_loss is not None and re.fullmatch(UID_PATTERN, accept_loss) is None:
        raise StorageError(ErrorCode.INVALID_INPUT, f"{accept_loss!r} is not the uid of a volume")
    return accept_loss


def _details(operation: Operation, request: Contract) -> str:
    fields = request.model_dump(exclude_defaults=True, exclude={"schema_version"})
    return "\n".join([f"**{operation.value}**", "", *(f"- {name}: `{value}`" for name, value in fields.items())])


def _required(key: str | None) -> str:
    if key is None:
        raise StorageError(ErrorCode.UNKNOWN, "the service answered without a key; it is newer than this client")
    return key
