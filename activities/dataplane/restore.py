"""The restore of our own archives, in steps: directories, files in parallel, links and metadata, comparison, sync.

The order is the second wall: no symbolic link exists in the volume while parallel writers run. Every step may be
repeated; none remembers another, so a retry needs nothing but the manifest. Who calls has checked that the manifest
names the object that is there; every read says which ETag it wants.

What parses the archive's bytes is confined, and its word that all is well counts for nothing: a process that has read
none of them says what the tree holds, and that is compared here. [B6]
"""

from __future__ import annotations

import asyncio
import base64
import errno
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from activities.dataplane.archivemap import ArchiveMap, Numbered, check_statement, sum_of_contents
from activities.dataplane.archiver import Wall, running
from activities.dataplane.feeding import Feeder
from activities.dataplane.manifest import Manifest
from activities.dataplane.report import RestoreReport
from activities.dataplane.segments import digest_bytes
from activities.objectstore.base import ObjectStore, PreconditionFailed
from activities.runtime.linux.syscalls import sync_file_system
from codehub_storage.errors import ErrorCode, StorageError

LANES = 4

Progress = Callable[[int], None]


def _quiet(number: int) -> None:
    """Progress that nobody asked for."""


class ArchiveRestore:
    """One restore into the folder ``root``. It holds what the steps need, not what they have done.

    ``wall``: whether Landlock and seccomp are demanded. Errors of all steps: ``ArchiveCorrupt``, ``ArchiveNotFound``
    (the object was replaced), ``NoSpace``, ``AccessDenied``, ``BackendUnavailable``, ``Unsupported``, and what the
    store raises.
    """

    def __init__(
        self,
        root: Path,
        store: ObjectStore,
        manifest: Manifest,
        *,
        wall: Wall = Wall.AVAILABLE,
        lanes: int = LANES,
        lock_fd: int | None = None,
    ) -> None:
        self._root = root
        self._store = store
        self._manifest = manifest
        self._map = ArchiveMap.of(manifest)
        self._lanes = lanes
        self._how: dict[str, Any] = {"wall": wall, "lock_fd": lock_fd}

    @property
    def data_segments(self) -> int:
        """How many segments ``restore_segments`` has to go through."""
        return len(self._map.data)

    async def prepare(self, *, progress: Progress = _quiet) -> None:
        """Look whether it fits, then make all directories, 0700; ``progress`` gets stored bytes of the tail.

        Raises ``VolumeConflict`` if a file is there.
        """
        totals = self._manifest.totals
        pieces = [item.segment.piece for item in self._map.data if item.segment.piece is not None]
        holes = sum(length for piece in pieces for _, length in piece.holes)
        needs = {
            "--need-bytes": max(0, totals.file_bytes - holes),
            "--need-inodes": totals.files + totals.directories + totals.symlinks + totals.specials,
            "--need-directories": totals.directories,
        }
        arguments = [text for name, number in needs.items() for text in (name, str(number))]
        await self._run("directories", self._map.tail, "--name", str(self._root), *arguments, progress=progress)

    async def restore_segments(
        self, first: int, last: int, *, restored: Progress = _quiet, progress: Progress = _quiet
    ) -> RestoreReport:
        """Data segments ``first`` to ``last``, both included, side by side.

        ``restored`` is called with the number of each segment whose digest was right and which is written;
        ``progress`` with the stored bytes read by this call.
        """
        report = RestoreReport()

        def said(line: dict[str, Any]) -> None:
            if "done" in line:
                report.add(_report(line["done"]))
                restored(line["done"]["number"])

        segments = self._map.data[first - 1 : last]
        arguments = ("--threads", str(self._lanes))
        await self._run("unpack", segments, *arguments, lanes=self._lanes, said=said, progress=progress)
        return report

    async def finish(self, *, progress: Progress = _quiet) -> RestoreReport:
        """Metadata of large files, then links and specials, then metadata of directories; then the comparison.

        To be called when all segments are restored. ``progress`` gets stored bytes, then entries. The report counts
        large files, and what was skipped here. ``ArchiveCorrupt`` names a path that is not as archived, or says where
        the archive's tail contradicts the manifest.
        """
        found: dict[str, Any] = {}
        segments = (*self._map.large, *self._map.tail)
        await self._run("finish", segments, headers_only=True, said=found.update, progress=progress)
        report = found["report"]
        await self._compare(digest_bytes(report["left_out"]), progress)
        check_statement(self._manifest, report["statement"])
        return _report(report)

    async def sync(self) -> None:
        """Return when everything is on disk."""
        await asyncio.to_thread(sync_folder, self._root)

    async def _compare(self, left_out: bytes, progress: Progress) -> None:
        """Is the tree on disk the one that was archived, as far as this process may set what was? The rest is skipped,
        and counted. ``left_out``: the content of what it may not make."""
        async with running("compare", "--root", self._root, **self._how) as archiver:
            found: dict[str, Any] = {}
            async for frame in archiver.frames():
                found.update(frame.line)
                progress(frame.line.get("progress", 0))
        abilities = found["abilities"]
        expected, there = self._map.content, sum_of_contents([digest_bytes(found["content"]), left_out])
        base, ids, privileged = ((expected[a:b], there[a:b]) for a, b in ((0, 16), (16, 24), (24, 32)))
        if (
            base[0] == base[1]
            and (not abilities["owners"] or ids[0] == ids[1])
            and (not abilities["all_privileged"] or privileged[0] == privileged[1])
        ):
            return
        await self._run(
            "differences",
            (*self._map.data, *self._map.tail),
            "--abilities",
            json.dumps(abilities),
            said=found.update,
            progress=progress,
        )
        differs = found.get("differs")
        if differs is None:
            raise StorageError(ErrorCode.ARCHIVE_CORRUPT, "what was restored is not what was archived")
        path = base64.b64decode(differs["path"]).decode("utf-8", "backslashreplace") or "."
        raise StorageError(
            ErrorCode.ARCHIVE_CORRUPT,
            f"{path} was not restored as archived: {differs['why']}",
            details={"path": path},
        )

    async def _run(
        self,
        command: str,
        segments: Sequence[Numbered],
        *arguments: str,
        lanes: int = 1,
        headers_only: bool = False,
        said: Callable[[dict[str, Any]], None] = lambda line: None,
        progress: Progress = _quiet,
    ) -> None:
        with self._as_found():
            async with running(command, "--root", self._root, *arguments, **self._how) as archiver:
                await Feeder(archiver, self._store, self._map.object).feed(
                    segments, lanes=lanes, headers_only=headers_only, said=said, progress=progress
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


def sync_folder(root: Path) -> None:
    """Return when the whole file system of ``root`` is on disk, directories and metadata included."""
    try:
        sync_file_system(str(root))
    except OSError as error:
        code = ErrorCode.NO_SPACE if error.errno in (errno.ENOSPC, errno.EDQUOT) else ErrorCode.BACKEND_UNAVAILABLE
        raise StorageError(code, f"{root} cannot be written to disk: {error.strerror}") from error


def _report(said: dict[str, Any]) -> RestoreReport:
    return RestoreReport(files=said.get("files", 0), bytes=said.get("bytes", 0), skipped=Counter(said.get("skipped")))
