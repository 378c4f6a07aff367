"""Reads an archive whole, as `verify` does."""

from __future__ import annotations

from collections.abc import Callable

from activities.dataplane.bridge import ChunkBridge
from activities.dataplane.dialects import padding, read_members
from activities.dataplane.foreign_stream import Bound, TarStream
from activities.dataplane.manifest import Manifest
from activities.dataplane.threads import Stop, run_blocking
from activities.dataplane.verify import verify_archive
from activities.objectstore.base import ObjectInfo, ObjectStore
from activities.state.proof import find_archive
from codehub_storage.errors import ErrorCode
from worker.cli.answers import VerifyAnswer

_UNBOUNDED = Bound(1 << 62, ErrorCode.ARCHIVE_TOO_LARGE)


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
    seen = 0

    def count(length: int) -> None:
        nonlocal seen
        seen += length
        progress(seen, info.size_bytes)

    source = store.read(info.key, etag=info.etag, version_id=info.version_id)
    async with ChunkBridge(source, count) as bridge:
        files, raw_bytes = await run_blocking(lambda stop: _read_foreign(bridge, stop))
    return VerifyAnswer(
        archive_key=info.key,
        archive_id=archive_id,
        volume_uid=None,
        version_id=info.version_id,
        files=files,
        raw_bytes=raw_bytes,
        stored_bytes=info.size_bytes,
        proven=False,
        manifest_written=False,
    )


def _read_foreign(bridge: ChunkBridge, stop: Stop) -> tuple[int, int]:
    """In a thread: files and bytes of their content."""
    files = raw_bytes = 0
    with stop.on_stop(bridge.stop):
        stream = TarStream(bridge, _UNBOUNDED)
        for member in read_members(stream.take):
            stop.check()
            if member.extents:
                files, raw_bytes = files + 1, raw_bytes + member.entry.size
            stream.skip(member.stored + padding(member.stored))
        stream.end()
    return files, raw_bytes
