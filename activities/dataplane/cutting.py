"""How a tree is cut into segments: limits, the cuts, and what they weigh. Same files, same cuts.

Data segments come in three runs, each in archive order: files, files whose path no plain tool can open, and pieces of
large files. Large files stand behind the others so that they do not tear runs of small ones apart, which
would leave many segments too short for a part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from activities.dataplane.entries import EMPTY_CONTENT, Content, Entry
from activities.dataplane.large import Cut, Range, cut_file, is_far
from activities.dataplane.segments import MAX_SEGMENTS, SegmentKind
from activities.dataplane.spool import Spooled, read_spool
from activities.dataplane.tarheader import BLOCK, MAX_EXTENSION_BYTES, padding_of
from activities.dataplane.threads import Stop
from activities.dataplane.walk import show
from codehub_storage.errors import ErrorCode, StorageError

MIB = 1 << 20
MAX_SEGMENT_BYTES = 120 * MIB
"""Raw. One such segment, if it cannot be compressed, still fits the budget of what is in flight."""
_LARGE = None


@dataclass(frozen=True)
class PlanLimits:
    """How a tree is cut. The same limits are needed to come to the same plan.

    ``segment_bytes``: raw bytes that a segment aims at; it ends between half and 5/4 of that. Larger trees get larger
    segments, up to ``max_segment_bytes``, so that there are at most ``max_segments``; beyond is ``ArchiveTooLarge``.
    Files of at least ``large_file_bytes`` (default: 3/4 of a segment) stand alone. ``min_part_bytes``: what the store
    demands of every part but the last. ``allow_devices``: all go into the archive, instead of whiteouts alone while
    others are counted.
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

    ``is_far``: of paths that no plain tool can open. ``weight``: raw bytes that it takes about, holes counted as what
    they compress to.
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
    is_far: bool = False
    cut: Cut | None = None


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


def cut_files(
    files: Path, first: Cutter, large: Sequence[int], holes: dict[int, list[Range]], weight: int, stop: Stop
) -> tuple[PlanLimits, list[SegmentPlan]]:
    """The segments of the files in a spool, and the limits that led to few enough of them.

    ``first`` was given all but the large ones, which stand at ``large``, with the limits that are wished for: mostly
    that is enough. ``holes``: those of large files, by where the file stands; ``weight``: raw bytes of all, less
    holes. Raises ``ArchiveTooLarge``.
    """
    limits = first.limits
    goal, most = max(limits.segment_bytes, weight // limits.max_segments), limits.max_segment_bytes
    while goal <= most:
        if goal == limits.segment_bytes:
            segments = first.finish((next(read_spool(files, at)) for at in large), holes)
        else:
            limits = replace(limits, segment_bytes=goal)
            segments = _cut_again(files, limits, holes, stop)
        if len(segments) <= limits.max_segments:
            return limits, segments
        goal = most if goal < most < goal * 5 // 4 else goal * 5 // 4
    largest = limits.max_segments * limits.max_segment_bytes
    raise StorageError(
        ErrorCode.ARCHIVE_TOO_LARGE,
        f"the volume holds about {weight} bytes; one archive takes {limits.max_segments} segments of at most "
        f"{limits.max_segment_bytes} bytes, {largest} in all",
        details={"bytes": weight, "limit_bytes": largest},
    )


def _cut_again(files: Path, limits: PlanLimits, holes: dict[int, list[Range]], stop: Stop) -> list[SegmentPlan]:
    cutter, large = Cutter(limits), list[int]()
    for at, entry, content in read_spool(files):
        stop.check()
        if not cutter.add(at, entry, content, raw_size(entry)):
            large.append(at)
    return cutter.finish((next(read_spool(files, at)) for at in large), holes)


def run_of(entry: Entry, limits: PlanLimits) -> bool | None:
    """Which run of segments a file belongs to: near (False), far (True), or large (None)."""
    return _LARGE if entry.size >= limits.large_from else is_far(entry)


class _Open:
    """A segment of whole files that still takes some."""

    def __init__(self, at: int, path: bytes) -> None:
        self.start = at
        self.first = self.last = path
        self.end = 0
        self.weight = self.entries = 0
        self.content = EMPTY_CONTENT


class Cutter:
    """Cuts files, given in archive order, into the three runs of segments."""

    def __init__(self, limits: PlanLimits) -> None:
        self.limits = limits
        self._goal = limits.segment_bytes
        self._open: dict[bool, _Open] = {}
        self._runs: dict[bool | None, list[SegmentPlan]] = {False: [], True: [], _LARGE: []}

    def add(self, at: int, entry: Entry, content: Content, raw: int) -> bool:
        """The next file, which stands at ``at`` and takes ``raw`` bytes. False: it is large, and for ``finish``."""
        run = run_of(entry, self.limits)
        if run is None:
            return False
        current, goal = self._open.get(run), self._goal
        if current is not None and current.weight + raw > goal and current.weight >= goal // 2:
            self._close(run)
            current = None
        if current is None:
            current = self._open[run] = _Open(at, entry.path)
        current.last = entry.path
        current.end = at + 1
        current.weight += raw
        current.entries += 1
        current.content = current.content.plus(content)
        return True

    def finish(self, large: Iterable[Spooled], holes: dict[int, list[Range]]) -> list[SegmentPlan]:
        """All segments. ``large``: the files that are; ``holes``: theirs, by where they stand."""
        for run in (False, True):
            self._close(run)
        for spooled in large:
            self._cut_large(spooled, holes.get(spooled.at, []))
        ordered = self._runs[False] + self._runs[True] + self._runs[_LARGE]
        return [replace(segment, number=number) for number, segment in enumerate(ordered, 1)]

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

    def _cut_large(self, spooled: Spooled, holes: list[Range]) -> None:
        path = spooled.entry.path
        for cut in cut_file(spooled.entry.size, holes, self._goal):
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
                    cut=cut,
                )
            )


def cut_digest(segments: list[SegmentPlan], holes: dict[int, list[Range]], content: Content) -> str:
    """Equal for plans with the same segments. ``content``: that of the whole archive, and so of the tail too."""
    digest = hashlib.sha256(repr(content).encode())
    for segment in segments:
        digest.update(repr((int(segment.kind), segment.content, segment.is_far, segment.cut)).encode())
        if segment.cut is not None:
            digest.update(repr(holes.get(segment.start)).encode())
    return digest.hexdigest()
