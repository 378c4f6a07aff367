"""The last question of a restore: is the tree on disk the one that was archived?

The restored tree is walked once and the content fingerprints of its entries are added up by segment. A segment that
differs is read again, headers only in effect, and the difference is traced to a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from activities.dataplane.ahead import Walked
from activities.dataplane.archivemap import FILES, ArchiveMap
from activities.dataplane.attributes import Abilities
from activities.dataplane.beneath import shown
from activities.dataplane.entries import EMPTY_CONTENT, Content, Entry, FileType, content_of
from activities.dataplane.large import MAX_PATH_BYTES
from activities.dataplane.threads import Stop
from activities.dataplane.walk import show, walk
from codehub_storage.errors import ErrorCode, StorageError

TAIL_PLACE = 0
"""The tail's segments count as one, under this number; data segments have theirs."""

_FIELDS = (
    *(("type", "type"), ("mode", "mode"), ("size", "size"), ("mtime_ns", "modification time")),
    *(("target", "link target"), ("device", "device"), ("xattrs", "extended attributes")),
)


class Locator:
    """Which data segment a file belongs to. To be asked in archive order."""

    def __init__(self, archive: ArchiveMap) -> None:
        self._large = archive.large
        files = [item for item in archive.data if item.segment.kind == FILES]
        self._runs = [
            [(_sort_key(item.last), item) for item in files if item.is_long == long] for long in (False, True)
        ]
        self._next = [0, 0]

    def place_of(self, entry: Entry) -> int | None:
        """The number of its segment, ``TAIL_PLACE``, or ``None`` for a file that no segment can hold."""
        if entry.type is not FileType.FILE:
            return TAIL_PLACE
        if entry.path in self._large:
            return self._large[entry.path].number
        which = len(entry.path) > MAX_PATH_BYTES
        run, key = self._runs[which], _sort_key(entry.path)
        while self._next[which] < len(run) and run[self._next[which]][0] < key:
            self._next[which] += 1
        if self._next[which] == len(run):
            return None
        item = run[self._next[which]][1]
        return item.number if _sort_key(item.first) <= key else None


def find_differences(
    walked: Walked,
    archive: ArchiveMap,
    abilities: Abilities,
    left_out: Content,
    seen: Callable[[], None],
    stop: Stop,
) -> list[int]:
    """The places whose fingerprint is not that of the archive. ``ArchiveCorrupt`` for a strange file.

    ``walked``: the restored tree. ``left_out`` is the content of tail entries that this process could not make.
    ``seen`` is called for each entry.
    """
    sums: dict[int, Content] = {}
    for place, entry in _placed((entry for entry, _ in walked), archive, stop):
        sums[place] = sums.get(place, EMPTY_CONTENT).plus(content_of(entry))
        seen()
    expected = {item.number: item.content for item in archive.data}
    expected[TAIL_PLACE] = EMPTY_CONTENT
    for item in archive.tail:
        expected[TAIL_PLACE] = expected[TAIL_PLACE].plus(item.content)
    found = {**dict.fromkeys(expected, EMPTY_CONTENT), **sums}
    found[TAIL_PLACE] = found[TAIL_PLACE].plus(left_out)
    return [place for place in sorted(expected) if not agrees(expected[place], found[place], abilities)]


def trace(
    root: Path, archive: ArchiveMap, place: int, archived: dict[bytes, Entry], abilities: Abilities, stop: Stop
) -> StorageError:
    """The error that names the path at which a place differs. ``archived``: its entries, as the archive has them."""
    left = dict(archived)
    for where, entry in _placed(walk(root, xattrs=True), archive, stop):
        if where != place:
            continue
        original = left.pop(entry.path, None)
        if original is None:
            return _differs(entry.path, "it is not in the archive")
        if not agrees(content_of(original), content_of(entry), abilities):
            return _differs(entry.path, _difference(original, entry))
    if left:
        return _differs(min(left), "it is missing")
    return StorageError(ErrorCode.ARCHIVE_CORRUPT, f"the manifest and the headers of segment {place} contradict")


def agrees(expected: Content, found: Content, abilities: Abilities) -> bool:
    """Equal, as far as this process may set what was archived; what it may not set was counted as skipped."""
    return (
        expected.base == found.base
        and (not abilities.owners or expected.ids == found.ids)
        and (not abilities.all_privileged or expected.privileged == found.privileged)
    )


def _placed(entries: Iterator[Entry], archive: ArchiveMap, stop: Stop) -> Iterator[tuple[int, Entry]]:
    locator = Locator(archive)
    for entry in entries:
        stop.check()
        place = locator.place_of(entry)
        if place is None:
            raise _differs(entry.path, "it is not in the archive")
        yield place, entry


def _difference(archived: Entry, found: Entry) -> str:
    for name, words in _FIELDS:
        if getattr(archived, name) != getattr(found, name):
            return f"its {words} is {_brief(found, name)} instead of {_brief(archived, name)}"
    return f"its owner is {found.uid}:{found.gid} instead of {archived.uid}:{archived.gid}"


def _brief(entry: Entry, name: str) -> str:
    value = getattr(entry, name)
    if name == "xattrs":
        return "(" + ", ".join(shown(key) for key, _ in value) + ")"
    return oct(value) if name == "mode" else str(value)


def _differs(path: bytes, why: str) -> StorageError:
    return StorageError(
        ErrorCode.ARCHIVE_CORRUPT, f"{shown(path)} was not restored as archived: {why}", details={"path": show(path)}
    )


def _sort_key(path: bytes) -> bytes:
    """Orders as the list of components does, because no name holds a NUL."""
    return path.replace(b"/", b"\0")
