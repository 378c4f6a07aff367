"""StorageClient: the typed door to the service, over Temporal.

One workflow id per workspace, whatever the operation, so the server runs one at a time. An open run of the same
operation and input is joined; any other is ``OperationInProgress``. Nothing is remembered here: a new call starts a
new run. Its first steps inspect what is there, and it returns at once where nothing is left to do.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import time
from dataclasses import dataclass
from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from codehub_storage import keys
from codehub_storage.contracts import (
    DEFAULT_PLACE,
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
from codehub_storage.runs import (
    cancelled_outcome,
    exact,
    is_no_run,
    no_server,
    outcome,
    progress_of,
    request_cancel,
    told,
)
from codehub_storage.search_attributes import WS_ID, WS_OP
from codehub_storage.serving import hindrance

_INPUT_DIGEST = "input-digest"
_STARTS = 3
DEFAULT_ADDRESS = "localhost:7233"
_TLS_FILES = {
    "server_root_ca_cert": "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    "client_cert": "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "client_private_key": "TEMPORAL_TLS_CLIENT_KEY_PATH",
}
_PEM = b"-----BEGIN "
_OF_THE_CONNECTION = (
    "TEMPORAL_ADDRESS (host:port), TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE, and the files of TEMPORAL_TLS..."
)
_LAST_WAIT_SECONDS = 0.05


@told
async def connect(**options: Any) -> Client:
    """A Temporal client with the settings of the environment (``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ...), else
    at ``localhost:7233``.

    ``options`` override single settings of ``temporalio.client.Client.connect``. ``BackendUnavailable`` if there is
    no server, ``InvalidInput`` for settings that cannot be used.
    """
    _wait_at_exit()
    settings: dict[str, Any] = {"data_converter": DATA_CONVERTER, **connect_config(), **options}
    host = settings["target_host"]
    try:
        if "://" in host:
            raise ValueError("it is host:port, not a URL")
        return await Client.connect(**settings)
    except RuntimeError as error:
        raise no_server(host) from error
    except Exception as error:
        raise StorageError(
            ErrorCode.INVALID_INPUT,
            f"Temporal at {host!r} cannot be connected to: {error}",
            hint=f"Check {_OF_THE_CONNECTION}.",
        ) from error


def connect_config() -> ClientConnectConfig:
    """The arguments of ``Client.connect`` that Temporal's environment and configuration file give, the address always
    among them. ``InvalidInput`` for a file, a profile or a certificate that cannot be used."""
    try:
        found = ClientConfig.load_client_connect_config()
        for field, variable in _TLS_FILES.items():
            data = getattr(found.get("tls"), field, None)
            if data is not None and _PEM not in data:
                raise ValueError(f"{variable} or its profile names a file that holds no PEM")
    except Exception as error:
        raise StorageError(
            ErrorCode.INVALID_INPUT,
            f"Temporal's configuration: {' '.join(str(error).split())}",
            hint=f"Check {_OF_THE_CONNECTION}.",
        ) from error
    found.setdefault("target_host", DEFAULT_ADDRESS)
    return found


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
    _client: Client

    @told
    async def result(self) -> OperationResult:
        """Wait for the end. ``StorageError`` if it failed or was cancelled.

        What hinders it, such as that no worker serves its place, is a WARNING of the ``codehub_storage`` logger within
        seconds.
        """
        return await outcome(self._client, self._handle)

    @told
    async def progress(self) -> Progress:
        """Phase, bytes, last error, next attempt, what it waits for. ``BackendUnavailable`` if the server does not
        respond."""
        return await progress_of(self._client, exact(self._client, self._handle), self.workspace_id)

    @told
    async def cancel(self) -> None:
        """Ask this run to stop and undo. Fine if it has ended. ``result`` then raises ``Cancelled``, or returns as
        usual if the cancel was too late. A run that no worker has ever taken, and whose queue none polls, ends at
        once."""
        await request_cancel(self._client, exact(self._client, self._handle))


class StorageClient:
    """``StorageProvider`` over Temporal.

    ``place`` is where this client's workspaces live; every call can name another.
    """

    def __init__(self, client: Client, *, place: str = DEFAULT_PLACE) -> None:
        if not isinstance(client, Client):
            raise StorageError(
                ErrorCode.INVALID_INPUT,
                f"a StorageClient is made of a Temporal client, not of {type(client).__name__}",
                hint="Use `await StorageClient.connect()`.",
            )
        self._client = client
        self._place = place

    @classmethod
    async def connect(cls, *, place: str = DEFAULT_PLACE, **options: Any) -> StorageClient:
        """Connect with the settings of the environment; see ``codehub_storage.client.connect``."""
        return cls(await connect(**options), place=place)

    # ------------------------------------------------------------ the four operations, blocking

    @told
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

        ``accept_loss``: the uid of a volume that was lost, and that a new one may replace.
        """
        handle = await self.start_provision(
            workspace_id, place=place, size_bytes=size_bytes, storage_class=storage_class, accept_loss=accept_loss
        )
        return _required((await handle.result()).home_store_key)

    @told
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

    @told
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

    @told
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

    @told
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
                place=self._place_of(place),
                volume=VolumeSpec(size_bytes=size_bytes, storage_class=storage_class),
                accept_loss=accept_loss,
            ),
        )

    @told
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
                place=self._place_of(place),
                expected_volume_uid=expected_volume_uid,
                remove_stopped=remove_stopped,
            ),
        )

    @told
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
                place=self._place_of(place),
                volume=VolumeSpec(size_bytes=size_bytes, storage_class=storage_class),
                accept_loss=accept_loss,
                old_place_is_dead=old_place_is_dead,
            ),
        )

    @told
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
                place=self._place_of(place),
                expected_volume_uid=expected_volume_uid,
                remove_stopped=remove_stopped,
                accept_loss=accept_loss,
                old_place_is_dead=old_place_is_dead,
            ),
        )

    @told
    async def progress(self, workspace_id: str) -> Progress | None:
        """The workspace's latest operation; ``None`` if the server knows of none."""
        handle = self._client.get_workflow_handle(keys.workflow_id(keys.check_workspace_id(workspace_id)))
        try:
            return await progress_of(self._client, handle, workspace_id)
        except RPCError as error:
            if is_no_run(error):
                return None
            raise

    # ------------------------------------------------------------ the user comes back

    @told
    async def cancel(self, workspace_id: str, *, place: str | None = None) -> CancelOutcome:
        """Stop what runs and undo it. ``CANCELLED``: the workspace is as it was before. ``TOO_LATE``: it is done.

        A run that no worker has ever taken, and whose queue none polls, is ended: ``CANCELLED``.
        Where nothing runs, an archive run checks whether an earlier one is past its point of no return: ``CANCELLED``
        then means that the volume is there and ready. ``VolumeNotFound`` if there is none and no archive.
        """
        handle = await self._open_run(workspace_id)
        if handle is not None:
            ending = cancelled_outcome(self._client, handle)
        else:
            started = await self._start(
                Operation.ARCHIVE,
                ArchiveInput(
                    workspace_id=keys.check_workspace_id(workspace_id),
                    place=self._place_of(place),
                    cancel_only=True,
                ),
            )
            ending = outcome(self._client, started._handle)
        try:
            await ending
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
            if is_no_run(error):
                return None
            raise
        if description.status != WorkflowExecutionStatus.RUNNING:
            return None
        return self._client.get_workflow_handle(workflow_id, run_id=description.run_id, result_type=OperationResult)

    # ------------------------------------------------------------ starting

    def _place_of(self, named: str | None) -> str:
        """Where a call is carried out: at this client's place, unless it names another."""
        return self._place if named is None else named

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
                run_id = handle.first_execution_run_id or ""
                return OperationHandle(request.workspace_id, operation, run_id, handle, self._client)
            except WorkflowAlreadyStartedError as error:
                joined = await self._join(operation, request, digest, error.run_id)
                if joined is not None:
                    return joined
        raise StorageError(ErrorCode.OPERATION_IN_PROGRESS, f"workspace {request.workspace_id} is never free")

    async def _join(
        self,
        operation: Operation,
        request: ProvisionInput | ArchiveInput | RestoreInput | PurgeInput,
        digest: str,
        run_id: str | None,
    ) -> OperationHandle | None:
        """The open run, if it does the same; ``None`` if it has ended meanwhile."""
        workflow_id = keys.workflow_id(request.workspace_id)
        handle: WorkflowHandle[Any, OperationResult] = self._client.get_workflow_handle(
            workflow_id, run_id=run_id, result_type=OperationResult
        )
        description = await handle.describe()
        if description.status != WorkflowExecutionStatus.RUNNING:
            return None
        same = description.workflow_type == operation.value
        if same and await description.memo_value(_INPUT_DIGEST, None) == digest:
            return OperationHandle(request.workspace_id, operation, description.run_id, handle, self._client)
        hindered = str(await hindrance(self._client, description))
        way_out = f"Remove what hinders it, or `codehub-storage cancel {request.workspace_id}` and call again."
        raise StorageError(
            ErrorCode.OPERATION_IN_PROGRESS,
            f"{description.workflow_type} of workspace {request.workspace_id} is running"
            + (", with other parameters" if same else "")
            + (f", and {hindered}" if hindered else ""),
            hint=way_out if hindered else None,
            details={"operation": description.workflow_type, "run_id": description.run_id},
        )


def input_digest(operation: Operation, request: Contract) -> str:
    """A digest that is equal for two calls that ask for the same."""
    text = f"{operation.value}:{request.model_dump_json(exclude_defaults=True)}"
    return hashlib.sha256(text.encode()).hexdigest()


def _details(operation: Operation, request: Contract) -> str:
    fields = request.model_dump(exclude_defaults=True, exclude={"schema_version"})
    return "\n".join([f"**{operation.value}**", "", *(f"- {name}: `{value}`" for name, value in fields.items())])


def _required(key: str | None) -> str:
    if key is None:
        raise StorageError(ErrorCode.UNKNOWN, "the service answered without a key; it is newer than this client")
    return key
