"""`show`: all that bucket, backend and Temporal know of one workspace. Nothing is changed to find it out."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from activities.backends.base import Glancing, VolumeView
from activities.dataplane.manifest import Manifest
from activities.objectstore.base import ObjectStore
from activities.objectstore.identity import StoreIdentity
from activities.state.fence import read_record
from activities.state.proof import read_manifest, stored_archive, stored_version
from activities.state.record import Owner, Record
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import (
    archive_key,
    check_workspace_id,
    foreign_archive_key,
    manifest_key,
    workflow_id,
    workspace_of_archive,
)
from worker.backends import open_backend
from worker.cli.answers import KeptArchive, ShownArchive, ShownUser, ShownVolume
from worker.cli.exits import Exit, exit_of
from worker.cli.listing import duration, size, table
from worker.cli.output import Output, one_line
from worker.cli.runs import OURS, executions, problems_of, row
from worker.cli.session import connect_temporal, load_settings, open_marked
from worker.cli.standing import check_here, is_told_ready
from worker.settings import Settings

Found = dict[str, Any]


async def show(args: Namespace, output: Output) -> int:
    """`show WORKSPACE_ID [--limit N]`"""
    workspace_id = check_workspace_id(args.workspace_id)
    settings = load_settings(args)
    output.context.update(workspace_id=workspace_id)
    found: Found = {"record": None, "archive": None, "kept": []}
    found |= {"volume": None, "volume_unknown": None, "volume_lost": False, "runs": []}
    errors: list[StorageError] = []
    identity: StoreIdentity | None = None
    try:
        async with open_marked(settings) as (store, identity):
            found.update(await _stored(store, workspace_id))
    except StorageError as error:
        errors.append(error)
    found.update(await _volume(settings, workspace_id, identity, found["record"]))
    try:
        found["runs"] = await _runs(settings, workspace_id, max(args.limit, 0))
    except StorageError as error:
        errors.append(error)
    if not errors:
        output.answer(found, _as_text(found))
        return Exit.DONE
    if not output.as_json:
        output.answer({}, _as_text(found))
    output.context.update(found)
    output.failure(errors[0])
    return exit_of(errors[0])


# ------------------------------------------------------------ the three sides


async def _stored(store: ObjectStore, workspace_id: str) -> Found:
    key = archive_key(workspace_id)
    record = await read_record(store, workspace_id)
    current = await read_manifest(store, key)
    manifest = current[0] if current else None
    return {
        "record": record[0].model_dump(mode="json") if record else None,
        "archive": await _archive(store, key, manifest),
        "kept": await _kept(store, key, manifest),
    }


async def _archive(store: ObjectStore, key: str, manifest: Manifest | None) -> Found | None:
    """The archive, or what its manifest says of one that is gone, or one that was made elsewhere."""
    stated = manifest if manifest is not None and not manifest.is_placeholder else None
    info, is_proven = await stored_archive(store, key, stated)
    if info is None and stated is None:
        key = foreign_archive_key(workspace_of_archive(key))
        info = await store.head(key)
        if info is None:
            return None
    return ShownArchive(
        archive_key=key,
        archive_id=stated.archive_id if stated else None,
        stored_bytes=info.size_bytes if info else 0,
        proven=is_proven,
        created_at=stated.created_at if stated else None,
        totals=stated.totals if stated else None,
        source=stated.source if stated else None,
        object=stated.object if stated else None,
        volume=stated.volume if stated else None,
        content_fingerprint=stated.content_fingerprint if stated else None,
        segments=len(stated.segments) if stated else 0,
        format_version=stated.format_version if stated else None,
    ).model_dump(mode="json")


async def _kept(store: ObjectStore, key: str, current: Manifest | None) -> list[Found]:
    """Older manifests whose object is still stored, newest first; the current one is not among them."""
    kept: dict[str, Found] = {}
    for version in await store.list_versions(manifest_key(key)):
        found = None if version.is_delete_marker else await read_manifest(store, key, version.version_id)
        manifest = found[0] if found else None
        if manifest is None or manifest.archive_id is None or manifest.archive_id in kept:
            continue
        if current is not None and manifest.archive_id == current.archive_id:
            continue
        info = await stored_version(store, key, manifest)
        if info is not None:
            kept[manifest.archive_id] = KeptArchive(
                archive_id=manifest.archive_id,
                created_at=manifest.created_at,
                stored_bytes=info.size_bytes,
                files=manifest.totals.files,
                version_id=info.version_id,
            ).model_dump(mode="json")
    return list(kept.values())


async def _volume(settings: Settings, workspace_id: str, identity: StoreIdentity | None, record: Any) -> Found:
    """What the place of these settings has; that it cannot be reached from here is no failure."""
    known = Record.model_validate(record) if record else None
    if known is not None and known.place != settings.place:
        return {"volume_unknown": f"it lives in place {known.place!r}, and these settings are of {settings.place!r}"}
    try:
        async with open_backend(settings) as backend:
            await check_here(backend, settings, identity)
            if not isinstance(backend, Glancing):
                raise StorageError(ErrorCode.UNSUPPORTED, f"backend {backend.name} shows no volumes")
            view = await backend.glance(workspace_id, known or _nobody(workspace_id, settings.place))
    except StorageError as error:
        return {"volume_unknown": str(error)}
    is_missing = known is not None and known.volume is not None and (view is None or view.uid != known.volume.uid)
    lost = known is not None and is_missing and is_told_ready(known, settings.place)
    return {"volume": _shown(view).model_dump(mode="json") if view else None, "volume_lost": lost}


def _nobody(workspace_id: str, place: str) -> Record:
    return Record(workspace_id=workspace_id, place=place, owner=Owner(run_id="none", operation="none"))


def _shown(view: VolumeView) -> ShownVolume:
    return ShownVolume(
        home_store_key=view.home_store_key,
        uid=view.uid,
        restored_from=view.restored_from,
        presence=view.presence.value,
        users=[ShownUser(name=user.name, stopped=user.stopped, ours=user.ours) for user in view.users],
        capacity_bytes=view.capacity_bytes,
        spec={name: str(value) for name, value in view.spec.items()},
    )


async def _runs(settings: Settings, workspace_id: str, limit: int) -> list[Found]:
    client = await connect_temporal(settings)
    query = f"{OURS} AND WorkflowId = '{workflow_id(workspace_id)}'"
    runs = [each async for each in executions(client, query, limit)]
    problems = await problems_of(client, runs)
    return [row(each, settings.web_ui_address, problems.get(each.run_id)) for each in runs]


# ------------------------------------------------------------ for people


def _as_text(found: Found) -> str:
    return "\n".join([*_volume_lines(found), *_archive_lines(found), *_run_lines(found["runs"])])


def _volume_lines(found: Found) -> list[str]:
    record, volume = found["record"], found["volume"]
    if record is None:
        lines = ["record: none"]
    else:
        owner, held = record["owner"], record["volume"]
        state = f"volume {held['uid']} {held['state']}" if held else "no volume"
        ended = "signed off" if owner["signed_off"] else "not signed off"
        lines = [
            f"record: {state}, place {record['place']}, revision {record['revision']}",
            f"  owner: {owner['operation']}, run {owner['run_id']}, {ended}",
        ]
        if held and held["handed_out_at"]:
            lines[0] += f", handed out at {held['handed_out_at']}"
        for each in record["left_behind"]:
            lines.append(f"  may still stand: volume {each['uid']} at place {each['place']}")
    if found["volume_lost"]:
        lines.append(f"LOST: volume {record['volume']['uid']} is not there, and nobody of ours deleted it")
    if found["volume_unknown"]:
        return [*lines, f"volume: not known: {one_line(found['volume_unknown'])}"]
    if volume is None:
        return [*lines, "volume: none"]
    uid = f"uid {volume['uid']}" if volume["uid"] else "not ours"
    lines.append(f"volume: {volume['home_store_key']}, {uid}, {volume['presence']}")
    if volume["restored_from"]:
        lines.append(f"  restored from {volume['restored_from']}")
    return [*lines, *(f"  used by {one_line(user['name'])}" for user in volume["users"])]


def _archive_lines(found: Found) -> list[str]:
    archive = found["archive"]
    lines = ["archive: none"]
    if archive is not None:
        proven = "proven" if archive["proven"] else "not proven"
        lines = [f"archive: {archive['archive_key']}, {proven}, {size(archive['stored_bytes'])} stored"]
    if archive is not None and archive["totals"]:
        totals = archive["totals"]
        lines.append(f"  id {archive['archive_id']}, made {archive['created_at']}")
        lines.append(
            f"  {totals['files']:,} files, {size(totals['file_bytes'])}, {totals['directories']:,} folders, "
            f"{totals['symlinks']:,} links, {archive['segments']:,} segments, format {archive['format_version']}"
        )
        if totals["skipped"]:
            counts = (f"{kind} {count:,}" for kind, count in sorted(totals["skipped"].items()))
            lines.append(f"  not carried: {', '.join(counts)}")
        if archive["source"]:
            lines.append(f"  made from volume {archive['source']['volume_uid']}, place {archive['source']['place']}")
        lines.append(f"  content {archive['content_fingerprint']}")
    for kept in found["kept"]:
        lines.append(f"  kept: {kept['archive_id']}, made {kept['created_at']}, {size(kept['stored_bytes'])}")
    return lines


def _run_lines(runs: list[Found]) -> list[str]:
    if not runs:
        return ["runs: none is known"]
    heading = ("OPERATION", "STATUS", "STARTED", "TOOK", "RUN")
    rows = [
        (
            each["operation"],
            each["status"],
            each["started_at"],
            duration(each["seconds"]),
            each["link"] or each["run_id"],
        )
        for each in runs
    ]
    problems = [f"  {each['operation']} {one_line(each['problem'])}" for each in runs if each["problem"]]
    return ["runs:", *(f"  {line}" for line in table([heading, *rows]).splitlines()), *problems]
