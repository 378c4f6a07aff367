"""What a hostile case is: bytes in a store, how they are restored, and the one end that they must come to."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from activities.dataplane.archiver import Wall
from activities.dataplane.foreign import ForeignLimits, restore_foreign
from activities.dataplane.manifest import Manifest, Totals
from activities.dataplane.report import RestoreReport
from activities.dataplane.restore import ArchiveRestore
from activities.objectstore.base import ObjectInfo
from codehub_storage.errors import ErrorCode
from tests.fakes.memory_store import MemoryStore
from tests.harness.canary import Canary
from tests.harness.restores import restore_whole
from tests.hostile.forging import END, Forged, forge

CORRUPT, UNSUPPORTED, TOO_LARGE = ErrorCode.ARCHIVE_CORRUPT, ErrorCode.UNSUPPORTED, ErrorCode.ARCHIVE_TOO_LARGE
NO_SPACE, DENIED, NOT_FOUND = ErrorCode.NO_SPACE, ErrorCode.ACCESS_DENIED, ErrorCode.ARCHIVE_NOT_FOUND
LIMITS = ForeignLimits(max_bytes=4 << 20, max_entries=1000)


@dataclass(frozen=True)
class Harmless:
    """The restore succeeds: what the volume then holds (see ``describe``), and what the report counts as left out."""

    tree: Mapping[str, str]
    skipped: Mapping[str, int] = field(default_factory=dict)


class Hostile(Protocol):
    """An archive that somebody made up."""

    async def place(self, store: MemoryStore) -> tuple[ObjectInfo, Manifest | None]:
        """Put it into the store: the object, and the manifest of one of ours."""

    async def restore(self, canary: Canary, wall: Wall, restored: Callable[[int], None]) -> RestoreReport:
        """All steps of a restore. ``restored`` gets the number of each data segment that counts as restored."""


@dataclass(frozen=True)
class Foreign:
    """An object under a foreign key."""

    stored: bytes
    limits: ForeignLimits = LIMITS

    async def place(self, store: MemoryStore) -> tuple[ObjectInfo, Manifest | None]:
        return await store.put_if("archives/ws1.tar.gz", self.stored, etag=None), None

    async def restore(self, canary: Canary, wall: Wall, restored: Callable[[int], None]) -> RestoreReport:
        store = MemoryStore()
        info, _ = await self.place(store)
        return await restore_foreign(canary.volume, store, info, spool=canary.spool, limits=self.limits, wall=wall)


@dataclass(frozen=True)
class Own:
    """An archive under our own key, with a manifest that was made to fit, and then perhaps ``changed``.

    ``swapped``: what becomes of the object behind the manifest's back; it keeps its ETag unless one is given.
    """

    segments: tuple[Forged, ...]
    changed: Callable[[Manifest], Manifest] = lambda manifest: manifest
    totals: Totals | None = None
    swapped: Callable[[bytes, Manifest], bytes] | None = None
    etag: str = ""

    async def place(self, store: MemoryStore) -> tuple[ObjectInfo, Manifest | None]:
        manifest = await forge(store, *self.segments, totals=self.totals)
        assert manifest.object is not None
        key = manifest.object.key
        found = await store.get(key)
        assert found is not None
        if self.swapped is not None:
            found = (
                b"",
                store.place(key, self.swapped(found[0], manifest), etag=self.etag or found[1].etag, metadata={}),
            )
        return found[1], self.changed(manifest)

    async def restore(self, canary: Canary, wall: Wall, restored: Callable[[int], None]) -> RestoreReport:
        store = MemoryStore()
        _, manifest = await self.place(store)
        assert manifest is not None
        archive = ArchiveRestore(canary.volume, store, Manifest.from_json(manifest.to_json()), wall=wall)
        return await restore_whole(archive, restored=restored)


Expected = ErrorCode | Harmless
Made = Hostile | Callable[[Canary], Hostile]


@dataclass(frozen=True)
class Case:
    """One row of the table. ``make`` may want to know the names of the world that it attacks."""

    name: str
    make: Made
    expected: Expected

    def archive(self, canary: Canary) -> Hostile:
        """What is to be restored beside this world."""
        return self.make(canary) if callable(self.make) else self.make


def tar(raw: bytes) -> Foreign:
    """A foreign archive of these headers and data, in a sound gzip file, with a sound end."""
    return Foreign(gzip.compress(raw + END, 1))


def endless(raw: bytes) -> Foreign:
    """The same without an end."""
    return Foreign(gzip.compress(raw, 1))


def rows(group: str, table: Mapping[str, tuple[Made, Expected]]) -> list[Case]:
    """A table's cases, named after their group."""
    return [Case(f"{group}: {name}", made, expected) for name, (made, expected) in table.items()]
