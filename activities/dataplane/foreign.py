"""Restore a ``tar.gz`` that we did not make: one stream, one thread, nothing taken on trust.

Files and folders come first, links last, so no link exists while files are written; every path goes through
``beneath``. The end-of-archive blocks must be there: without them a truncated archive looks whole. Left out and
counted: devices other than whiteouts, setuid and setgid of files, attributes other than ``user.*``.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from activities.dataplane import attributes
from activities.dataplane.attributes import Abilities
from activities.dataplane.beneath import Beneath, shown, write_all, writing
from activities.dataplane.bridge import ChunkBridge
from activities.dataplane.confine import ConfinedThreads, Wall
from activities.dataplane.dialects import Member, corrupt, padding, read_members
from activities.dataplane.entries import EMPTY_CONTENT, Entry, FileType
from activities.dataplane.foreign_stream import Bound, TarStream
from activities.dataplane.links import hand_nothing_down, omitted
from activities.dataplane.report import RestoreReport
from activities.dataplane.spool import SpoolWriter, pack_entry, read_spool
from activities.dataplane.threads import Stop
from activities.objectstore.base import ObjectInfo, ObjectStore, PreconditionFailed
from codehub_storage.errors import ErrorCode, StorageError

_SETID = 0o6000
_NODES = {FileType.FIFO: stat.S_IFIFO, FileType.CHARACTER_DEVICE: stat.S_IFCHR}


@dataclass(frozen=True)
class ForeignLimits:
    """What a foreign archive may expand to. ``max_bytes`` of its tar stream: by default what is free."""

    max_bytes: int | None = None
    max_entries: int = 10_000_000


def foreign_archive_id(info: ObjectInfo) -> str:
    """The archive id of an object that has none of ours: it changes when the object does."""
    parts = (info.key, info.version_id or "", info.etag)
    return f"foreign-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"


async def restore_foreign(
    root: Path,
    store: ObjectStore,
    info: ObjectInfo,
    *,
    spool: Path,
    limits: ForeignLimits = ForeignLimits(),
    progress: Callable[[int], None] = lambda stored_bytes: None,
    wall: Wall = Wall.AVAILABLE,
) -> RestoreReport:
    """Fill the empty folder ``root`` from the object; the caller syncs and hands out.

    ``spool`` is a folder for temporary files. ``progress`` gets the stored bytes read so far, on the event loop.
    Raises ``ArchiveCorrupt``, ``ArchiveNotFound`` (replaced while we read), ``ArchiveTooLarge``, ``NoSpace``,
    ``Unsupported``, ``VolumeConflict`` if something is there.
    """

    done = 0

    def count(length: int) -> None:
        nonlocal done
        done += length
        progress(done)

    source = store.read(info.key, etag=info.etag, version_id=info.version_id)
    with tempfile.TemporaryDirectory(dir=spool) as name:
        late = Path(name)

        def work(stop: Stop) -> RestoreReport:
            with stop.on_stop(bridge.stop):
                return _restore(root, bridge, late, limits)

        async with ConfinedThreads(root, late, wall=wall, threads=1) as threads, ChunkBridge(source, count) as bridge:
            try:
                return await threads.run(work)
            except PreconditionFailed as error:
                raise StorageError(ErrorCode.ARCHIVE_NOT_FOUND, f"{info.key} was replaced while it was read") from error


def _restore(root: Path, chunks: Iterable[bytes], late: Path, limits: ForeignLimits) -> RestoreReport:
    """In the confined thread: the whole of it."""
    with Beneath(root) as beneath, writing(b""):
        if any(name != "lost+found" for name in os.listdir(beneath.root_fd)):
            raise StorageError(ErrorCode.VOLUME_CONFLICT, f"{root} is not empty")
        hand_nothing_down(beneath)
        space = os.fstatvfs(beneath.root_fd)
        stream = TarStream(chunks, _bound(limits, space.f_bavail * space.f_frsize))
        return _Extraction(beneath, stream, late, limits.max_entries).run()


def _bound(limits: ForeignLimits, free: int) -> Bound:
    if limits.max_bytes is not None and limits.max_bytes <= free:
        return Bound(limits.max_bytes, ErrorCode.ARCHIVE_TOO_LARGE)
    return Bound(free, ErrorCode.NO_SPACE)


class _Extraction:
    """One pass over the archive, then the links, then the folders' metadata."""

    def __init__(self, beneath: Beneath, stream: TarStream, late: Path, max_entries: int) -> None:
        self._beneath = beneath
        self._stream = stream
        self._folders = late / "folders"
        self._links = late / "links"
        self._entries_left = max_entries
        self._max_entries = max_entries
        # Whatever this process may do: a stranger's archive makes no device.
        self._abilities: Abilities = replace(attributes.probe_abilities(beneath), devices=False)
        self._report = RestoreReport()
        self._skipped = self._report.skipped
        self._link_targets: set[int] = set()
        self._left_out: dict[int, str] = {}
        self._home = os.fstat(beneath.root_fd)

    def run(self) -> RestoreReport:
        """All of it. Links and folders wait on disk: an archive may have millions."""
        with SpoolWriter(self._folders) as self._later_folders:
            with SpoolWriter(self._links) as self._later_links:
                for member in read_members(self._stream.take):
                    self._count()
                    self._member(member)
                self._stream.end()
            for _, entry, _ in read_spool(self._links):
                self._link(entry)
        self._finish_folders()
        return self._report

    def _count(self) -> None:
        """An entry, or a folder that none announced: a name of 4 KiB can make two thousand of those."""
        self._entries_left -= 1
        if self._entries_left < 0:
            raise StorageError(ErrorCode.ARCHIVE_TOO_LARGE, f"the archive has more than {self._max_entries} entries")

    def _member(self, member: Member) -> None:
        entry = self._carried(member)
        if not entry.path and entry.type is not FileType.DIRECTORY:
            raise corrupt("the archive's root is not a folder")
        with writing(entry.path):
            if entry.type is FileType.DIRECTORY:
                self._make_folders(entry.path, announced=True)
                self._later_folders.append(pack_entry(entry), EMPTY_CONTENT)
            elif entry.type is FileType.FILE:
                self._file(entry, member)
            elif entry.type in _NODES and omitted(entry, self._abilities) is None:
                self._make_room(entry.path)
                self._beneath.mknod(entry.path, _NODES[entry.type] | 0o600)
                attributes.apply(self._beneath, entry, self._abilities, self._skipped)
            else:
                self._later_links.append(pack_entry(entry), EMPTY_CONTENT)
                if entry.type is FileType.HARD_LINK:
                    self._link_targets.add(hash(entry.target))

    def _carried(self, member: Member) -> Entry:
        """The entry without what a stranger's archive may not give; counted."""
        entry = member.entry
        if member.has_acl:
            self._skipped["acls"] += 1
        kept = []
        for name, value in entry.xattrs:
            if name.startswith(b"user.") and entry.type is not FileType.SYMLINK and self._abilities.can_set(name):
                kept.append((name, value))
            else:
                self._skipped[f"{os.fsdecode(name.partition(b'.')[0])}_xattrs"] += 1
        mode = entry.mode
        if mode & _SETID and entry.type is FileType.FILE:
            self._skipped["setuid"] += 1
            mode &= ~_SETID
        return entry._replace(mode=mode, xattrs=tuple(kept))

    def _file(self, entry: Entry, member: Member) -> None:
        self._make_room(entry.path)
        fd = self._beneath.create(entry.path)
        try:
            for offset, length in member.extents:
                for piece in self._stream.blocks(length):
                    write_all(fd, piece, offset)
                    offset += len(piece)
            os.ftruncate(fd, entry.size)
        finally:
            os.close(fd)
        self._stream.skip(padding(member.stored))
        attributes.apply(self._beneath, entry, self._abilities, self._skipped)
        self._report.files += 1
        self._report.bytes += entry.size

    def _make_room(self, path: bytes) -> None:
        """The folders above, and no file of that name: a later entry replaces an earlier one, as in every tar."""
        self._make_folders(path.rpartition(b"/")[0])
        there = self._beneath.lstat(path)
        if there is None:
            return
        if hash(path) in self._link_targets:
            raise corrupt(f"{shown(path)} comes again after a hard link to it")
        self._beneath.remove(path)

    def _make_folders(self, path: bytes, *, announced: bool = False) -> None:
        """Folders that the archive does not list get the home's owner; if it lists them later, that counts."""
        for made in self._beneath.makedirs(path):
            if not (announced and made == path):
                self._count()
            home = self._home
            entry = Entry(made, FileType.DIRECTORY, 0o755, home.st_uid, home.st_gid, mtime_ns=home.st_mtime_ns)
            self._later_folders.append(pack_entry(entry), EMPTY_CONTENT)

    def _leave_out(self, path: bytes, kind: str) -> None:
        """Count it, and remember it where an archive has further names of it."""
        self._skipped[kind] += 1
        if hash(path) in self._link_targets:
            self._left_out[hash(path)] = kind

    def _link(self, entry: Entry) -> None:
        if kind := omitted(entry, self._abilities):
            self._leave_out(entry.path, kind)
            return
        with writing(entry.path):
            self._make_folders(entry.path.rpartition(b"/")[0])
            there = self._beneath.lstat(entry.path)
            if entry.type is FileType.HARD_LINK:
                target = self._beneath.lstat(entry.target)
                if target is None and hash(entry.target) in self._left_out:
                    self._leave_out(entry.path, self._left_out[hash(entry.target)])
                    return
                if target is None or stat.S_ISDIR(target.st_mode):
                    raise corrupt(f"the hard link {shown(entry.path)} leads to no file")
                if there is not None and (there.st_dev, there.st_ino) == (target.st_dev, target.st_ino):
                    return
            if there is not None and not stat.S_ISLNK(there.st_mode):
                raise corrupt(f"{shown(entry.path)} is a link and something else")
            self._beneath.remove(entry.path)
            if entry.type is FileType.HARD_LINK:
                self._beneath.link(entry.path, entry.target)
            else:
                self._beneath.symlink(entry.path, entry.target)
                attributes.apply(self._beneath, entry, self._abilities, self._skipped)

    def _finish_folders(self) -> None:
        """Metadata of folders, when nothing is made in any of them any more.

        A folder that shuts its own owner out (no rwx) waits for the end, deepest first: until then all below it must
        stay reachable. Of those the places in the spool are remembered, by depth. The rest goes in any order, since
        the times of a folder do not depend on what happens to the metadata of others.
        """
        closed: dict[int, array[int]] = {}
        for at, entry, _ in read_spool(self._folders):
            if entry.mode & 0o700 == 0o700:
                attributes.apply(self._beneath, entry, self._abilities, self._skipped)
            else:
                closed.setdefault(entry.path.count(b"/") if entry.path else -1, array("Q")).append(at)
        for depth in sorted(closed, reverse=True):
            for at in closed[depth]:
                entry = next(read_spool(self._folders, at)).entry
                attributes.apply(self._beneath, entry, self._abilities, self._skipped)
