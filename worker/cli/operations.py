"""The four operations and `cancel`: start, wait, answer."""

from __future__ import annotations

from argparse import Namespace

from codehub_storage.client import StorageClient
from codehub_storage.contracts import CancelOutcome, Operation
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import workflow_id
from worker.cli.exits import Exit
from worker.cli.following import finish, follow
from worker.cli.output import Output
from worker.cli.session import connect_storage, load_settings
from worker.cli.weblinks import run_link


async def provision(args: Namespace, output: Output) -> int:
    """`provision WORKSPACE_ID`"""
    client = await _connect(args, output, Operation.PROVISION)
    handle = await client.start_provision(
        args.workspace_id,
        size_bytes=args.size_bytes,
        storage_class=args.storage_class,
        accept_loss=args.accept_loss,
    )
    return await finish(handle, args, output, key="home_store_key")


async def archive(args: Namespace, output: Output) -> int:
    """`archive HOME_STORE_KEY`"""
    client = await _connect(args, output, Operation.ARCHIVE)
    handle = await client.start_archive(
        args.home_store_key, expected_volume_uid=args.expected_volume_uid, remove_stopped=args.remove_stopped
    )
    return await finish(handle, args, output, key="archive_key")


async def restore(args: Namespace, output: Output) -> int:
    """`restore ARCHIVE_KEY`"""
    client = await _connect(args, output, Operation.RESTORE)
    handle = await client.start_restore(
        args.archive_key,
        archive_id=args.archive_id,
        size_bytes=args.size_bytes,
        storage_class=args.storage_class,
        accept_loss=args.accept_loss,
        old_place_is_dead=args.old_place_is_dead,
    )
    return await finish(handle, args, output, key="home_store_key")


async def purge(args: Namespace, output: Output) -> int:
    """`purge [--volume KEY] [--archive KEY]`"""
    if args.volume is None and args.archive is None:
        raise StorageError(
            ErrorCode.INVALID_INPUT, "nothing to purge was named", hint="Name --volume KEY, --archive KEY, or both."
        )
    client = await _connect(args, output, Operation.PURGE)
    handle = await client.start_purge(
        args.volume,
        args.archive,
        expected_volume_uid=args.expected_volume_uid,
        remove_stopped=args.remove_stopped,
        accept_loss=args.accept_loss,
        old_place_is_dead=args.old_place_is_dead,
    )
    return await finish(handle, args, output)


async def cancel(args: Namespace, output: Output) -> int:
    """`cancel WORKSPACE_ID`"""
    client = await connect_storage(args)
    output.context.update(workspace_id=args.workspace_id)
    outcome = await follow(client.cancel(args.workspace_id), lambda: client.progress(args.workspace_id), output)
    output.answer({"outcome": outcome.value}, outcome.value)
    return Exit.DONE if outcome is CancelOutcome.CANCELLED else Exit.TOO_LATE


async def _connect(args: Namespace, output: Output, operation: Operation) -> StorageClient:
    """The client; failures from now on tell what is safe and where to look."""
    output.operation = operation
    settings = load_settings(args)
    web_ui = settings.web_ui_address
    if web_ui is not None:
        namespace = settings.temporal_connect_config().get("namespace", "default")
        output.link = lambda workspace_id, run_id: run_link(web_ui, namespace, workflow_id(workspace_id), run_id)
    return await connect_storage(args)
