"""What is fuzzed: functions of bytes that raise, ``AssertionError`` or whatever else, where a promise is broken.

The promises: no error but ``StorageError``, whose codes are a closed list (small readers: their own error), the same
answer however the bytes are torn into pieces, nothing let through that another reader takes for something else, and
a world outside the volume that is unchanged.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from activities.dataplane.archivemap import ArchiveMap
from activities.dataplane.beneath import shown
from activities.dataplane.entries import Content, Entry, content_of
from activities.dataplane.foreign import ForeignLimits
from activities.dataplane.foreign_stream import Bound, TarStream
from activities.dataplane.gate import Gate
from activities.dataplane.gzipmember import CorruptMember, MemberReader
from activities.dataplane.manifest import Manifest, Segment, StoredObject, encode_path
from activities.dataplane.preflight import preflight
from activities.dataplane.rebuild import verify_from_tail
from activities.dataplane.tail import Statement
from activities.dataplane.tarheader import TarError, TarScanner
from activities.dataplane.verify import check_layout, verify_archive
from activities.objectstore.base import ObjectInfo
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.fuzz.ground import Ground
from tests.harness.archives import ignore
from tests.harness.canary import Canary
from tests.hostile.case import Foreign, Hostile, Own, tar
from tests.hostile.forging import END, Forged, files, honest, tail

LIMITS = ForeignLimits(max_bytes=8 << 20, max_entries=200)
MEMBER_LIMIT = 4 << 20
PIECES = (1 << 20, 511, 7)
"""How the same bytes are torn."""


typed = partial(suppress, StorageError)
"""A typed error is an answer like any other."""


def torn(data: bytes, step: int) -> Iterator[bytes]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


def manifest(data: bytes) -> None:
    """JSON under a manifest's key; if it can be read as a map, the restore that goes by it."""
    with typed():
        read = Manifest.from_json(data)
        with typed():
            asyncio.run(preflight(Ground.of_process().canary.volume, read))
        with typed():
            named = read.object or StoredObject(key="", size_bytes=0, etag="", crc64="")
            check_layout(ObjectInfo(named.key, named.size_bytes, named.etag), read)
        ArchiveMap.of(read)
        restored(Own((honest(b"a"), honest(b"b"), tail()), lambda honest_one: _moved(read, honest_one)))


def _moved(read: Manifest, honest_one: Manifest) -> Manifest:
    """The fuzzed manifest, naming the object that is there."""
    return read.model_copy(update={"object": honest_one.object})


def member(data: bytes) -> None:
    """A gzip member: inflated or refused, within its limit; as we write its header, the same in any pieces."""
    answers = {_inflated(data, step) for step in PIECES}
    assert len(answers) == 1 or data[3]


def stream(stored: bytes) -> None:
    """A foreign gzip file: inflated or refused, within its limit, the same in any pieces, whatever its headers are."""
    assert len({_streamed(stored, step) for step in PIECES}) == 1


def _streamed(stored: bytes, step: int) -> bytes | None:
    found = bytearray()
    try:
        for piece in TarStream(torn(stored, step), Bound(MEMBER_LIMIT, ErrorCode.ARCHIVE_TOO_LARGE)).blocks(1 << 40):
            found += piece
    except StorageError as error:
        return bytes(found) if "ends early: it has no end" in error.message else None
    return bytes(found)


def _inflated(data: bytes, step: int) -> bytes | None:
    reader, found = MemberReader(MEMBER_LIMIT), bytearray()
    try:
        for piece in torn(data, step):
            for raw in reader.feed(piece):
                found += raw
                assert len(found) <= MEMBER_LIMIT
        reader.finish()
    except CorruptMember:
        return None
    return bytes(found)


def header(raw: bytes) -> None:
    """A tar stream for our own reader: entries or ``TarError``; whatever it tells can be told on."""
    answers = [_scanned(raw, step) for step in PIECES]
    assert answers.count(answers[0]) == len(answers)
    for entry in answers[0][0]:
        assert Content.from_bytes32(content_of(entry).to_bytes32()) == content_of(entry)
        assert shown(entry.path).isprintable()
    Statement.from_comment(raw)


def _scanned(raw: bytes, step: int) -> tuple[list[Entry], bytes, bool]:
    scanner, entries, body = TarScanner(), list[Entry](), bytearray()
    try:
        for piece in torn(raw, step):
            for found in scanner.feed(piece):
                if isinstance(found, Entry):
                    entries.append(found)
                else:
                    body += found
        scanner.finish(need_end=False)
    except TarError:
        return entries, bytes(body), False
    return entries, bytes(body), True


def gate(raw: bytes) -> None:
    """What passes is regular files with clean names, to Python's tarfile too, and the same in any pieces."""
    passed = {_passed(raw, step) for step in PIECES}
    longest = max(passed, key=len)
    assert all(longest.startswith(each) for each in passed)
    whole = longest + bytes(-len(longest) % 512) + END
    members: list[tarfile.TarInfo] = []
    with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(whole)) as read:
        members = read.getmembers()
    for found in members:
        assert (found.type, found.issparse()) == (tarfile.REGTYPE, False), found
        assert not found.name.startswith("/"), found
        assert not {"", ".", ".."} & set(found.name.split("/")), found


def _passed(raw: bytes, step: int) -> bytes:
    wide = Segment(
        kind="files",
        first=encode_path(b"\1"),
        last=encode_path(b"\xff" * 255),
        entries=1,
        raw_bytes=len(raw),
        sha256="",
        content="",
        offset=0,
        stored_bytes=1,
        crc64="",
    )
    gate, scanner, out = Gate(wide, 1), TarScanner(), bytearray()
    with typed(), suppress(TarError):
        for piece in torn(raw, step):
            for found in scanner.feed(piece):
                if isinstance(found, Entry):
                    gate.admit_next(found, scanner)
                    out += bytes(-len(out) % 512) + scanner.header
                else:
                    out += found
        gate.finish()
    return bytes(out)


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
    """A foreign object."""
    restored(Foreign(stored, LIMITS))


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
    "member": member,
    "stream": stream,
    "header": header,
    "gate": gate,
    "segment": segment,
    "tail": own_tail,
    "foreign": foreign,
    "foreign-object": foreign_object,
    "archive": archive,
}
RESTORES = ("manifest", "segment", "tail", "foreign", "foreign-object")
"""Those that restore, and so take longer."""
