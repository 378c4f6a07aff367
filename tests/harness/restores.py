"""An archive into a folder in one call, through the same steps as the activities take."""

from __future__ import annotations

from collections.abc import Callable

from activities.dataplane.report import RestoreReport
from activities.dataplane.restore import ArchiveRestore


async def restore_whole(
    restore: ArchiveRestore, *, restored: Callable[[int], None] = lambda segment: None
) -> RestoreReport:
    """All steps. ``restored`` gets the number of each data segment that counts as restored."""
    await restore.prepare()
    report = RestoreReport()
    if restore.data_segments:
        report.add(await restore.restore_segments(1, restore.data_segments, restored=restored))
    report.add(await restore.finish())
    await restore.sync()
    return report
