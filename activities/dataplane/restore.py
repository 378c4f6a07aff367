"""The restore of our own archives, in steps: folders, files in parallel, links and metadata, comparison, sync.

The order is the second wall: no symbolic link exists in the volume while parallel writers run. Every step may be
repeated; none remembers another, so a retry needs nothing but the manifest. Who calls has checked that the manifest
names the object that is there; every read says which ETag it wants.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from activities.dataplane import attributes
from activities.dataplane.ahead import Walker, walk_ahead
from activities.dataplane.archivemap import ArchiveMap, Numbered
from activities.dataplane.attributes import Abilities, probe_abilities
from activities.dataplane.beneath import Beneath, as_storage_error
from activities.dataplane.bridge import ChunkBridge
from activities.dataplane.compare import TAIL_PLACE, find_differences, trace
from activities.dataplane.confine import ConfinedThreads, Wall, is_used
from activities.dataplane.entries import Content, Entry
from activities.dataplane.gate import corrupt_segment
from activities.dataplane.gzipmember import CorruptMember, MemberReader
from activities.dataplane.links import LeftOut, TailMaker, make_folder, prepare_root
from activities.dataplane.manifest import Manifest
from activities.dataplane.pool import ChildPool
from activities.dataplane.preflight import preflight
from activities.dataplane.report import RestoreReport
from activities.dataplane.tailreader import TailReader
from activities.dataplane.tarheader import TarError, TarScanner
from activities.dataplane.threads import Stop, T, run_blocking, run_together
from activities.dataplane.unpack import Target, Writer, copy_checked, unpack_segment, unpack_walled
from activities.objectstore.base import ObjectStore, PreconditionFailed
from codehub_storage.errors import ErrorCode, StorageError

CONCURRENCY = 4
_TELL_EVERY = 1024
_libc = ctypes.CDLL(None, use_errno=True)


def _quiet(number: int) -> None:
    """Progress that nobody asked for."""


class _Count:
    """Counts in a thread, tells now and then on the loop."""

    def __init__(self, progress: Callable[[int], None], start: int = 0) -> None:
        self._progress = progress
        self._count = start
        self._loop = asyncio.get_running_loop()

    def up(self) -> None:
        """One more."""
        self._count += 1
        if self._count % _TELL_EVERY == 0:
            self._loop.call_soon_threadsafe(self._progress, self._count)


class ArchiveRestore:
    """One restore into the folder ``root``. It holds what the steps need, not what they have done.

    Callbacks are called on the event loop.

    ``wall``: whether Landlock is demanded. ``pool``: processes for the segments; confined threads of this one else.
    ``walker``: one that has read nothing of an archive, for the comparison; a thread of this one else.
    Errors of all steps: ``ArchiveCorrupt``, ``ArchiveNotFound`` (the object was replaced), ``NoSpace``,
    ``AccessDenied``, ``BackendUnavailable``, ``Unsupported``, and what the store raises.
    """

    def __init__(
        self,
        root: Path,
        store: ObjectStore,
        manifest: Manifest,
        *,
        wall: Wall = Wall.AVAILABLE,
        concurrency: int = CONCURRENCY,
        pool: ChildPool | None = None,
        walker: Walker | None = None,
    ) -> None:
        self._root = root
        self._store = store
        self._manifest = manifest
        self._map = ArchiveMap.of(manifest)
        self._wall = wall
        self._concurrency = concurrency
        self._pool = pool
        self._walker = walker

    @property
    def data_segments(self) -> int:
        """How many segments ``restore_segments`` has to go through."""
        return len(self._map.data)

    async def prepare(self, *, progress: Callable[[int], None] = _quiet) -> None:
        """Look whether it fits, then make all folders, 0700; ``progress`` gets entries of the tail.

        Raises ``VolumeConflict`` if a file is there.
        """
        await preflight(self._root, self._manifest)
        async with ConfinedThreads(self._root, wall=self._wall, threads=1) as threads:

            def clear(stop: Stop) -> None:
                with Beneath(self._root) as beneath:
                    prepare_root(beneath, str(self._root))

            await threads.run(clear)
            count = _Count(progress)

            def make(entry: Entry) -> None:
                make_folder(beneath, entry)
                count.up()

            with Beneath(self._root) as beneath:
                await self._read_tail(threads, make)

    async def restore_segments(
        self,
        first: int,
        last: int,
        *,
        restored: Callable[[int], None] = _quiet,
        progress: Callable[[int], None] = _quiet,
    ) -> RestoreReport:
        """Data segments ``first`` to ``last``, both included, side by side.

        ``restored`` is called with the number of each segment whose digest was right and which is written;
        ``progress`` with the stored bytes read by this call.
        """
        report, todo, done = RestoreReport(), iter(self._map.data[first - 1 : last]), 0

        def count(length: int) -> None:
            nonlocal done
            done += length
            progress(done)

        async with ConfinedThreads(self._root, wall=self._wall, threads=self._concurrency) as threads:
            target = Target(self._root, await self._abilities(threads))

            async def lane() -> None:
                for item in todo:
                    report.add(await self._unpack(threads, target, item, count))
                    restored(item.number)

            await run_together(lane() for _ in range(self._concurrency))
        return report

    async def finish(self, *, progress: Callable[[int], None] = _quiet) -> RestoreReport:
        """Metadata of large files, then links and specials, then metadata of folders. ``progress`` gets entries.

        To be called when all segments are restored. The report counts large files, and what was skipped here.
        """
        report = RestoreReport()
        async with ConfinedThreads(self._root, wall=self._wall, threads=1) as threads:
            abilities = await self._abilities(threads)
            with Beneath(self._root) as beneath:
                for item in self._map.large.values():
                    await self._finish_large(threads, item, beneath, abilities, report)
                    progress(report.files)
                maker, count = TailMaker(beneath, abilities, report.skipped), _Count(progress, report.files)

                def make(entry: Entry) -> None:
                    maker.make(entry)
                    count.up()

                await self._read_tail(threads, make)
        return report

    async def compare(self, *, progress: Callable[[int], None] = _quiet) -> None:
        """Walk the tree and compare it with the manifest; ``ArchiveCorrupt`` names a path that differs."""
        count = _Count(progress)
        async with ConfinedThreads(self._root, wall=self._wall, threads=1) as threads:
            abilities = await self._abilities(threads)
            left_out = await self._left_out(threads, abilities)
            # Reading needs no wall; the walk looks at mounts, which the wall hides.
            different, _ = await walk_ahead(
                self._walker,
                self._root,
                lambda walked, stop: find_differences(walked, self._map, abilities, left_out, count.up, stop),
            )
            if different:
                place = different[0]
                archived = await self._entries_of(threads, place)
                raise await run_blocking(lambda stop: trace(self._root, self._map, place, archived, abilities, stop))

    async def sync(self) -> None:
        """Return when everything is on disk."""
        await asyncio.to_thread(sync_folder, self._root)

    async def _abilities(self, threads: ConfinedThreads) -> Abilities:
        def probe(stop: Stop) -> Abilities:
            with Beneath(self._root) as beneath:
                return probe_abilities(beneath)

        return await threads.run(probe)

    async def _unpack(
        self, threads: ConfinedThreads, target: Target, item: Numbered, on_chunk: Callable[[int], None]
    ) -> RestoreReport:
        if self._pool is None:
            return await self._with_chunks(
                threads,
                item,
                lambda chunks, stop: unpack_segment(target, chunks, item.segment, item.number, stop),
                on_chunk,
            )
        with self._as_found():
            return await self._pool.run(
                unpack_walled,
                target,
                item.segment,
                item.number,
                is_used(self._wall),
                source=self._stored(item),
                on_chunk=on_chunk,
            )

    async def _finish_large(
        self, threads: ConfinedThreads, item: Numbered, beneath: Beneath, abilities: Abilities, report: RestoreReport
    ) -> None:
        """Its pieces counted nothing and set no metadata, since they come in any order; now it is whole."""

        def apply(chunks: Iterable[bytes], stop: Stop) -> None:
            entry = _read_header(chunks, item)
            attributes.apply(beneath, entry, abilities, report.skipped)
            report.files += 1
            report.bytes += entry.size

        await self._with_chunks(threads, item, apply)

    async def _read_tail(self, threads: ConfinedThreads, on_entry: Callable[[Entry], None]) -> None:
        reader = TailReader(on_entry)
        for item in self._map.tail:
            reader.number = item.number
            await self._copy(threads, item, reader)
        reader.finish()

    async def _copy(self, threads: ConfinedThreads, item: Numbered, writer: Writer) -> None:
        await self._with_chunks(
            threads, item, lambda chunks, stop: copy_checked(chunks, item.segment, item.number, writer, stop)
        )

    async def _left_out(self, threads: ConfinedThreads, abilities: Abilities) -> Content:
        left_out = LeftOut(abilities)
        if not (abilities.devices and abilities.whiteouts):
            await self._read_tail(threads, lambda entry: _ignore(left_out.takes(entry)))
        return left_out.content

    async def _entries_of(self, threads: ConfinedThreads, place: int) -> dict[bytes, Entry]:
        """The entries of one place as the archive has them. Only asked for when something differs."""
        archived: dict[bytes, Entry] = {}

        def keep(entry: Entry) -> None:
            archived[entry.path] = entry

        if place == TAIL_PLACE:
            await self._read_tail(threads, keep)
            return archived
        item = self._map.data[place - 1]
        if item.segment.piece is not None:
            await self._with_chunks(threads, item, lambda chunks, stop: keep(_read_header(chunks, item)))
        else:
            await self._copy(threads, item, HeaderReader(keep))
        return archived

    async def _with_chunks(
        self,
        threads: ConfinedThreads,
        item: Numbered,
        work: Callable[[Iterable[bytes], Stop], T],
        on_chunk: Callable[[int], None] | None = None,
    ) -> T:
        """Run ``work`` in a confined thread over the stored bytes of one segment."""

        def run(stop: Stop) -> T:
            with stop.on_stop(bridge.stop):
                return work(bridge, stop)

        with self._as_found():
            async with ChunkBridge(self._stored(item), on_chunk) as bridge:
                return await threads.run(run)

    def _stored(self, item: Numbered) -> AsyncIterator[bytes]:
        """The stored bytes of one segment."""
        place = self._map.object
        return self._store.read(
            place.key,
            offset=item.segment.offset,
            length=item.segment.stored_bytes,
            etag=place.etag,
            version_id=place.version_id,
        )

    @contextmanager
    def _as_found(self) -> Iterator[None]:
        """``ArchiveNotFound`` where the object has been replaced."""
        try:
            yield
        except PreconditionFailed as error:
            raise StorageError(
                ErrorCode.ARCHIVE_NOT_FOUND,
                f"{self._map.object.key} is no longer the object that the manifest names",
            ) from error


class HeaderReader:
    """A ``Writer`` that looks at headers and lets the data pass."""

    def __init__(self, on_entry: Callable[[Entry], None]) -> None:
        self._on_entry = on_entry
        self._scanner = TarScanner()

    def write(self, raw: bytes) -> None:
        """The next bytes."""
        for found in self._scanner.feed(raw):
            if isinstance(found, Entry):
                self._on_entry(found)

    def finish(self) -> None:
        """Nothing is outstanding."""


def _read_header(chunks: Iterable[bytes], item: Numbered) -> Entry:
    """The tar header at the head of a large file's first piece; the rest is not read."""
    member, scanner = MemberReader(), TarScanner()
    try:
        for chunk in chunks:
            for raw in member.feed(chunk):
                for found in scanner.feed(raw):
                    if isinstance(found, Entry):
                        return found
    except (CorruptMember, TarError) as error:
        raise corrupt_segment(item.number, str(error)) from error
    raise corrupt_segment(item.number, "it has no header")


def sync_folder(root: Path) -> None:
    """Return when the whole file system of ``root`` is on disk, folders and metadata included."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        os.fsync(fd)
    except OSError as error:
        raise as_storage_error(error, b"") from error
    finally:
        os.close(fd)


def _ignore(_: object) -> None:
    """A callback's answer that nobody needs."""


async def restore_archive(restore: ArchiveRestore, *, progress: Callable[[int], None] = _quiet) -> RestoreReport:
    """All steps in order, for callers without batches; success means restored, compared and on disk."""
    await restore.prepare()
    report = RestoreReport()
    if restore.data_segments:
        report.add(await restore.restore_segments(1, restore.data_segments, progress=progress))
    report.add(await restore.finish())
    await restore.compare()
    await restore.sync()
    return report
