"""The plan of an archive: one walk, cut into segments, the same for the same tree wherever and whenever it is made.

A mover that takes over walks again and finds the same cuts; if it does not (``PlanSummary.cut_digest``), the upload
must begin anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from activities.dataplane.ahead import Walked, Walker, walk_ahead
from activities.dataplane.cutting import MIB, Cutter, PlanLimits, SegmentPlan, cut_digest, cut_files, raw_size, run_of
from activities.dataplane.entries import EMPTY_CONTENT, Content, Entry, FileType, content_of, is_whiteout
from activities.dataplane.large import Range, find_holes
from activities.dataplane.manifest import Totals
from activities.dataplane.reading import VolumeReader
from activities.dataplane.segments import SegmentKind
from activities.dataplane.spool import Spooled, SpoolWriter, read_spool
from activities.dataplane.threads import Stop, run_blocking

__all__ = ["COUNTERS", "MIB", "Plan", "PlanLimits", "PlanSummary", "Progress", "SegmentPlan", "scan_volume"]

_FILE, _DIRECTORY, _SOCKET = FileType.FILE, FileType.DIRECTORY, FileType.SOCKET
_DEVICES = FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE
FILES, LINKS, FOLDERS = "files", "links", "folders"
_REPORT_EVERY = 4096

Progress = Callable[[int], None]
"""Called now and then with a number that grows: entries seen, or bytes moved, as the function says."""


@dataclass(frozen=True)
class PlanSummary:
    """A plan in short. ``raw_bytes`` is an estimate. ``cut_digest``: equal for plans with the same segments."""

    change_fingerprint: str
    content_fingerprint: str
    entries: int
    files: int
    file_bytes: int
    raw_bytes: int
    data_segments: int
    cut_digest: str
    totals: Totals


@dataclass(frozen=True)
class Plan:
    """What is to be archived, and how it is cut. ``spool`` holds the entries; it belongs to this process."""

    root: Path
    spool: Path
    limits: PlanLimits
    summary: PlanSummary
    segments: tuple[SegmentPlan, ...]
    holes: dict[int, list[Range]] = field(default_factory=dict)

    def segment(self, number: int) -> SegmentPlan:
        """The data segment of this number, counted from 1."""
        return self.segments[number - 1]

    def entries(self, segment: SegmentPlan) -> Iterator[Spooled]:
        """The entries of a data segment, in order."""
        for spooled in read_spool(self.spool / FILES, segment.start, segment.end):
            if segment.kind is SegmentKind.LARGE or run_of(spooled.entry, self.limits) == segment.is_far:
                yield spooled

    def tail_entries(self) -> Iterator[Spooled]:
        """The entries of the tail: links and specials in archive order, then folders, those inside before the outer.

        A plain reader that is no root can then set the modes of folders as they come.
        """
        yield from read_spool(self.spool / LINKS)
        yield from read_spool(self.spool / FOLDERS)


async def scan_volume(
    root: Path | str, spool: Path, limits: PlanLimits, progress: Progress, *, walker: Walker | None = None
) -> Plan:
    """Walk the tree below ``root`` and cut it. ``spool`` is an empty folder of the caller; ``progress`` gets entries.

    ``walker``: a process that walks (``walk_ahead``).
    Raises ``VolumeUnreadable``, ``VolumeChanged``, ``Unsupported`` (nested mount) and ``ArchiveTooLarge``.
    """
    root, survey = Path(root), _Survey(limits)

    def take(walked: Walked, stop: Stop) -> None:
        with (
            SpoolWriter(spool / FILES) as files,
            SpoolWriter(spool / LINKS) as links,
            SpoolWriter(spool / FOLDERS) as folders,
        ):
            survey.run(walked, files, links, folders, progress, stop)

    _, change = await walk_ahead(walker, root, take)
    return await run_blocking(lambda stop: _cut(root, spool, survey, change, stop))


def _cut(root: Path, spool: Path, survey: _Survey, change: str, stop: Stop) -> Plan:
    holes = _find_all_holes(root, spool, survey, stop)
    limits, segments = cut_files(spool / FILES, survey.cutter, survey.large, holes, survey.weight, stop)
    content = survey.tail_content
    for segment in segments:
        content = content.plus(segment.content)
    summary = PlanSummary(
        change_fingerprint=change,
        content_fingerprint=content.hex(),
        entries=survey.totals["entries"],
        files=survey.totals["files"],
        file_bytes=survey.totals["file_bytes"],
        raw_bytes=survey.raw_bytes,
        data_segments=len(segments),
        cut_digest=cut_digest(segments, holes, content),
        totals=Totals(**survey.totals, skipped=dict(sorted(survey.skipped.items()))),
    )
    return Plan(root, spool, limits, summary, tuple(segments), holes)


class Omissions:
    """What an archive leaves out. To be asked in the order of the walk."""

    def __init__(self, limits: PlanLimits) -> None:
        self._allow_devices = limits.allow_devices
        self._devices: set[int] = set()

    def kind_of(self, entry: Entry) -> str | None:
        """``sockets`` or ``devices``, under each of their names; ``None`` for what goes into the archive."""
        if entry.type is _SOCKET:
            return "sockets"
        if entry.type in _DEVICES and not (self._allow_devices or is_whiteout(entry)):
            self._devices.add(entry.inode)
        return "devices" if entry.inode in self._devices else None


class _Survey:
    """What one walk adds up while it fills the spools."""

    def __init__(self, limits: PlanLimits) -> None:
        self.cutter = Cutter(limits)
        self._open_folders: list[tuple[bytes, bytes, Content]] = []
        self.tail_content = EMPTY_CONTENT
        self.raw_bytes = 0
        self.weight = 0
        self.large: list[int] = []
        self.totals = dict.fromkeys(
            ("entries", "files", "directories", "symlinks", "hard_links", "specials", "file_bytes"), 0
        )
        self.skipped: dict[str, int] = {}
        self._omissions = Omissions(limits)

    def run(
        self,
        walked: Walked,
        files: SpoolWriter,
        links: SpoolWriter,
        folders: SpoolWriter,
        progress: Progress,
        stop: Stop,
    ) -> None:
        for seen, (entry, packed) in enumerate(walked):
            stop.check()
            if seen % _REPORT_EVERY == 0:
                progress(seen)
            self._close_folders(entry.path, folders)
            omitted = self._omissions.kind_of(entry)
            if omitted is not None:
                self.skipped[omitted] = self.skipped.get(omitted, 0) + 1
                continue
            content, raw = content_of(entry), raw_size(entry)
            self._count(entry, raw)
            if entry.type is _FILE:
                self.weight += raw
                at = files.append(packed, content)
                if not self.cutter.add(at, entry, content, raw):
                    self.large.append(at)
                continue
            self.tail_content = self.tail_content.plus(content)
            if entry.type is _DIRECTORY:
                self._open_folders.append((entry.path, packed, content))
            else:
                links.append(packed, content)
        while self._open_folders:
            folders.append(*self._open_folders.pop()[1:])
        progress(self.totals["entries"])

    def _close_folders(self, path: bytes, folders: SpoolWriter) -> None:
        """Spool the folders that the walk has left: those that ``path`` is not below."""
        while self._open_folders:
            outer = self._open_folders[-1][0]
            if not outer or path.startswith(outer + b"/"):
                return
            folders.append(*self._open_folders.pop()[1:])

    def _count(self, entry: Entry, raw: int) -> None:
        self.raw_bytes += raw
        self.totals["entries"] += 1
        self.totals["file_bytes"] += entry.size
        self.totals[COUNTERS[entry.type]] += 1


COUNTERS = {
    FileType.FILE: "files",
    FileType.DIRECTORY: "directories",
    FileType.SYMLINK: "symlinks",
    FileType.HARD_LINK: "hard_links",
    FileType.FIFO: "specials",
    FileType.CHARACTER_DEVICE: "specials",
    FileType.BLOCK_DEVICE: "specials",
}


def _find_all_holes(root: Path, spool: Path, survey: _Survey, stop: Stop) -> dict[int, list[Range]]:
    """The holes of large files, by where the file stands in the spool. Corrects the weight of the whole."""
    found: dict[int, list[Range]] = {}
    with VolumeReader(root) as reader:
        for at in survey.large:
            stop.check()
            entry = next(read_spool(spool / FILES, at)).entry
            with reader.opened(entry) as fd:
                holes = find_holes(fd, entry.size)
            if holes:
                found[at] = holes
                survey.weight -= sum(length for _, length in holes)
    return found
