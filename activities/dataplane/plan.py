"""The plan of an archive: one walk, cut into segments, the same for the same tree wherever and whenever it is made.

Data segments come in three runs, each in archive order: files that tar reads, files whose path it cannot open, and
pieces of large files. Large files stand behind the others so that they do not tear runs of small ones apart, which
would leave many segments too short for a part. A mover that takes over walks again and finds the same cuts; if it
does not (``PlanSummary.cut_digest``), the upload must begin anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from activities.dataplane.entries import EMPTY_CONTENT, Content, Entry, FileType, content_of
from activities.dataplane.large import Cut, Range, cut_file, find_holes, needs_own_code, open_below
from activities.dataplane.manifest import Totals
from activities.dataplane.segments import MAX_SEGMENTS, SegmentKind
from activities.dataplane.spool import Spooled, SpoolWriter, read_spool
from activities.dataplane.tarheader import BLOCK, MAX_EXTENSION_BYTES, padding_of
from activities.dataplane.threads import Stop, run_blocking
from activities.dataplane.walk import ChangeDigest, show, walk
from codehub_storage.errors import ErrorCode, StorageError

MIB = 1 << 20
MAX_SEGMENT_BYTES = 120 * MIB
"""Raw. One such segment, if it cannot be compressed, still fits the budget of what is in flight."""
_REPORT_EVERY = 4096

Progress = Callable[[int], None]
"""Called now and then with a number that grows: entries seen, or bytes moved, as the function says."""


@dataclass(frozen=True)
class PlanLimits:
    """How a tree is cut. The same limits are needed to come to the same plan.

    ``segment_bytes``: raw bytes that a segment aims at; it ends between half and 5/4 of that. Larger trees get larger
    segments, up to ``max_segment_bytes``, so that there are at most ``max_segments``; beyond is ``ArchiveTooLarge``.
    Files of at least ``large_file_bytes`` (default: 3/4 of a segment) stand alone. ``min_part_bytes``: what the store
    demands of every part but the last.
    """

    segment_bytes: int = 32 * MIB
    large_file_bytes: int | None = None
    max_segment_bytes: int = MAX_SEGMENT_BYTES
    max_segments: int = MAX_SEGMENTS
    min_part_bytes: int = 5 * MIB
    allow_devices: bool = False

    @property
    def large_from(self) -> int:
        """From this size on a file stands alone."""
        return self.segment_bytes * 3 // 4 if self.large_file_bytes is None else self.large_file_bytes


@dataclass(frozen=True)
class SegmentPlan:
    """One data segment: which entries of the spool it holds, ``[start, end)``, or which piece (``cut``) of one file.

    ``own_code``: not read by tar. ``weight``: raw bytes that it takes about, holes counted as what they compress to.
    """

    number: int
    kind: SegmentKind
    start: int
    end: int
    entries: int
    weight: int
    content: Content
    first: bytes
    last: bytes
    own_code: bool = False
    cut: Cut | None = None


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
    """What is to be archived, and how it is cut. ``spool`` holds the entries; it belongs to this process.

    ``pass_fds`` are inherited by the tar processes: a lock among them tells when the last of them is gone.
    """

    root: Path
    spool: Path
    limits: PlanLimits
    summary: PlanSummary
    segments: tuple[SegmentPlan, ...]
    holes: dict[int, list[Range]] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()

    def segment(self, number: int) -> SegmentPlan:
        """The data segment of this number, counted from 1."""
        return self.segments[number - 1]

    def entries(self, segment: SegmentPlan) -> Iterator[Spooled]:
        """The entries of a data segment, in order."""
        for spooled in read_spool(self.spool / FILES, segment.start, segment.end):
            if segment.kind is SegmentKind.LARGE or _run_of(spooled.entry, self.limits) == segment.own_code:
                yield spooled

    def tail_entries(self) -> Iterator[Spooled]:
        """The entries of the tail: links and specials in archive order, then folders, those inside before the outer.

        A plain reader that is no root can then set the modes of folders as they come.
        """
        yield from read_spool(self.spool / LINKS)
        yield from read_spool(self.spool / FOLDERS)


FILES, LINKS, FOLDERS = "files", "links", "folders"
_LARGE = None


async def scan_volume(
    root: Path | str, spool: Path, limits: PlanLimits, progress: Progress, *, pass_fds: tuple[int, ...] = ()
) -> Plan:
    """Walk the tree below ``root`` and cut it. ``spool`` is an empty folder of the caller; ``progress`` gets entries.

    Raises ``VolumeUnreadable``, ``VolumeChanged``, ``Unsupported`` (nested mount) and ``ArchiveTooLarge``.
    """
    return await run_blocking(lambda stop: _scan(Path(root), spool, limits, progress, pass_fds, stop))


def _scan(
    root: Path, spool: Path, limits: PlanLimits, progress: Progress, pass_fds: tuple[int, ...], stop: Stop
) -> Plan:
    survey = _Survey(limits)
    with SpoolWriter(spool / FILES) as files, SpoolWriter(spool / LINKS) as links, SpoolWriter(spool / FOLDERS) as dirs:
        survey.run(walk(root, xattrs=True), files, links, dirs, progress, stop)
    holes = _find_all_holes(root, spool, survey, stop)
    limits, segments = _cut(spool, limits, holes, survey.weight, stop)
    summary = PlanSummary(
        change_fingerprint=survey.change.hexdigest(),
        content_fingerprint=survey.content.hex(),
        entries=survey.totals["entries"],
        files=survey.totals["files"],
        file_bytes=survey.totals["file_bytes"],
        raw_bytes=survey.raw_bytes,
        data_segments=len(segments),
        cut_digest=_cut_digest(segments, holes),
        totals=Totals(**survey.totals, skipped=dict(sorted(survey.skipped.items()))),
    )
    return Plan(root, spool, limits, summary, tuple(segments), holes, pass_fds)


class _Survey:
    """What one walk adds up while it fills the spools."""

    def __init__(self, limits: PlanLimits) -> None:
        self._limits = limits
        self._open_folders: list[tuple[Entry, Content]] = []
        self.change = ChangeDigest()
        self.content = EMPTY_CONTENT
        self.raw_bytes = 0
        self.weight = 0
        self.large: list[int] = []
        self.totals = dict.fromkeys(
            ("entries", "files", "directories", "symlinks", "hard_links", "specials", "file_bytes"), 0
        )
        self.skipped: dict[str, int] = {}

    def run(
        self,
        entries: Iterator[Entry],
        files: SpoolWriter,
        links: SpoolWriter,
        folders: SpoolWriter,
        progress: Progress,
        stop: Stop,
    ) -> None:
        for seen, entry in enumerate(entries):
            stop.check()
            if seen % _REPORT_EVERY == 0:
                progress(seen)
            self.change.add(entry)
            self._close_folders(entry.path, folders)
            if self._is_skipped(entry):
                continue
            content = content_of(entry)
            self._count(entry, content)
            if entry.type is FileType.FILE:
                at = files.append(entry, content)
                if entry.size >= self._limits.large_from:
                    self.large.append(at)
            elif entry.type is FileType.DIRECTORY:
                self._open_folders.append((entry, content))
            else:
                links.append(entry, content)
        while self._open_folders:
            folders.append(*self._open_folders.pop())
        progress(self.totals["entries"])

    def _close_folders(self, path: bytes, folders: SpoolWriter) -> None:
        """Spool the folders that the walk has left: those that ``path`` is not below."""
        while self._open_folders:
            outer = self._open_folders[-1][0].path
            if not outer or path.startswith(outer + b"/"):
                return
            folders.append(*self._open_folders.pop())

    def _is_skipped(self, entry: Entry) -> bool:
        is_device = entry.type in (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE)
        if entry.type is not FileType.SOCKET and (self._limits.allow_devices or not is_device):
            return False
        kind = "devices" if is_device else "sockets"
        self.skipped[kind] = self.skipped.get(kind, 0) + 1
        return True

    def _count(self, entry: Entry, content: Content) -> None:
        self.content = self.content.plus(content)
        raw = raw_size(entry)
        self.raw_bytes += raw
        self.totals["entries"] += 1
        self.totals["file_bytes"] += entry.size
        self.totals[COUNTERS[entry.type]] += 1
        if entry.type is FileType.FILE:
            self.weight += raw


COUNTERS = {
    FileType.FILE: "files",
    FileType.DIRECTORY: "directories",
    FileType.SYMLINK: "symlinks",
    FileType.HARD_LINK: "hard_links",
    FileType.FIFO: "specials",
    FileType.CHARACTER_DEVICE: "specials",
    FileType.BLOCK_DEVICE: "specials",
}


def raw_size(entry: Entry) -> int:
    """About how many raw bytes an entry takes; deterministic. ``Unsupported`` for attributes beyond any header."""
    extension = 64 + len(entry.path) + len(entry.target)
    if entry.xattrs:
        extension += sum(len(name) + len(value) + 32 for name, value in entry.xattrs)
        if extension > MAX_EXTENSION_BYTES:
            raise StorageError(
                ErrorCode.UNSUPPORTED,
                f"{show(entry.path)}: more extended attributes than an archive can carry",
                details={"path": show(entry.path)},
            )
    return 2 * BLOCK + extension + padding_of(extension) + entry.size + padding_of(entry.size)


def _find_all_holes(root: Path, spool: Path, survey: _Survey, stop: Stop) -> dict[int, list[Range]]:
    """The holes of large files, by where the file stands in the spool. Corrects the weight of the whole."""
    found: dict[int, list[Range]] = {}
    for at in survey.large:
        stop.check()
        entry = next(read_spool(spool / FILES, at)).entry
        with open_below(root, entry.path) as fd:
            holes = find_holes(fd, entry.size)
        if holes:
            found[at] = holes
            survey.weight -= sum(length for _, length in holes)
    return found


def _cut(
    spool: Path, limits: PlanLimits, holes: dict[int, list[Range]], weight: int, stop: Stop
) -> tuple[PlanLimits, list[SegmentPlan]]:
    """The segments, and the limits that led to few enough of them."""
    goal = max(limits.segment_bytes, weight // limits.max_segments)
    while goal <= limits.max_segment_bytes:
        if goal > limits.segment_bytes:
            limits = replace(limits, segment_bytes=goal)
        segments = _Cutter(limits, holes).cut(read_spool(spool / FILES), stop)
        if len(segments) <= limits.max_segments:
            return limits, segments
        goal = goal * 5 // 4
    largest = limits.max_segments * limits.max_segment_bytes
    raise StorageError(
        ErrorCode.ARCHIVE_TOO_LARGE,
        f"the volume holds about {weight} bytes; one archive takes {limits.max_segments} segments of at most "
        f"{limits.max_segment_bytes} bytes, {largest} in all",
        details={"bytes": weight, "limit_bytes": largest},
    )


def _run_of(entry: Entry, limits: PlanLimits) -> bool | None:
    """Which run of segments a file belongs to: tar (False), own code (True), or large (None)."""
    return _LARGE if entry.size >= limits.large_from else needs_own_code(entry)


class _Open:
    """A segment of whole files that still takes some."""

    def __init__(self, first: Spooled) -> None:
        self.start = first.at
        self.first = self.last = first.entry.path
        self.end = 0
        self.weight = self.entries = 0
        self.content = EMPTY_CONTENT


class _Cutter:
    """Cuts files, given in archive order, into the three runs of segments."""

    def __init__(self, limits: PlanLimits, holes: dict[int, list[Range]]) -> None:
        self._limits = limits
        self._holes = holes
        self._open: dict[bool, _Open] = {}
        self._runs: dict[bool | None, list[SegmentPlan]] = {False: [], True: [], _LARGE: []}

    def cut(self, files: Iterator[Spooled], stop: Stop) -> list[SegmentPlan]:
        for spooled in files:
            stop.check()
            run = _run_of(spooled.entry, self._limits)
            if run is None:
                self._cut_large(spooled)
            else:
                self._add(run, spooled)
        for run in (False, True):
            self._close(run)
        ordered = self._runs[False] + self._runs[True] + self._runs[_LARGE]
        return [replace(segment, number=number) for number, segment in enumerate(ordered, 1)]

    def _add(self, run: bool, spooled: Spooled) -> None:
        raw, goal = raw_size(spooled.entry), self._limits.segment_bytes
        current = self._open.get(run)
        if current is not None and current.weight + raw > goal and current.weight >= goal // 2:
            self._close(run)
            current = None
        if current is None:
            current = self._open[run] = _Open(spooled)
        current.last = spooled.entry.path
        current.end = spooled.at + 1
        current.weight += raw
        current.entries += 1
        current.content = current.content.plus(spooled.content)

    def _close(self, run: bool) -> None:
        done = self._open.pop(run, None)
        if done is not None:
            self._runs[run].append(
                SegmentPlan(
                    0,
                    SegmentKind.FILES,
                    done.start,
                    done.end,
                    done.entries,
                    done.weight,
                    done.content,
                    done.first,
                    done.last,
                    run,
                )
            )

    def _cut_large(self, spooled: Spooled) -> None:
        path, holes = spooled.entry.path, self._holes.get(spooled.at, [])
        for cut in cut_file(spooled.entry.size, holes, self._limits.segment_bytes):
            first = cut.offset == 0
            self._runs[_LARGE].append(
                SegmentPlan(
                    number=0,
                    kind=SegmentKind.LARGE,
                    start=spooled.at,
                    end=spooled.at + 1,
                    entries=1 if first else 0,
                    weight=cut.weight,
                    content=spooled.content if first else EMPTY_CONTENT,
                    first=path,
                    last=path,
                    own_code=True,
                    cut=cut,
                )
            )


def _cut_digest(segments: list[SegmentPlan], holes: dict[int, list[Range]]) -> str:
    digest = hashlib.sha256()
    for segment in segments:
        digest.update(repr((int(segment.kind), segment.content, segment.own_code, segment.cut)).encode())
        if segment.cut is not None:
            digest.update(repr(holes.get(segment.start)).encode())
    return digest.hexdigest()
