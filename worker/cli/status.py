"""`status`: all that is known of one workspace, or the list of what runs and what ran."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from activities.objectstore.base import ObjectStore
from activities.state.fence import read_record
from activities.state.proof import read_manifest, stored_archive
from activities.state.record import VolumeState
from codehub_storage.client import StorageClient
from codehub_storage.errors import StorageError
from codehub_storage.keys import archive_key, check_workspace_id
from worker.cli.exits import Exit, exit_of
from worker.cli.following import progress_line
from worker.cli.listing import duration, size, table
from worker.cli.output import Output, one_line
from worker.cli.runs import ENDED, OPEN, executions, problems_of, row
from worker.cli.session import connect_temporal, load_settings, open_bucket
from worker.settings import Settings

_STATES = {
    VolumeState.RESTORING: "being made",
    VolumeState.READY: "ready",
    VolumeState.ARCHIVED: "archived, still there",
    VolumeState.DELETING: "deleted",
}
"""What the record says of a volume. ``deleting`` is final: it stays when the volume is gone."""


async def status(args: Namespace, output: Output) -> int:
    """`status [WORKSPACE_ID]`"""
    if args.workspace_id is None:
        return await _list(args, output)
    return await _one(args, output)


async def _list(args: Namespace, output: Output) -> int:
    settings = load_settings(args)
    client = await connect_temporal(settings)
    web_ui = settings.web_ui_address
    open_runs = [each async for each in executions(client, OPEN)]
    problems = await problems_of(client, open_runs)
    running = [row(each, web_ui, problems.get(each.run_id)) for each in open_runs]
    ended = [row(each, web_ui) async for each in executions(client, ENDED, max(args.limit, 0))]
    output.answer({"open": running, "ended": ended}, _as_table([*running, *ended]))
    for each in running:
        if each["problem"]:
            output.note(f"{each['operation']} of {each['workspace_id'] or '?'} {one_line(each['problem'])}")
    return Exit.DONE


def _as_table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no operation is known"
    heading = ("WORKSPACE", "OPERATION", "STATUS", "PHASE", "BYTES", "STARTED", "TOOK", "RUN")
    return table(
        [
            heading,
            *(
                (
                    each["workspace_id"] or "?",
                    each["operation"],
                    each["status"],
                    each["phase"] or "",
                    size(each["bytes"]) if each["bytes"] else "",
                    each["started_at"],
                    duration(each["seconds"]),
                    each["run_id"],
                )
                for each in rows
            ),
        ]
    )


async def _one(args: Namespace, output: Output) -> int:
    """Temporal and store each tell what they know; where one of them does not answer, the other still does."""
    workspace_id = check_workspace_id(args.workspace_id)
    settings = load_settings(args)
    output.context.update(workspace_id=workspace_id)
    errors: list[StorageError] = []
    found: dict[str, Any] = {"operation": None, "record": None, "archive": None}
    lines: list[str] = []
    for look in (_operation, _stored):
        try:
            seen, said = await look(settings, workspace_id)
        except StorageError as error:
            errors.append(error)
        else:
            found.update(seen)
            lines += said
    if errors:
        if not output.as_json:
            output.answer({}, "\n".join(lines))
        output.context.update(found)
        output.failure(errors[0])
        return exit_of(errors[0])
    output.answer(found, "\n".join(lines))
    return Exit.DONE


async def _operation(settings: Settings, workspace_id: str) -> tuple[dict[str, Any], list[str]]:
    progress = await StorageClient(await connect_temporal(settings)).progress(workspace_id)
    if progress is None:
        return {}, ["operation: none is known"]
    return (
        {"operation": progress.model_dump(mode="json")},
        [f"operation: {progress_line(progress)} (run {progress.run_id})"],
    )


async def _stored(settings: Settings, workspace_id: str) -> tuple[dict[str, Any], list[str]]:
    async with open_bucket(settings) as store:
        record, said_of_record = await _record(store, workspace_id)
        archive, said_of_archive = await _archive(store, workspace_id)
    return {"record": record, "archive": archive}, [said_of_record, said_of_archive]


async def _record(store: ObjectStore, workspace_id: str) -> tuple[dict[str, Any] | None, str]:
    found = await read_record(store, workspace_id)
    if found is None:
        return None, "volume: none, and no record"
    record = found[0]
    volume = record.volume
    said = f"volume: {_STATES[volume.state]}, uid {volume.uid}" if volume else "volume: none"
    return record.model_dump(mode="json"), f"{said}, place {record.place}"


async def _archive(store: ObjectStore, workspace_id: str) -> tuple[dict[str, Any] | None, str]:
    """What is stored, and whether it is what the manifest proves."""
    key = archive_key(workspace_id)
    found = await read_manifest(store, key)
    manifest = found[0] if found else None
    info, is_proven = await stored_archive(store, key, manifest)
    if info is None:
        return None, "archive: none"
    seen = {
        "archive_key": key,
        "archive_id": manifest.archive_id if manifest else None,
        "stored_bytes": info.size_bytes,
        "proven": is_proven,
        "created_at": manifest.created_at if manifest else None,
        "totals": manifest.totals.model_dump(mode="json") if manifest else None,
    }
    if manifest is None or not is_proven:
        return seen, f"archive: {key}, not proven; `codehub-storage verify {key} --write-manifest` may help"
    totals = manifest.totals
    return seen, (
        f"archive: {key}, proven, {totals.files:,} files, {size(totals.file_bytes)}, "
        f"{size(totals.stored_bytes)} stored, made {manifest.created_at}, id {manifest.archive_id}"
    )
