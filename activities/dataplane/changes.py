"""What moved: the name that is behind two different change fingerprints.

The fingerprint is one digest, so it cannot tell. A plan's spool can: it holds what the first walk saw.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from activities.dataplane.entries import Entry, FileType, change_bytes
from activities.dataplane.plan import FILES, FOLDERS, LINKS, Omissions, Plan
from activities.dataplane.spool import read_spool
from activities.dataplane.threads import Stop
from activities.dataplane.walk import volume_changed, walk
from codehub_storage.errors import ErrorCode, StorageError

_AFTER_ALL = b"\xff" * 256
"""Greater than any name."""
_STIR_EVERY = 4096

Keyed = Iterator[tuple[list[bytes], Entry]]
"""Entries by ascending keys."""


def find_change(plan: Plan, stir: Callable[[], None], stop: Stop) -> StorageError:
    """``VolumeChanged`` that names a path which is not as it was planned. Errors of the walk come as they are.

    A folder is named only where nothing else is: whatever comes or goes in it changes its own time, too. Nothing is
    named where all is as it was again, or where it was a name that no archive holds. ``stir`` is called now and then.
    """
    return (
        _first_difference(_planned_names(plan), _names(plan, _walk(plan, stir, stop)))
        or _first_difference(_planned_folders(plan), _folders(_walk(plan, stir, stop)))
        or StorageError(ErrorCode.VOLUME_CHANGED, "the volume changed while it was archived")
    )


def _walk(plan: Plan, stir: Callable[[], None], stop: Stop) -> Iterator[Entry]:
    for number, entry in enumerate(walk(plan.root, xattrs=False)):
        stop.check()
        if number % _STIR_EVERY == 0:
            stir()
        yield entry


def _first_difference(planned: Keyed, found: Keyed) -> StorageError | None:
    while True:
        old, new = next(planned, None), next(found, None)
        if old is None and new is None:
            return None
        if new is None or (old is not None and old[0] < new[0]):
            assert old is not None
            return volume_changed(old[1].path, "is no longer there, or no longer what it was")
        if old is None or new[0] < old[0]:
            return volume_changed(new[1].path, "is new since it was listed")
        if change_bytes(old[1]) != change_bytes(new[1]):
            return volume_changed(new[1].path, "changed since it was listed")


def _planned_names(plan: Plan) -> Keyed:
    spools = (read_spool(plan.spool / name) for name in (FILES, LINKS))
    return heapq.merge(*(((_parts(found.entry), found.entry) for found in spool) for spool in spools))


def _names(plan: Plan, entries: Iterator[Entry]) -> Keyed:
    """All but folders and what the plan leaves out."""
    omissions = Omissions(plan.limits)
    for entry in entries:
        if omissions.kind_of(entry) is None and entry.type is not FileType.DIRECTORY:
            yield _parts(entry), entry


def _planned_folders(plan: Plan) -> Keyed:
    for found in read_spool(plan.spool / FOLDERS):
        yield [*_parts(found.entry), _AFTER_ALL], found.entry


def _folders(entries: Iterator[Entry]) -> Keyed:
    """In the plan's order, which is that in which the walk leaves them."""
    opened: list[tuple[list[bytes], Entry]] = []
    for entry in entries:
        parts = _parts(entry)
        while opened and opened[-1][0] != parts[: len(opened[-1][0])]:
            yield _left(opened.pop())
        if entry.type is FileType.DIRECTORY:
            opened.append((parts, entry))
    while opened:
        yield _left(opened.pop())


def _left(folder: tuple[list[bytes], Entry]) -> tuple[list[bytes], Entry]:
    return [*folder[0], _AFTER_ALL], folder[1]


def _parts(entry: Entry) -> list[bytes]:
    return entry.path.split(b"/") if entry.path else []
