"""Archives of ours with a tampered data segment: its digests are right, so the walls behind them are what is tested."""

from __future__ import annotations

from collections.abc import Mapping

from activities.dataplane.manifest import Manifest, Piece, encode_path
from tests.hostile.case import CORRUPT, NOT_FOUND, Case, Expected, Made, Own, rows
from tests.hostile.forging import END, Forged, base256, block, data, file, files, honest, long_name, pack, pax, tail
from tests.oracle.entries import Entry, FileType
from tests.oracle.headers import build_header

OUT = b"../../victim"
GNU_MAGIC = b"ustar  \0"
BIG = build_header(Entry(b"big", FileType.FILE, 0o644, size=4))


def large(raw: bytes, **changes: object) -> Forged:
    """A large file of one piece, whatever ``raw`` holds."""
    piece = Piece(path=encode_path(b"big"), offset=0, length=4, file_bytes=4, header_bytes=512)
    return Forged("large", raw, b"big", b"big", piece=piece.model_copy(update=changes))


def large_file(path: bytes) -> Forged:
    """One as we write it."""
    piece = Piece(path=encode_path(path), offset=0, length=4, file_bytes=4, header_bytes=512)
    return Forged(
        "large", build_header(Entry(path, FileType.FILE, 0o644, size=4)) + data(b"good"), path, path, piece=piece
    )


NAMES = {
    "absolute name": files(file(b"/victim"), b"a", b"z"),
    "parent name": files(file(OUT), b"a", b"z"),
    "parent inside": files(file(b"b/../../x"), b"a", b"z"),
    "dot component": files(file(b"b/./x"), b"a", b"z"),
    "leading dot": files(file(b"./b"), b"b", b"b"),
    "leading dot and two slashes": files(file(b".//b"), b"b", b"b"),
    "leading dot by prefix": files(block(b"/b", prefix=b"."), b"b", b"b"),
    "leading dot by path": files(pax((b"path", b"./b")) + file(b"f"), b"b", b"b"),
    "doubled slash": files(file(b"b//x"), b"a", b"z"),
    "slash at its end": files(file(b"b/"), b"a", b"z"),
    "empty name": files(file(b""), b"a", b"z"),
    "component of 256 bytes": files(pax((b"path", b"n" * 256)) + file(b"f"), b"a", b"z"),
    "prefix out": files(block(b"x", prefix=b".."), b"x"),
    "path out": files(pax((b"path", OUT)) + file(b"f"), b"f"),
    "path with NUL": files(pax((b"path", b"f\0/../x")) + file(b"f"), b"f"),
    "empty path": files(pax((b"path", b"")) + file(b"f"), b"f"),
    "path twice": files(pax((b"path", b"g"), (b"path", b"f")) + file(b"f"), b"f"),
    "path beyond every limit": files(pax((b"path", b"n/" * 40_000 + b"n")) + file(b"f"), b"a", b"z"),
    "same name twice": files(file(b"f") + file(b"f"), b"f", b"f", 2),
    "file below a file": files(file(b"f") + file(b"f/g"), b"f", b"f/g", 2),
    "names out of order": files(file(b"g") + file(b"f"), b"f", b"g", 2),
    "name before the range": files(file(b"a"), b"b"),
    "first name before the range": files(file(b"a") + file(b"m"), b"b", b"m", 2),
    "name behind the range": files(file(b"c"), b"b"),
}
KINDS = {
    "symbolic link": files(block(b"l", b"2", link=b".."), b"l"),
    "hard link": files(block(b"h", b"1", link=b"/etc/passwd"), b"h"),
    "hard link to a parent": files(block(b"h", b"1", link=OUT), b"h"),
    "folder": files(block(b"d/", b"5"), b"a", b"z"),
    "FIFO": files(block(b"p", b"6"), b"p"),
    "device": files(block(b"d", b"4", device=b"0000010\0" * 2), b"d"),
    "whiteout": files(block(b"d", b"3"), b"d"),
    "contiguous file": files(block(b"f", b"7"), b"f"),
    "old file type": files(block(b"f", b"\0"), b"f"),
    "GNU sparse file": files(block(b"f", b"S"), b"f"),
    "multi-volume part": files(block(b"f", b"M"), b"f"),
    "unknown type": files(block(b"f", b"Q"), b"f"),
}
HEADERS = {
    "GNU long name": files(long_name(b"f") + file(b"x"), b"f"),
    "GNU long link": files(long_name(OUT, b"K") + file(b"f"), b"f"),
    "GNU magic": files(block(b"f", magic=GNU_MAGIC), b"f"),
    "old magic": files(block(b"f", magic=bytes(8)), b"f"),
    "global header": files(pax((b"mtime", b"1"), kind=b"g") + file(b"f"), b"f"),
    "global path": files(pax((b"path", OUT), kind=b"g") + file(b"f"), b"f"),
    "link path": files(pax((b"linkpath", OUT)) + file(b"f"), b"f"),
    "sparse name": files(pax((b"GNU.sparse.name", OUT), (b"GNU.sparse.major", b"1")) + file(b"f"), b"f"),
    "character set": files(pax((b"hdrcharset", b"BINARY")) + file(b"f"), b"f"),
    "dump of a folder": files(pax((b"GNU.dumpdir", b"Yx\0\0")) + file(b"f"), b"f"),
    "comment": files(pax((b"comment", b"x")) + file(b"f"), b"f"),
    "ACL as text": files(pax((b"SCHILY.acl.default", b"other::rwx")) + file(b"f"), b"f"),
    "attribute without a name": files(pax((b"SCHILY.xattr.", b"1")) + file(b"f"), b"f"),
    "attribute with NUL in its name": files(pax((b"SCHILY.xattr.user.a\0b", b"1")) + file(b"f"), b"f"),
    "two extended headers": files(pax((b"uid", b"1")) + pax((b"path", b"g")) + file(b"f"), b"f"),
    "extended headers without end": files(pax((b"path", b"n" * 4000)) * 1500 + file(b"f"), b"f"),
    "extended header for nothing": files(file(b"f") + pax((b"path", b"g")), b"f"),
    "extended header of a gigabyte": files(block(kind=b"x", size=1 << 30), b"f"),
    "record of odd length": files(block(kind=b"x", size=9) + data(b"09 uid=1\n") + file(b"f"), b"f"),
    "wrong checksum": files(block(b"f", checksum=b"000000\0 "), b"f"),
}
NUMBERS = {
    "size in base 256": files(block(b"f", size=base256(4, 12)) + data(b"evil"), b"f"),
    "size as Python reads it": files(block(b"f", size=b"0o4       \0\0") + data(b"evil"), b"f"),
    "size with an underscore": files(block(b"f", size=b"0000000000_4") + data(b"evil"), b"f"),
    "size below zero": files(block(b"f", size=b"\xff" * 12), b"f"),
    "size of 5,000 digits": files(pax((b"size", b"9" * 5000)) + file(b"f"), b"f"),
    "size of a terabyte": files(pax((b"size", b"1099511627776")) + file(b"f"), b"f"),
    "size with a plus sign": files(pax((b"size", b"+4")) + file(b"f"), b"f"),
    "mode below zero": files(block(b"f", mode=b"-000644\0"), b"f"),
    "owner of 5,000 digits": files(pax((b"uid", b"9" * 5000)) + file(b"f"), b"f"),
    "owner that means no change": files(pax((b"uid", b"4294967295")) + file(b"f"), b"f"),
    "group beyond 64 bits": files(pax((b"gid", b"18446744073709551617")) + file(b"f"), b"f"),
    "time beyond all clocks": files(pax((b"mtime", b"9" * 30)) + file(b"f"), b"f"),
    "time of 5,000 digits": files(pax((b"mtime", b"9" * 5000)) + file(b"f"), b"f"),
    "time that is no number": files(pax((b"mtime", b"nan")) + file(b"f"), b"f"),
}
EXTENT = {
    "one more than stated": files(file(b"f") + file(b"g"), b"f", b"g", 1),
    "one less than stated": files(file(b"f"), b"f", b"f", 2),
    "nothing": files(b"", b"f"),
    "file cut off": files(file(b"f", bytes(1000))[:-512], b"f"),
    "header cut off": files(file(b"f")[:-700], b"f"),
    "end of archive inside": files(file(b"f") + END + file(b"g"), b"f", b"g", 2),
    "end of archive behind": files(file(b"f") + END, b"f"),
    "block of garbage behind": files(file(b"f") + b"x" * 512, b"f"),
    "other digest": Forged("files", file(b"f"), b"f", b"f", digest="b3:" + "0" * 64),
    "other checksum": Forged("files", file(b"f"), b"f", b"f", crc64="0" * 16),
    "no gzip": Forged("files", file(b"f"), b"f", b"f", stored=b"garbage, not a gzip member"),
    "member cut off": Forged("files", file(b"f"), b"f", b"f", stored=pack(file(b"f"))[:-5]),
    "member twice": Forged("files", file(b"f"), b"f", b"f", stored=pack(file(b"f")) * 2),
    "garbage behind the member": Forged("files", file(b"f"), b"f", b"f", stored=pack(file(b"f")) + b"x"),
    "member of two": Forged("files", file(b"f"), b"f", b"f", stored=pack(file(b"f")[:512]) + pack(data(b"evil"))),
    "bomb: more than stated": Forged("files", file(b"f", bytes(9 << 20)), b"f", b"f", raw_bytes=5000),
    "less than stated": Forged("files", file(b"f"), b"f", b"f", raw_bytes=1 << 40),
}
LARGE = {
    "other name": large(build_header(Entry(b"../x", FileType.FILE, size=4)) + data(b"evil")),
    "other type": large(build_header(Entry(b"big", FileType.SYMLINK, target=b"..")) + data(b"evil")),
    "other size": large(build_header(Entry(b"big", FileType.FILE, size=5)) + data(b"evil!")),
    "no header": large(data(b"evil") + bytes(512)),
    "header that is garbage": large(b"x" * 512 + data(b"evil")),
    "too long": large(BIG + data(b"evil") + bytes(512)),
    "too short": large(BIG + b"ev"),
    "data in a hole": large(BIG + data(b"evil"), holes=((0, 4),)),
    "padding that is none": large(BIG + b"evil".ljust(512, b"x")),
    "length beyond all files": large(BIG + data(b"evil"), length=1 << 70, file_bytes=1 << 70),
    "header beyond the member": large(BIG + data(b"evil"), header_bytes=1 << 40),
}


def alone(table: Mapping[str, Forged]) -> dict[str, tuple[Made, Expected]]:
    """Each as the first segment, with an honest tail behind it."""
    return {name: (Own((segment, tail())), CORRUPT) for name, segment in table.items()}


def exchanged(stored: bytes, manifest: Manifest) -> bytes:
    """The first two segments of equal length in one another's place."""
    size = manifest.segments[0].stored_bytes
    return stored[size : 2 * size] + stored[:size] + stored[2 * size :]


THREE = (honest(b"a"), honest(b"b"), tail())
OBJECTS = rows(
    "own object",
    {
        "first two segments exchanged": (Own(THREE, swapped=exchanged), CORRUPT),
        "first segment twice": (
            Own(
                THREE,
                swapped=lambda stored, m: (
                    stored[: m.segments[0].stored_bytes] * 2 + stored[2 * m.segments[0].stored_bytes :]
                ),
            ),
            CORRUPT,
        ),
        "cut off": (Own(THREE, swapped=lambda stored, _: stored[:-20]), CORRUPT),
        "empty": (Own(THREE, swapped=lambda stored, _: b""), CORRUPT),
        "another one in its place": (Own(THREE, swapped=lambda stored, _: stored, etag="another"), NOT_FOUND),
        "all zeros": (Own(THREE, swapped=lambda stored, _: bytes(len(stored))), CORRUPT),
    },
)
SEGMENTS: list[Case] = [
    *rows("own name", alone(NAMES)),
    *rows("own kind", alone(KINDS)),
    *rows("own header", alone(HEADERS)),
    *rows("own number", alone(NUMBERS)),
    *rows("own extent", alone(EXTENT)),
    *rows("own large file", alone(LARGE)),
]
CASES: list[Case] = [*SEGMENTS, *OBJECTS]
