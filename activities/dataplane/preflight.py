"""Does the expanded archive fit? Asked before a byte is written: then a full volume is an answer, not an accident."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from activities.dataplane.manifest import Manifest
from codehub_storage.errors import ErrorCode, StorageError


async def preflight(root: Path, manifest: Manifest) -> None:
    """``NoSpace`` if the file system of ``root`` cannot hold the archive: bytes without holes, and inodes.

    Slack of the last blocks is not counted, so a volume as full as its source is not refused; the writers still
    meet ``NoSpace`` where this was too friendly. Holes of smaller files are not known, and count as bytes.
    """
    space = await asyncio.to_thread(os.statvfs, root)
    totals = manifest.totals
    holes = sum(length for segment in manifest.segments if segment.piece for _, length in segment.piece.holes)
    needed = totals.file_bytes - holes + totals.directories * space.f_frsize
    _demand(root, "bytes", needed, space.f_bavail * space.f_frsize)
    if space.f_files:  # btrfs and others make inodes as they go, and say 0
        inodes = totals.files + totals.directories + totals.symlinks + totals.specials
        _demand(root, "inodes", inodes, space.f_favail)


def _demand(root: Path, what: str, needed: int, free: int) -> None:
    if needed > free:
        raise StorageError(
            ErrorCode.NO_SPACE,
            f"the archive needs {needed} {what} and {root} has {free}",
            details={"what": what, "needed": needed, "free": free},
        )
