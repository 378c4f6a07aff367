"""The plan of an archive: one walk, cut into segments, the same for the same tree wherever and whenever it is made.

A mover that takes over walks again and finds the same cuts; if it does not (``PlanSummary.cut_digest``), the upload
must begin anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from activities.dataplane.archiver import running
from activities.dataplane.manifest import Segment, Totals
from activities.dataplane.segments import MAX_SEGMENTS

MIB = 1 << 20
_TABLE = "table"

Progress = Callable[[int], None]
"""Called now and then with a number that grows: entries seen, or bytes moved, as the function says."""


@dataclass(frozen=True)
class PlanLimits:
    """How a tree is cut. The same limits are needed to come to the same plan.

    ``segment_bytes``: raw bytes that a segment aims at; it ends between half and 5/4 of that. Larger trees get larger
    segments, up to ``max_segment_bytes``, so that there are at most ``max_segments``; beyond is ``ArchiveTooLarge``.
    Files of at least ``large_file_bytes`` (default: 3/4 of a segment) stand alone. ``allow_devices``: all go into the
    archive, instead of whiteouts alone while others are counted.
    """

    segment_bytes: int = 4 * MIB
    large_file_bytes: int | None = None
    max_segment_bytes: int = 120 * MIB
    max_segments: int = MAX_SEGMENTS
    allow_devices: bool = False

    def arguments(self) -> list[str]:
        """As the archiver takes them."""
        found = [
            *("--segment-bytes", str(self.segment_bytes)),
            *("--max-segment-bytes", str(self.max_segment_bytes)),
            *("--max-segments", str(self.max_segments)),
        ]
        if self.large_file_bytes is not None:
            found += ["--large-from", str(self.large_file_bytes)]
        return [*found, "--allow-devices"] if self.allow_devices else found


class PlanSummary(BaseModel):
    """A plan in short. ``raw_bytes`` is an estimate. ``cut_digest``: equal for plans with the same segments."""

    model_config = ConfigDict(frozen=True)

    change_fingerprint: str
    content_fingerprint: str
    cut_digest: str
    entries: int
    files: int
    file_bytes: int
    raw_bytes: int
    data_segments: int
    totals: Totals


@dataclass(frozen=True)
class Plan:
    """What is to be archived, and how it is cut. ``folder`` is the archiver's; it belongs to this process."""

    root: Path
    folder: Path
    summary: PlanSummary

    def segments(self) -> Iterator[Segment]:
        """All segments, those of the tail last, as far as a walk knows them."""
        with (self.folder / _TABLE).open("rb") as table:
            for line in table:
                yield Segment.model_validate(json.loads(line)["segment"])


async def scan_volume(
    root: Path, folder: Path, limits: PlanLimits, progress: Progress, *, lock_fd: int | None = None
) -> Plan:
    """Walk the tree below ``root`` and cut it. ``folder`` is an empty one of the caller; ``progress`` gets entries.

    Raises ``VolumeUnreadable``, ``VolumeChanged``, ``Unsupported`` (nested mount) and ``ArchiveTooLarge``.
    """
    async with running("plan", "--root", root, "--out", folder, *limits.arguments(), lock_fd=lock_fd) as archiver:
        summary = await archiver.answer("plan", progress=progress)
    return Plan(root, folder, PlanSummary.model_validate(summary))
