"""What is fuzzed: functions of bytes that raise, ``AssertionError`` or whatever else, where a promise is broken.

The promises: no error but ``StorageError``, whose codes are a closed list, and a world outside the volume that is
unchanged. All of it is seen from outside, each example in programs of its own; the readers themselves are fuzzed where
they are, in ``archiver/fuzz``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from activities.dataplane.archivemap import ArchiveMap
from activities.dataplane.foreign import ForeignLimits, check_foreign
from activities.dataplane.manifest import Manifest
from activities.dataplane.rebuild import verify_from_tail
from activities.dataplane.verify import verify_archive
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.fuzz.ground import Ground
from tests.harness.archives import ignore
from tests.harness.canary import Canary
from tests.hostile.case import Foreign, Hostile, Own, tar
from tests.hostile.forging import Forged, files, honest, tail

LIMITS = ForeignLimits(max_bytes=8 << 20, max_entries=200)


@contextmanager
def typed() -> Iterator[None]:
    """A typed error is an answer like any other, but for the one of an archiver that broke."""
    try:
        yield
    except StorageError as error:
        if error.code is ErrorCode.MOVER_FAILED:
            raise AssertionError(error.message) from error


def manifest(data: bytes) -> None:
    """JSON under a manifest's key; if it can be read as a map, the restore that goes by it."""
    with typed():
        read = Manifest.from_json(data)
        ArchiveMap.of(read)
        restored(Own((honest(b"a"), honest(b"b"), tail()), lambda honest_one: _moved(read, honest_one)))


def _moved(read: Manifest, honest_one: Manifest) -> Manifest:
    """The fuzzed manifest, naming the object that is there."""
    return read.model_copy(update={"object": honest_one.object})


def restored(archive: Hostile) -> None:
    """A restore beside the canary."""
    with Ground.of_process().volume() as canary, typed():
        asyncio.run(_restore(archive, canary))


async def _restore(archive: Hostile, canary: Canary) -> None:
    await archive.restore(canary, Ground.WALL, ignore)


def segment(raw: bytes) -> None:
    """The raw bytes of a data segment under digests that are right."""
    restored(Own((files(raw, b"a", b"z", 2), tail())))


def own_tail(raw: bytes) -> None:
    """The raw bytes of a tail under digests that are right."""
    restored(Own((honest(b"good"), Forged("tail", raw))))


def foreign(raw: bytes) -> None:
    """The raw bytes of a foreign archive in a sound gzip file."""
    restored(Foreign(tar(raw).stored, LIMITS))


def foreign_object(stored: bytes) -> None:
    """A foreign object, restored, and looked through by a proof."""
    restored(Foreign(stored, LIMITS))
    asyncio.run(_look_through(stored))


async def _look_through(stored: bytes) -> None:
    store = MemoryStore()
    info, _ = await Foreign(stored).place(store)
    with typed():
        await check_foreign(store, info)


def archive(stored: bytes) -> None:
    """An object of ours: proven from its own tail, and against the manifest of the sound one."""
    asyncio.run(_prove(stored))


async def _prove(stored: bytes) -> None:
    store = MemoryStore()
    _, sound = await Own((honest(b"a", b"b"), tail())).place(MemoryStore())
    assert sound is not None
    assert sound.object is not None
    info = store.place(sound.object.key, stored, etag=sound.object.etag, metadata={})
    with typed():
        await verify_from_tail(store, info, progress=ignore)
    with typed():
        await verify_archive(store, info, sound, progress=ignore)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "manifest": manifest,
    "segment": segment,
    "tail": own_tail,
    "foreign": foreign,
    "foreign-object": foreign_object,
    "archive": archive,
}
