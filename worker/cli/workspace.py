"""What bucket, backend and Temporal know of one workspace, for `show`. Nothing is changed to find it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from activities.backends.base import ReadOnlyBackend
from activities.dataplane.archivemap import ArchiveMap
from activities.dataplane.manifest import Manifest
from activities.objectstore.base import ObjectStore
from activities.objectstore.identity import StoreIdentity
from activities.state.fence import read_record
from activities.state.proof import read_manifest, stored_archive, stored_version
from activities.state.record import Owner, Record
from codehub_storage.client import StorageClient
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import (
    archive_key,
    foreign_archive_key,
    manifest_key,
    workflow_id,
    workspace_of_archive,
)
from worker.backends import open_backend
from worker.cli.answers import KeptArchive, ShowAnswer, ShownArchive, ShownVolume
from worker.cli.bucket import open_marked
from worker.cli.runs import OURS, executions, problems_of, row
from worker.cli.session import connect_temporal
from worker.cli.volumes_here import check_here, is_told_ready
from worker.settings import Settings

Found = dict[str, Any]
"""Fields of ``ShowAnswer``."""


async def workspace_of(
    settings: Settings, workspace_id: str, limit: int
) -> tuple[ShowAnswer, Mapping[str, StorageError]]:
    """All that is known, with so many of its last runs; and why the rest is not, by ``store`` and ``temporal``."""
    found: Found = {}
    errors: dict[str, StorageError] = {}
    identity: StoreIdentity | None = None
    try:
        async with open_marked(settings) as (store, identity):
            found |= await _stored(store, workspace_id)
    except StorageError as error:
        errors["store"] = error
    found |= await _volume(settings, workspace_id, identity, found.get("record"))
    try:
        found |= await _runs(settings, workspace_id, limit)
    except StorageError as error:
        errors["temporal"] = error
    return ShowAnswer(workspace_id=workspace_id, **found), errors


async def _stored(store: ObjectStore, workspace_id: str) -> Found:
    key = archive_key(workspace_id)
    record = await read_record(store, workspace_id)
    current = await read_manifest(store, key)
    manifest = current[0] if current else None
    return {
        "record": record[0] if record else None,
        "archive": await _archive(store, key, manifest),
        "kept": await _kept(store, key, manifest),
    }


async def _archive(store: ObjectStore, key: str, manifest: Manifest | None) -> ShownArchive | None:
    """The archive, or what its manifest holds about one that is gone, or one that was made elsewhere.

    ``ArchiveCorrupt`` for a manifest that contradicts itself: no restore reads what it names.
    """
    stated = manifest if manifest is not None and not manifest.is_placeholder else None
    if stated is not None:
        ArchiveMap.of(stated)
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
    )


async def _kept(store: ObjectStore, key: str, current: Manifest | None) -> list[KeptArchive]:
    """Older manifests whose object is still stored, newest first; the current one is not among them."""
    kept: dict[str, KeptArchive] = {}
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
            )
    return list(kept.values())


async def _volume(settings: Settings, workspace_id: str, identity: StoreIdentity | None, known: Record | None) -> Found:
    """What the place of these settings has; that it cannot be reached from here is no failure."""
    if known is not None and known.place != settings.place:
        return {"volume_unknown": f"it lives in place {known.place!r}, and these settings are of {settings.place!r}"}
    try:
        async with open_backend(settings) as backend:
            await check_here(backend, settings, identity)
            if not isinstance(backend, ReadOnlyBackend):
                raise StorageError(ErrorCode.UNSUPPORTED, f"backend {backend.name} shows no volumes")
            view = await backend.peek(workspace_id, known or _nobody(workspace_id, settings.place))
    except StorageError as error:
        return {"volume_unknown": str(error)}
    is_missing = known is not None and known.volume is not None and (view is None or view.uid != known.volume.uid)
    lost = known is not None and is_missing and is_told_ready(known, settings.place)
    shown = None if view is None else ShownVolume.model_validate(view, from_attributes=True)
    return {"volume": shown, "volume_lost": lost}


def _nobody(workspace_id: str, place: str) -> Record:
    return Record(workspace_id=workspace_id, place=place, owner=Owner(run_id="none", operation="none"))


async def _runs(settings: Settings, workspace_id: str, limit: int) -> Found:
    client = await connect_temporal(settings)
    query = f"{OURS} AND WorkflowId = '{workflow_id(workspace_id)}'"
    runs = [each async for each in executions(client, query, limit)]
    problems = await problems_of(client, runs)
    return {
        "operation": await StorageClient(client).progress(workspace_id),
        "runs": [row(each, settings.web_ui_address, problems.get(each.run_id)) for each in runs],
    }
