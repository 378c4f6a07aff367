"""The one checker of manifests: each contradiction is refused, and what is accepted is what was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from activities.dataplane.archivemap import ArchiveMap, check_statement, sum_of_contents
from activities.dataplane.manifest import Manifest, encode_path
from activities.dataplane.parts import combined
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import Made, make_archive

Json = dict[str, Any]
EMPTY = "b3:" + "0" * 64


@pytest.fixture
async def made(tmp_path: Path) -> Made:
    """Segments 1 and 2: small files. 3 and 4: pieces of ``big``. 5: all of ``sparse``. 6: the tail."""
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("b", "d"):
        (root / name).write_bytes(name.encode() * 7000)
    (root / "big").write_bytes(bytes(12_000))
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 18)
    return await make_archive(root, MemoryStore(min_part_bytes=0))


def test_what_was_made_is_accepted(made: Made) -> None:
    """Data, tail and large files in order; also without an object, and whatever the ETag."""
    archive = ArchiveMap.of(made.manifest, replace(made.info, etag="another", crc64=None))
    assert archive == ArchiveMap.of(made.manifest, made.info) == ArchiveMap.of(made.manifest)
    assert [(item.number, item.segment.kind) for item in (*archive.data, *archive.tail)] == [
        (1, "files"),
        (2, "files"),
        (3, "large"),
        (4, "large"),
        (5, "large"),
        (6, "tail"),
    ]
    assert [(item.first, item.last) for item in archive.data[:2]] == [(b"b", b"b"), (b"d", b"d")]
    assert [item.first for item in archive.large] == [b"big", b"sparse"]


def seg(number: int, **values: object) -> Callable[[Json], None]:
    return lambda document: document["segments"][number - 1].update(values)


def piece(number: int, **values: object) -> Callable[[Json], None]:
    return lambda document: document["segments"][number - 1]["piece"].update(values)


def both(*changes: Callable[[Json], None]) -> Callable[[Json], None]:
    def change(document: Json) -> None:
        for each in changes:
            each(document)

    return change


def named(number: int, first: bytes, last: bytes | None = None) -> Callable[[Json], None]:
    return seg(number, first=encode_path(first), last=encode_path(first if last is None else last))


def file(number: int, path: bytes) -> Callable[[Json], None]:
    return both(named(number, path), piece(number, path=encode_path(path)))


def swapped(one: int, other: int) -> Callable[[Json], None]:
    """Two segments in the other order, with offsets and checksum that are right."""

    def change(document: Json) -> None:
        segments = document["segments"]
        segments[one - 1], segments[other - 1] = segments[other - 1], segments[one - 1]
        laid_out(document)

    return change


def laid_out(document: Json) -> None:
    at = 0
    for each in document["segments"]:
        each["offset"] = at
        at += each["stored_bytes"]
    document["object"]["size_bytes"] = at
    crcs = [(bytes.fromhex(each["crc64"]), each["stored_bytes"]) for each in document["segments"]]
    document["object"]["crc64"] = combined(crcs).hex()
    contents = [bytes.fromhex(each["content"].removeprefix("b3:")) for each in document["segments"]]
    document["content_fingerprint"] = "b3:" + sum_of_contents(contents).hex()


def without(number: int) -> Callable[[Json], None]:
    def change(document: Json) -> None:
        del document["segments"][number - 1]
        laid_out(document)

    return change


FAR = b"/".join([b"n" * 250] * 17)
WHERE, KIND = "the manifest puts it where it cannot be", "out of place"
NAME, RANGE = "gives it a name that no volume has", "range of names overlaps"
SELF = "its piece contradicts itself"
REFUSALS: list[tuple[str, Callable[[Json], None], int | None]] = [
    (WHERE, seg(2, offset=1), 2),
    (WHERE, seg(1, stored_bytes=0), 1),
    (KIND, seg(2, kind="other"), 2),
    (KIND, seg(2, kind="tail"), 3),
    ("a piece of a file is stated where there is none", seg(1, kind="large"), 1),
    ("a piece of a file is stated where there is none", seg(3, kind="files"), 3),
    ("does not describe the whole object", lambda m: m["object"].update(size_bytes=1), None),
    ("does not describe the whole object", without(6), None),
    ("does not describe the whole object", lambda m: m.update(segments=[]), None),
    ("cannot be read", seg(1, first="?"), 1),
    ("cannot be read", seg(1, first="YQ"), 1),
    ("cannot be read", seg(6, last="?"), 6),
    ("does not say what it holds", seg(1, digest=""), 1),
    ("does not say what it holds", seg(1, content=""), 1),
    ("does not say what it holds", seg(6, crc64=""), 6),
    *((NAME, named(1, name), 1) for name in (b"", b"/a", b"a/", b"a//b", b".", b"a/..", b"a\0b", b"n" * 256)),
    (NAME, named(1, b"a/" * 8192 + b"a"), 1),
    (NAME, seg(1, last=encode_path(b"..")), 1),
    ("the checksum of the whole object", lambda m: m["object"].update(crc64="0" * 16), None),
    ("the entries of the segments", lambda m: m.update(content_fingerprint=EMPTY), None),
    ("the entries of the segments", seg(2, content=EMPTY), None),
    (RANGE, named(1, b"c", b"a"), 1),
    (RANGE, named(2, b"b", b"d"), 2),
    (RANGE, swapped(1, 2), 2),
    (RANGE, seg(1, entries=0), 1),
    (RANGE, both(named(1, FAR + b"/b"), named(2, FAR + b"/a")), 2),
    ("does not say which piece it is", piece(3, path=encode_path(b"x")), 3),
    ("does not say which piece it is", seg(3, last=encode_path(b"x")), 3),
    ("another file ends early, or its file comes twice", without(4), 4),
    ("another file ends early, or its file comes twice", file(5, b"big"), 5),
    ("a piece of its file is missing", without(3), 3),
    ("a piece of its file is missing", piece(4, offset=512), 4),
    ("a piece of its file is missing", piece(4, file_bytes=12_001), 4),
    ("a piece of its file is missing", file(4, b"x"), 4),
    ("the end of its file is missing", without(5), None),
    ("its holes overlap", piece(5, holes=[[0, 8192], [4096, 8192]]), 5),
    ("its holes overlap", piece(5, holes=[[0, 0]]), 5),
    (SELF, piece(5, holes=[[0, 1 << 21]]), 5),
    (SELF, piece(5, length=1 << 21), 5),
    (SELF, piece(5, length=0), 5),
    (SELF, piece(5, header_bytes=0), 5),
    (SELF, piece(4, header_bytes=512), 4),
    (SELF, seg(4, entries=1), 4),
    ("its length is not that of its piece", seg(5, raw_bytes=512), 5),
]
LAST_PIECE = "the end of its file is missing"


@pytest.mark.parametrize(("why", "change", "number"), REFUSALS, ids=[f"{at}" for at in range(len(REFUSALS))])
def test_refusals(made: Made, why: str, change: Callable[[Json], None], number: int | None) -> None:
    """``ArchiveCorrupt`` with the reason, naming the segment where it is one."""
    document = json.loads(made.manifest.to_json())
    change(document)
    if why == LAST_PIECE:
        document["segments"][3:4] = []  # the piece that ends ``big``, now the last of all
        laid_out(document)
        number = 3
    manifest = Manifest.from_json(json.dumps(document).encode())
    with pytest.raises(StorageError) as caught:
        ArchiveMap.of(manifest)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
    assert why in caught.value.message
    assert caught.value.details.get("segment") == number


@pytest.mark.parametrize("values", [{"key": "ws2/home.tar.gz"}, {"size_bytes": 1}, {"crc64": bytes(8)}])
def test_another_object(made: Made, values: dict[str, Any]) -> None:
    """Key, size and checksum are those of the object that is there."""
    with pytest.raises(StorageError) as caught:
        ArchiveMap.of(made.manifest, replace(made.info, **values))
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT


@pytest.mark.parametrize("missing", ["archive_id", "object"])
def test_a_placeholder_proves_nothing(made: Made, missing: str) -> None:
    """It stands before the first proof."""
    with pytest.raises(StorageError) as caught:
        ArchiveMap.of(made.manifest.model_copy(update={missing: None}))
    assert caught.value.code is ErrorCode.ARCHIVE_UNPROVEN


def test_runs_of_far_files_have_an_order_of_their_own(made: Made) -> None:
    """They stand behind all others, whatever their names."""
    document = json.loads(made.manifest.to_json())
    named(2, b"N/" + FAR)(document)
    archive = ArchiveMap.of(Manifest.from_json(json.dumps(document).encode()))
    assert [item.is_far for item in archive.data] == [False, True, False, False, False]


def stated(made: Made) -> Json:
    """As the archiver tells it."""
    totals = {**made.manifest.totals.model_dump(), "raw_bytes": 0, "stored_bytes": 0, "skipped": {}}
    return {"totals": totals, "content_fingerprint": made.manifest.content_fingerprint, "segments": 5}


def test_a_statement_that_says_the_same(made: Made) -> None:
    """What the writer did not know yet, and what was skipped, is not asked."""
    totals = made.manifest.totals.model_copy(update={"skipped": {"sockets": 1}})
    check_statement(made.manifest.model_copy(update={"totals": totals}), stated(made))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("number of segments", lambda said: said.update(segments=6)),
        ("content fingerprint", lambda said: said.update(content_fingerprint=EMPTY)),
        ("counts", lambda said: said["totals"].update(files=1)),
        ("without a statement", lambda said: said.update(segments="many")),
    ],
)
def test_a_statement_that_says_something_else(made: Made, what: str, change: Callable[[Json], None]) -> None:
    """The archive was changed behind it, or the manifest."""
    said = stated(made)
    change(said)
    with pytest.raises(StorageError, match=what) as caught:
        check_statement(made.manifest, said)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT


def test_no_statement(made: Made) -> None:
    """Nor an archive of ours."""
    with pytest.raises(StorageError, match="without a statement"):
        check_statement(made.manifest, None)


def test_contents_are_three_sums() -> None:
    """Without a carry from one into the next."""
    ones = bytes([255] * 32)
    assert sum_of_contents([]) == bytes(32)
    assert sum_of_contents([ones, ones]) == (b"\xff" * 15 + b"\xfe") + 2 * (b"\xff" * 7 + b"\xfe")
