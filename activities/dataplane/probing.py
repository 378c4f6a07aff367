"""What the kernel and a file system allow the archiver, for `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from activities.dataplane.archiver import running


class Abilities(BaseModel):
    """What this user may set on a file system, found by trying. ``xattrs``: kinds of extended attributes."""

    model_config = ConfigDict(frozen=True)

    owners: bool
    devices: bool
    whiteouts: bool
    xattrs: tuple[str, ...]
    all_privileged: bool


class Probe(BaseModel):
    """``landlock_abi``: 0 where the kernel has none that counts. ``abilities``: where a directory was named."""

    model_config = ConfigDict(frozen=True)

    landlock_abi: int
    openat2: bool
    abilities: Abilities | None = None


async def probe(root: Path | None = None) -> Probe:
    """Try it. ``root``: a directory that a file may be made in for a moment."""
    found: dict[str, Any] = {}
    # Its input stays open: where that ends it takes us for gone.
    async with running("probe", *(() if root is None else ("--root", root))) as archiver:
        async for frame in archiver.frames():
            found.update(frame.line)
    return Probe.model_validate(found)
