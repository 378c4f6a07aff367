"""Did anything move? A walk without extended attributes, comparable under one volume uid only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from activities.dataplane.archiver import ArchiverDied, running

Held = Mapping[tuple[int, int], str]
"""Files that somebody has, by device and inode, and who: a walk that meets one ends."""
_HELD_AT_A_TIME = 4096


async def change_fingerprint(
    root: Path | str, stir: Callable[[], None] | None = None, *, held: Held = MappingProxyType({})
) -> str:
    """The change fingerprint. Raises ``VolumeUnreadable`` and ``VolumeChanged``, naming the path, ``Unsupported`` for a
    file system that is mounted below the root, ``VolumeInUse`` for what is in ``held``, and ``BackendUnavailable``
    where the archiver died: a worker or a command runs it, and goes on.

    ``stir`` is called now and then as long as the walk gets on.
    """
    try:
        async with running("fingerprint", "--root", root) as archiver:
            left = iter(held.items())
            while files := list(islice(left, _HELD_AT_A_TIME)):
                await archiver.send({"held": [[*file, who] for file, who in files]})
            await archiver.send({"close": 0})
            found: str = await archiver.answer("change_fingerprint", progress=lambda entries: stir() if stir else None)
    except ArchiverDied as died:
        raise died.as_passing() from died
    return found
