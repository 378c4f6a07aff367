"""What is mutated for each target: honest bytes and the hostile table's own, small enough that every part is met."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from functools import cache

from hypothesis import strategies as st

from tests.fakes.memory_store import MemoryStore
from tests.fuzz.mutations import mutated, mutated_json
from tests.hostile.case import Case, Foreign, Own
from tests.hostile.forging import END, KEY, block, file, honest, long_name, pack, pax, tail
from tests.hostile.table import FOREIGN, OWN
from tests.oracle.entries import Entry, FileType
from tests.oracle.headers import build_header

LARGEST = 20_000
WITH_HEADERS = ("segment", "tail", "foreign")
"""Targets that take raw tar, whose checksums are mended."""
RICH = (
    pax((b"path", b"a/b"), (b"mtime", b"1.5"), (b"SCHILY.xattr.user.x", b"1"))
    + file(b"f")
    + long_name(b"long/name")
    + file(b"g")
    + block(b"d/", b"5", mode=b"0000755\0")
    + block(b"l", b"2", link=b"../victim")
    + block(b"h", b"1", link=b"g")
    + block(b"p", b"6")
)
ROOT = Entry(b"", FileType.DIRECTORY, 0o755, mtime_ns=10**9)


def _own() -> Iterator[tuple[str, bytes]]:
    """Raw segments of the hostile archives of ours, by kind."""
    for case in OWN:
        if isinstance(case.make, Own):
            yield from ((segment.kind, segment.raw) for segment in case.make.segments)


def _foreign(cases: list[Case]) -> Iterator[bytes]:
    return (case.make.stored for case in cases if isinstance(case.make, Foreign) and len(case.make.stored) < LARGEST)


def _inflated(stored: bytes) -> bytes:
    try:
        return gzip.decompress(stored)
    except (OSError, EOFError, zlib.error):
        return b""


def _small(found: Iterator[bytes]) -> list[bytes]:
    return sorted({raw for raw in found if len(raw) < LARGEST})


def _stated_tail() -> bytes:
    """A tail that ends in a statement, which does not hold."""
    digest = "b3:" + "0" * 64
    statement = {
        "format": "codehub-storage",
        "version": 1,
        "origin": {
            "archive_id": "a",
            "source": {"volume_uid": "u", "place": "p", "change_fingerprint": digest},
            "volume": {"backend": "directory"},
        },
        "totals": {"entries": 3, "files": 2, "directories": 1},
        "content_fingerprint": digest,
        "segments": 1,
        "segments_digest": digest,
        "last_digest": digest,
    }
    return build_header(ROOT, comment=json.dumps(statement)) + END


@cache
def seeds(target: str) -> list[bytes]:
    """The bytes that a target begins with."""
    segments = _small(raw for kind, raw in _own() if kind != "tail")
    tails = _small(raw for kind, raw in _own() if kind == "tail")
    stored = _small(_foreign(FOREIGN))
    match target:
        case "manifest":
            return [asyncio.run(_manifest())]
        case "segment":
            return [honest(b"a/b", b"f").raw, *segments]
        case "tail":
            return [tail().raw, _stated_tail(), *tails]
        case "foreign":
            return [RICH, *_small(_inflated(each) for each in stored)]
        case "foreign-object":
            return [gzip.compress(RICH + END, mtime=0), *stored]
        case _:
            sound = pack(honest(b"a", b"b").raw) + pack(_stated_tail())
            return [sound, sound + sound, pack(honest(b"a", b"b").raw) + pack(tail().raw), *stored]


async def _manifest() -> bytes:
    _, made = await Own((honest(b"a"), honest(b"b"), tail())).place(MemoryStore())
    assert made is not None
    assert made.object is not None
    assert made.object.key == KEY
    return made.to_json()


def strategy(target: str) -> st.SearchStrategy[bytes]:
    """Hostile bytes for a target."""
    if target == "manifest":
        return st.one_of(mutated_json(seeds(target)[0]), mutated(seeds(target), headers=False))
    if target == "archive":
        return st.one_of(mutated(seeds(target), headers=False), _repacked())
    return mutated(seeds(target), headers=target in WITH_HEADERS)


def _repacked() -> st.SearchStrategy[bytes]:
    """Archives of ours whose members are sound, and what is in them is not."""
    data, ends = mutated(seeds("segment"), headers=True), mutated(seeds("tail"), headers=True)
    return st.builds(lambda first, last: pack(first) + pack(last), data, ends)
