"""Archives under our own key, with a manifest that fits, made by somebody who can write to the bucket.

The segment's digest is right in all of these, so the walls behind it are what is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from activities.dataplane.confine import Wall
from activities.dataplane.entries import Entry, FileType
from activities.dataplane.manifest import Manifest, Piece, Totals, encode_path
from activities.dataplane.restore import ArchiveRestore, restore_archive
from activities.dataplane.tarwrite import build_header
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.unit.dataplane_read.forging import (
    END,
    KEY,
    Forged,
    Outside,
    block,
    data,
    file,
    files,
    forge,
    honest,
    pax,
    tail,
)

GNU_MAGIC = b"ustar  \0"


def symlink(path: bytes, target: bytes) -> Entry:
    return Entry(path, FileType.SYMLINK, 0o777, mtime_ns=10**9, target=target)


def hard(path: bytes, target: bytes) -> Entry:
    return Entry(path, FileType.HARD_LINK, target=target)


def folder(path: bytes) -> Entry:
    return Entry(path, FileType.DIRECTORY, 0o755, mtime_ns=10**9)


def large(path: bytes, raw: bytes, **changes: object) -> Forged:
    """A large file of one piece, whatever ``raw`` holds."""
    piece = Piece(path=encode_path(path), offset=0, length=4, file_bytes=4, header_bytes=512)
    return Forged("large", raw, path, path, piece=piece.model_copy(update=changes))


OUT = b"../../victim"
ODD_SEGMENTS = {
    "absolute name": files(file(b"/victim"), b"a", b"z"),
    "parent name": files(file(OUT), b"a", b"z"),
    "parent inside": files(file(b"b/../../x"), b"a", b"z"),
    "dot component": files(file(b"b/./x"), b"a", b"z"),
    "doubled slash": files(file(b"b//x"), b"a", b"z"),
    "symbolic link": files(block(b"l", b"2", link=b".."), b"l"),
    "hard link": files(block(b"h", b"1", link=b"/etc/passwd"), b"h"),
    "folder": files(block(b"d/", b"5"), b"a", b"z"),
    "FIFO": files(block(b"p", b"6"), b"p"),
    "device": files(block(b"d", b"4", device=b"0000010\0" * 2), b"d"),
    "contiguous file": files(block(b"f", b"7"), b"f"),
    "old file type": files(block(b"f", b"\0"), b"f"),
    "GNU sparse file": files(block(b"f", b"S"), b"f"),
    "GNU long name": files(block(b"@LongLink", b"L", size=2) + data(b"f\0") + file(b"x"), b"f"),
    "GNU magic": files(block(b"f", magic=GNU_MAGIC), b"f"),
    "old magic": files(block(b"f", magic=bytes(8)), b"f"),
    "global header": files(pax((b"mtime", b"1"), kind=b"g") + file(b"f"), b"f"),
    "global path": files(pax((b"path", OUT), kind=b"g") + file(b"f"), b"f"),
    "pax path out": files(pax((b"path", OUT)) + file(b"f"), b"f"),
    "pax path with NUL": files(pax((b"path", b"f\0/../x")) + file(b"f"), b"f"),
    "empty pax path": files(pax((b"path", b"")) + file(b"f"), b"f"),
    "pax link path": files(pax((b"linkpath", OUT)) + file(b"f"), b"f"),
    "pax sparse name": files(pax((b"GNU.sparse.name", OUT), (b"GNU.sparse.major", b"1")) + file(b"f"), b"f"),
    "pax charset": files(pax((b"hdrcharset", b"BINARY")) + file(b"f"), b"f"),
    "pax dump name": files(pax((b"GNU.dumpdir", b"Yx\0\0")) + file(b"f"), b"f"),
    "two extended headers": files(pax((b"uid", b"1")) + pax((b"path", b"g")) + file(b"f"), b"f"),
    "pax path twice": files(pax((b"path", b"g"), (b"path", b"f")) + file(b"f"), b"f"),
    "pax record of odd length": files(block(kind=b"x", size=9) + data(b"09 uid=1\n") + file(b"f"), b"f"),
    "prefix out": files(block(b"x", prefix=b".."), b"x"),
    "size in base 256": files(block(b"f", size=b"\x80" + bytes(10) + b"\4") + data(b"evil"), b"f"),
    "size as Python reads it": files(block(b"f", size=b"0o4       \0\0") + data(b"evil"), b"f"),
    "size with an underscore": files(block(b"f", size=b"0000000000_4") + data(b"evil"), b"f"),
    "negative size": files(block(b"f", size=b"\xff" * 12), b"f"),
    "negative mode": files(block(b"f", mode=b"-000644\0"), b"f"),
    "same name twice": files(file(b"f") + file(b"f"), b"f", b"f", 2),
    "names out of order": files(file(b"g") + file(b"f"), b"f", b"g", 2),
    "name before the range": files(file(b"a"), b"b"),
    "first name before the range": files(file(b"a") + file(b"m"), b"b", b"m", 2),
    "name behind the range": files(file(b"c"), b"b"),
    "one more than stated": files(file(b"f") + file(b"g"), b"f", b"g", 1),
    "one less than stated": files(file(b"f"), b"f", b"f", 2),
    "file cut off": files(file(b"f", bytes(1000))[:-512], b"f"),
    "header cut off": files(file(b"f")[:-700], b"f"),
    "end of archive inside": files(file(b"f") + END + file(b"g"), b"f", b"g", 2),
    "end of archive behind": files(file(b"f") + END, b"f"),
    "wrong checksum": files(block(b"f", checksum=b"000000\0 "), b"f"),
    "other digest": Forged("files", file(b"f"), b"f", b"f", sha256="0" * 64),
    "no gzip": Forged("files", file(b"f"), b"f", b"f", stored=b"garbage, not a gzip member"),
    "large: other name": large(b"big", build_header(Entry(b"../x", FileType.FILE, size=4)) + data(b"evil")),
    "large: other type": large(b"big", build_header(symlink(b"big", b"..")) + data(b"evil")),
    "large: other size": large(b"big", build_header(Entry(b"big", FileType.FILE, size=5)) + data(b"evil!")),
    "large: no header": large(b"big", data(b"evil") + bytes(512)),
    "large: too long": large(b"big", build_header(Entry(b"big", FileType.FILE, size=4)) + data(b"evil") + bytes(512)),
    "large: too short": large(b"big", build_header(Entry(b"big", FileType.FILE, size=4)) + b"ev"),
    "large: data in a hole": large(
        b"big", build_header(Entry(b"big", FileType.FILE, size=4)) + data(b"evil"), holes=((0, 4),)
    ),
    "large: padding that is none": large(
        b"big", build_header(Entry(b"big", FileType.FILE, size=4)) + b"evil".ljust(512, b"x")
    ),
}
ODD_TAILS = {
    "a file": tail(raw=file(b"f")),
    "absolute folder": tail(folder(b"/tmp/evil")),
    "folder outside": tail(folder(b"../evil")),
    "link outside": tail(symlink(b"../evil", b"x")),
    "hard link to outside": tail(hard(b"h", OUT)),
    "hard link to an absolute name": tail(hard(b"h", b"/etc/passwd")),
    "hard link to nothing": tail(hard(b"h", b"missing")),
    "hard link to a folder": tail(hard(b"h", b"d"), folder(b"d")),
    "hard link over a file": tail(symlink(b"l", b"x"), hard(b"good", b"l")),
    "link over a file": tail(symlink(b"good", b"..")),
    "link over a folder": tail(symlink(b"d", b".."), folder(b"d")),
    "folder over a file": tail(folder(b"good")),
    "link below a link": tail(symlink(b"out", b".."), symlink(b"out/evil", b"x")),
    "folder below a link": tail(symlink(b"out", b".."), folder(b"out/b")),
    "link after a folder": tail(folder(b"d"), symlink(b"l", b"d")),
    "FIFO over a file": tail(Entry(b"good", FileType.FIFO, 0o644)),
    "no end": tail(end=b""),
    "half an end": tail(end=bytes(512)),
    "more behind the end": tail(end=END + file(b"f")),
    "unknown type": tail(raw=block(b"f", b"Q")),
    "not in the manifest's sum": Forged("tail", tail(folder(b"extra")).raw, content=tail().content),
    "a folder less than in the sum": Forged("tail", tail().raw, content=tail(folder(b"d")).content),
}


async def restore(outside: Outside, store: MemoryStore, manifest: Manifest) -> None:
    await restore_archive(ArchiveRestore(outside.target, store, manifest, wall=Wall.OFF))


async def test_what_these_tests_forge_is_otherwise_accepted(tmp_path: Path) -> None:
    """The forger's honest archive restores, so the refusals below have the stated cause."""
    outside, store = Outside(tmp_path), MemoryStore()
    manifest = await forge(
        store, honest(b"a/x", b"good"), tail(symlink(b"out", b".."), hard(b"zz", b"good"), folder(b"a"))
    )
    await restore(outside, store, manifest)
    assert (outside.target / "good").read_bytes() == b"good"
    assert (outside.target / "zz").samefile(outside.target / "good")
    assert outside.is_unchanged()


@pytest.mark.parametrize("case", ODD_SEGMENTS)
async def test_an_odd_data_segment_is_refused(tmp_path: Path, case: str) -> None:
    """ArchiveCorrupt, the segment not reported as restored, the world outside unchanged, without Landlock."""
    outside, store = Outside(tmp_path), MemoryStore()
    archive = ArchiveRestore(outside.target, store, await forge(store, ODD_SEGMENTS[case], tail()), wall=Wall.OFF)
    await archive.prepare()
    restored: list[int] = []
    with pytest.raises(StorageError) as caught:
        await archive.restore_segments(1, 1, restored=restored.append)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
    assert caught.value.details["segment"] == 1
    assert restored == []
    assert outside.is_unchanged()


@pytest.mark.parametrize("case", ODD_TAILS)
async def test_an_odd_tail_is_refused(tmp_path: Path, case: str) -> None:
    """ArchiveCorrupt at the latest from the comparison, the world outside unchanged, without Landlock."""
    outside, store = Outside(tmp_path), MemoryStore()
    manifest = await forge(store, honest(b"good"), ODD_TAILS[case])
    with pytest.raises(StorageError) as caught:
        await restore(outside, store, manifest)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
    assert outside.is_unchanged()


ODD_MANIFESTS: dict[str, Callable[[Manifest], Manifest]] = {
    "no segments": lambda m: m.model_copy(update={"segments": ()}),
    "no tail": lambda m: m.model_copy(update={"segments": m.segments[:1]}),
    "a segment less": lambda m: m.model_copy(update={"segments": m.segments[1:]}),
    "a segment twice": lambda m: m.model_copy(update={"segments": (m.segments[0], *m.segments)}),
    "tail first": lambda m: m.model_copy(update={"segments": m.segments[::-1]}),
    "negative offset": lambda m: changed(m, 0, offset=-1),
    "no stored bytes": lambda m: changed(m, 0, stored_bytes=0),
    "negative raw bytes": lambda m: changed(m, 0, raw_bytes=-5),
    "unknown kind": lambda m: changed(m, 0, kind="magic"),
    "unclean first": lambda m: changed(m, 0, first=encode_path(b"../x")),
    "unclean last": lambda m: changed(m, 0, last=encode_path(b"/x")),
    "first that is no base64": lambda m: changed(m, 0, first="%%%"),
    "content that is no digest": lambda m: changed(m, 0, content="xyz"),
    "range upside down": lambda m: changed(m, 0, first=encode_path(b"z"), last=encode_path(b"a")),
    "ranges that overlap": lambda m: changed(m, 1, first=m.segments[0].first),
    "large without a piece": lambda m: changed(m, 0, kind="large"),
    "piece beyond its file": lambda m: changed(m, 0, **piece_of(m, length=900)),
    "piece with a gap": lambda m: changed(m, 0, **piece_of(m, offset=5)),
    "negative piece": lambda m: changed(m, 0, **piece_of(m, offset=0, length=-1)),
    "hole outside its piece": lambda m: changed(m, 0, **piece_of(m, holes=((0, 999),))),
    "negative hole": lambda m: changed(m, 0, **piece_of(m, holes=((3, -2),))),
    "first piece without header": lambda m: changed(m, 0, **piece_of(m, header_bytes=0)),
}


def changed(manifest: Manifest, which: int, **changes: object) -> Manifest:
    segments = list(manifest.segments)
    segments[which] = segments[which].model_copy(update=changes)
    return manifest.model_copy(update={"segments": tuple(segments)})


def piece_of(manifest: Manifest, **changes: object) -> dict[str, object]:
    name = manifest.segments[0].first
    piece = Piece(path=name, offset=0, length=4, file_bytes=4, header_bytes=512).model_copy(update=changes)
    return {"kind": "large", "piece": piece, "last": name}


@pytest.mark.parametrize("case", ODD_MANIFESTS)
async def test_an_odd_manifest_is_refused_before_anything_is_read(case: str) -> None:
    """Offsets, ranges and pieces that contradict one another: ArchiveCorrupt."""
    store = MemoryStore()
    manifest = await forge(store, honest(b"a"), honest(b"b"), tail())
    with pytest.raises(StorageError) as caught:
        ArchiveRestore(Path("/nonexistent"), store, ODD_MANIFESTS[case](manifest))
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT


async def test_a_placeholder_is_unproven() -> None:
    """The manifest that stands before the first proof names no archive."""
    with pytest.raises(StorageError) as caught:
        ArchiveRestore(Path("/nonexistent"), MemoryStore(), Manifest())
    assert caught.value.code is ErrorCode.ARCHIVE_UNPROVEN


async def test_an_object_that_was_replaced_is_not_read(tmp_path: Path) -> None:
    """Every read asks for the ETag that the manifest names."""
    outside, store = Outside(tmp_path), MemoryStore()
    manifest = await forge(store, honest(b"a"), tail())
    store.replace_bytes(KEY, b"something else")
    with pytest.raises(StorageError) as caught:
        await restore(outside, store, manifest)
    assert caught.value.code is ErrorCode.ARCHIVE_NOT_FOUND


async def test_what_cannot_fit_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    """Bytes, then inodes: NoSpace says what was needed and what there is."""
    outside, store = Outside(tmp_path), MemoryStore()
    manifest = await forge(store, honest(b"a"), tail(), totals=Totals(file_bytes=1 << 60))
    with pytest.raises(StorageError) as caught:
        await restore(outside, store, manifest)
    assert (caught.value.code, caught.value.details["what"]) == (ErrorCode.NO_SPACE, "bytes")
    assert not list(outside.target.iterdir())
