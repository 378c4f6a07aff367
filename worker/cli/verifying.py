"""Reads an archive whole, as `verify` does."""

from __future__ import annotations

from collections.abc import Callable

from activities.dataplane.foreign import check_foreign
from activities.dataplane.manifest import Manifest
from activities.dataplane.verify import verify_archive
from activities.objectstore.base import ObjectInfo, ObjectStore
from activities.state.proof import find_archive
from worker.cli.answers import VerifyAnswer


async def check(
    store: ObjectStore, key: str, archive_id: str | None, progress: Callable[[int, int], None]
) -> VerifyAnswer:
    """Read the archive whole. ``progress`` gets the bytes read and their number.

    A foreign archive proves nothing but that it is complete and well formed. Raises what ``find_archive`` raises, and
    ``ArchiveCorrupt``.
    """
    manifest, info, found_id = await find_archive(store, key, archive_id)
    if manifest is None:
        return await _check_foreign(store, info, found_id, progress)
    await verify_archive(store, info, manifest, progress=lambda seen: progress(seen, info.size_bytes))
    return proven(info, manifest)


def proven(info: ObjectInfo, manifest: Manifest, *, written: bool = False) -> VerifyAnswer:
    """The answer about an object that is as its manifest describes it."""
    return VerifyAnswer(
        archive_key=info.key,
        archive_id=manifest.archive_id or "",
        volume_uid=manifest.source.volume_uid if manifest.source else None,
        version_id=info.version_id,
        files=manifest.totals.files,
        raw_bytes=manifest.totals.file_bytes,
        stored_bytes=info.size_bytes,
        proven=True,
        manifest_written=written,
    )


async def _check_foreign(
    store: ObjectStore, info: ObjectInfo, archive_id: str, progress: Callable[[int, int], None]
) -> VerifyAnswer:
    found = await check_foreign(store, info, progress=lambda seen: progress(seen, info.size_bytes))
    return VerifyAnswer(
        archive_key=info.key,
        archive_id=archive_id,
        volume_uid=None,
        version_id=info.version_id,
        files=found.files,
        raw_bytes=found.bytes,
        stored_bytes=info.size_bytes,
        proven=False,
        manifest_written=False,
    )
