"""Manifests of ours that somebody changed: places, ranges, pieces and promises that contradict one another."""

from __future__ import annotations

from collections.abc import Callable

from activities.dataplane.manifest import Manifest, Piece, Totals, encode_path
from codehub_storage.errors import ErrorCode
from tests.hostile.case import CORRUPT, NO_SPACE, Case, Expected, Made, Own, rows
from tests.hostile.forging import honest, tail

SEGMENTS = (honest(b"a"), honest(b"b"), tail())
Change = Callable[[Manifest], Manifest]


def changed(which: int, **changes: object) -> Change:
    """One segment is said to be otherwise."""

    def change(manifest: Manifest) -> Manifest:
        segments = list(manifest.segments)
        segments[which] = segments[which].model_copy(update=changes)
        return manifest.model_copy(update={"segments": tuple(segments)})

    return change


def piece(**changes: object) -> Change:
    """The first segment is said to be a piece of a large file."""
    of = Piece(path=encode_path(b"a"), offset=0, length=4, file_bytes=4, header_bytes=512)
    return changed(0, kind="large", piece=of.model_copy(update=changes))


def described(**changes: object) -> Change:
    """The object is said to be otherwise."""

    def change(manifest: Manifest) -> Manifest:
        assert manifest.object is not None
        return manifest.model_copy(update={"object": manifest.object.model_copy(update=changes)})

    return change


def pieces(*bounds: tuple[int, int], size: int) -> Change:
    """The first two segments are said to be pieces of one file, (offset, length) each."""

    def change(manifest: Manifest) -> Manifest:
        for which, (offset, length) in enumerate(bounds):
            of = Piece(path=encode_path(b"a"), offset=0, length=0, file_bytes=0, header_bytes=0 if offset else 512)
            of = of.model_copy(update={"offset": offset, "length": length, "file_bytes": size})
            name = {"first": of.path, "last": of.path}
            manifest = changed(which, kind="large", piece=of, **name)(manifest)
        return manifest

    return change


def claimed(**totals: int) -> Change:
    """The totals are said to be otherwise, whatever a writer of ours would allow."""
    return lambda manifest: manifest.model_copy(update={"totals": Totals().model_copy(update=totals)})


ORDER: dict[str, Change] = {
    "no segments": lambda m: m.model_copy(update={"segments": ()}),
    "no tail": lambda m: m.model_copy(update={"segments": m.segments[:1]}),
    "segment less": lambda m: m.model_copy(update={"segments": m.segments[1:]}),
    "segment twice": lambda m: m.model_copy(update={"segments": (m.segments[0], *m.segments)}),
    "tail first": lambda m: m.model_copy(update={"segments": m.segments[::-1]}),
    "tail in the middle": lambda m: m.model_copy(update={"segments": (m.segments[0], m.segments[2], m.segments[1])}),
    "object shorter than its segments": described(size_bytes=5),
    "object larger than its segments": described(size_bytes=1 << 62),
    "object below zero": described(size_bytes=-1),
}
SEGMENT: dict[str, Change] = {
    "negative offset": changed(0, offset=-1),
    "offset with a gap": changed(1, offset=1 << 40),
    "no stored bytes": changed(0, stored_bytes=0),
    "negative stored bytes": changed(0, stored_bytes=-5),
    "stored bytes that overlap": changed(0, stored_bytes=50),
    "negative raw bytes": changed(0, raw_bytes=-5),
    "negative entries": changed(0, entries=-1),
    "no entries": changed(0, entries=0),
    "unknown kind": changed(0, kind="magic"),
    "kind that is a tail": changed(0, kind="tail"),
    "unclean first": changed(0, first=encode_path(b"../x")),
    "unclean last": changed(0, last=encode_path(b"/x")),
    "empty first": changed(0, first=""),
    "first that is no base64": changed(0, first="%%%"),
    "first that is no ASCII": changed(0, first="ä"),
    "content that is no digest": changed(0, content="xyz"),
    "content that is short": changed(0, content="b3:00"),
    "tail's content that is no digest": changed(2, content="xyz"),
    "digest that is none": changed(0, digest="xyz"),
    "checksum that is none": changed(0, crc64="xyz"),
    "range upside down": changed(0, first=encode_path(b"z"), last=encode_path(b"a")),
    "ranges that overlap": changed(1, first=encode_path(b"a")),
    "range wider than what is in it": changed(1, last=encode_path(b"z")),
    "large without a piece": changed(0, kind="large"),
    "run of files with a piece": lambda m: changed(0, kind="files")(piece()(m)),
}
PIECE: dict[str, Change] = {
    "other file": piece(path=encode_path(b"other")),
    "unclean file": piece(path=encode_path(b"../x")),
    "beyond its file": piece(length=900),
    "with a gap": piece(offset=5),
    "negative": piece(offset=0, length=-1),
    "negative file": piece(file_bytes=-4),
    "empty": piece(length=0),
    "hole outside": piece(holes=((0, 999),)),
    "hole before": piece(holes=((-9, 4),)),
    "negative hole": piece(holes=((3, -2),)),
    "holes that overlap": piece(holes=((0, 3), (2, 1))),
    "first without header": piece(header_bytes=0),
    "negative header": piece(header_bytes=-512),
    "pieces that overlap": pieces((0, 4), (2, 4), size=6),
    "pieces with a gap": pieces((0, 4), (1 << 20, 4), size=(1 << 20) + 4),
    "second piece missing": pieces((0, 4), size=8),
    "pieces that start twice": pieces((0, 4), (0, 4), size=4),
    "offset beyond 64 bits": pieces((0, 1 << 70), (1 << 70, 4), size=(1 << 70) + 4),
}
TOTALS: dict[str, tuple[Made, Expected]] = {
    "more bytes than there are": (Own(SEGMENTS, totals=Totals(file_bytes=1 << 60)), NO_SPACE),
    "more folders than there is room for": (Own(SEGMENTS, totals=Totals(directories=1 << 55)), NO_SPACE),
    "more bytes than anybody can count": (Own(SEGMENTS, totals=Totals(file_bytes=2**63 - 1)), NO_SPACE),
    "fewer than nothing": (Own(SEGMENTS, claimed(file_bytes=-(1 << 70), files=-1)), CORRUPT),
    "numbers beyond 64 bits": (Own(SEGMENTS, claimed(entries=1 << 70, file_bytes=1 << 63)), CORRUPT),
}
PROOF: dict[str, tuple[Made, Expected]] = {
    "placeholder": (Own(SEGMENTS, lambda m: m.model_copy(update={"archive_id": None})), ErrorCode.ARCHIVE_UNPROVEN),
    "no object": (Own(SEGMENTS, lambda m: m.model_copy(update={"object": None})), ErrorCode.ARCHIVE_UNPROVEN),
    "other key": (Own(SEGMENTS, described(key="ws2/home.tar.gz")), ErrorCode.ARCHIVE_NOT_FOUND),
    "other ETag": (Own(SEGMENTS, described(etag="other")), ErrorCode.ARCHIVE_NOT_FOUND),
    "other version": (Own(SEGMENTS, described(version_id="v9")), ErrorCode.ARCHIVE_NOT_FOUND),
}


def refused(table: dict[str, Change]) -> dict[str, tuple[Made, Expected]]:
    """All of them corrupt."""
    return {name: (Own(SEGMENTS, change), CORRUPT) for name, change in table.items()}


CASES: list[Case] = [
    *rows("manifest", refused(ORDER)),
    *rows("manifest's segment", refused(SEGMENT)),
    *rows("manifest's piece", refused(PIECE)),
    *rows("manifest's totals", TOTALS),
    *rows("manifest's proof", PROOF),
]
