"""`verify`: read an archive whole and compare it with its proof, or make the proof that is missing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

from activities.dataplane.bridge import ChunkBridge
from activities.dataplane.dialects import padding, read_members
from activities.dataplane.foreign_stream import Bound, TarStream
from activities.dataplane.manifest import Manifest
from activities.dataplane.threads import Stop, run_blocking
from activities.dataplane.verify import verify_archive
from activities.objectstore.base import ObjectInfo, ObjectStore, PreconditionFailed
from activities.state.proof import find_archive
from codehub_storage.client import StorageClient
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import workspace_of_archive
from worker.cli.bars import Standing
from worker.cli.exits import Exit
from worker.cli.listing import size
from worker.cli.output import Output
from worker.cli.proving import prove
from worker.cli.session import connect_temporal, load_settings, open_bucket

_UNBOUNDED = Bound(1 << 62, ErrorCode.ARCHIVE_TOO_LARGE)


@dataclass(frozen=True)
class Verified:
    """An archive that is whole. ``manifest`` is ``None`` for one that we did not make."""

    archive_id: str
    info: ObjectInfo
    manifest: Manifest | None
    files: int
    raw_bytes: int
    written: bool = False


async def verify(args: Namespace, output: Output) -> int:
    """`verify ARCHIVE_KEY [--archive-id ID | --write-manifest]`"""
    workspace_of_archive(args.archive_key)
    if args.write_manifest and args.archive_id:
        raise StorageError(
            ErrorCode.INVALID_INPUT,
            "--write-manifest proves the current archive only",
            hint="Leave --archive-id out; older versions have their own manifests.",
        )
    settings = load_settings(args)
    output.context.update(archive_key=args.archive_key)
    async with open_bucket(settings) as store:
        try:
            if args.write_manifest:
                client = StorageClient(await connect_temporal(settings), place=settings.place)
                found = await _prove(store, client, args.archive_key, output)
            else:
                found = await check(store, args.archive_key, args.archive_id, _shown(output))
        except PreconditionFailed as error:
            raise StorageError(
                ErrorCode.NOT_YOURS,
                f"{args.archive_key} was replaced while it was read",
                hint="Something newer is there; verify again.",
            ) from error
        finally:
            output.clear_progress()
    output.answer(_as_object(found), _as_text(found))
    return Exit.DONE


async def check(store: ObjectStore, key: str, archive_id: str | None, progress: Callable[[int, int], None]) -> Verified:
    """Read the archive whole. ``progress`` gets the bytes read and their number.

    A foreign archive proves nothing but that it is complete and well formed. Raises what ``find_archive`` raises, and
    ``ArchiveCorrupt``.
    """
    manifest, info, found_id = await find_archive(store, key, archive_id)
    if manifest is None:
        return await _check_foreign(store, info, found_id, progress)
    await verify_archive(store, info, manifest, progress=lambda seen: progress(seen, info.size_bytes))
    return Verified(found_id, info, manifest, manifest.totals.files, manifest.totals.file_bytes)


async def _check_foreign(
    store: ObjectStore, info: ObjectInfo, archive_id: str, progress: Callable[[int, int], None]
) -> Verified:
    seen = 0

    def count(length: int) -> None:
        nonlocal seen
        seen += length
        progress(seen, info.size_bytes)

    source = store.read(info.key, etag=info.etag, version_id=info.version_id)
    async with ChunkBridge(source, count) as bridge:
        files, raw_bytes = await run_blocking(lambda stop: _read_foreign(bridge, stop))
    return Verified(archive_id, info, None, files, raw_bytes)


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


async def _prove(store: ObjectStore, client: StorageClient, key: str, output: Output) -> Verified:
    manifest, info, written = await prove(store, client, key, progress=_shown(output))
    totals = manifest.totals
    return Verified(manifest.archive_id or "", info, manifest, totals.files, totals.file_bytes, written=written)


def _shown(output: Output) -> Callable[[int, int], None]:
    def show(seen: int, total: int) -> None:
        output.progress(Standing("verify", seen, total))

    return show


def _as_object(found: Verified) -> dict[str, object]:
    source = found.manifest.source if found.manifest else None
    return {
        "archive_id": found.archive_id,
        "volume_uid": source.volume_uid if source else None,
        "version_id": found.info.version_id,
        "files": found.files,
        "raw_bytes": found.raw_bytes,
        "stored_bytes": found.info.size_bytes,
        "proven": found.manifest is not None,
        "manifest_written": found.written,
    }


def _as_text(found: Verified) -> str:
    whole = f"{found.info.key} is whole: {found.files:,} files, {size(found.raw_bytes)}, {found.archive_id}"
    if found.manifest is None:
        return f"{whole}; made elsewhere, so nothing says what it should hold"
    return f"{whole}; its manifest was written" if found.written else whole
