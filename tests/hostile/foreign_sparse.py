"""Foreign archives with sparse maps of all four kinds that overlap, lie, or never end."""

from __future__ import annotations

from tests.hostile.case import CORRUPT, UNSUPPORTED, Case, Harmless, rows, tar
from tests.hostile.forging import base256, block, data, file, pax

TIB = 1 << 40
MAJOR = (b"GNU.sparse.major", b"1")


def map_in_header(text: bytes, size: bytes = b"9", content: bytes = b"evil") -> bytes:
    """Format 0.1: the map is one record."""
    return pax((b"GNU.sparse.map", text), (b"GNU.sparse.size", size)) + file(b"f", content)


def map_in_data(text: bytes, size: bytes = b"9", content: bytes = b"evil") -> bytes:
    """Format 1.0: the map stands before the data."""
    body = text.ljust(-(-len(text) // 512) * 512, b"\0") + content
    return pax(MAJOR, (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", size)) + file(b"f", body)


def old(
    pairs: bytes, *, real: bytes = b"00000000011\0", size: int = 4, extended: bytes = b"\0", more: bytes = b""
) -> bytes:
    """Type S: four pairs in the header, more behind it if ``extended``."""
    raw = bytearray(block(b"f", b"S", size=size, magic=b"ustar  \0"))
    raw[386:482], raw[482:483], raw[483:495] = pairs.ljust(96, b"\0"), extended, real
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + 8 * 32 + sum(raw[156:]))
    return bytes(raw) + more + data(b"evil")


def pair(offset: int, length: int) -> bytes:
    """One pair of the old map."""
    return b"%011o\0%011o\0" % (offset, length)


EVIL = Harmless({"f": "0644 evil\0\0\0\0\0"})
HUGE = Harmless({"f": f"0644 {TIB} bytes"})
CASES: list[Case] = rows(
    "sparse",
    {
        "0.0": (
            tar(
                pax(
                    (b"GNU.sparse.size", b"9"),
                    (b"GNU.sparse.numblocks", b"1"),
                    (b"GNU.sparse.offset", b"0"),
                    (b"GNU.sparse.numbytes", b"4"),
                )
                + file(b"f")
            ),
            EVIL,
        ),
        "0.0 with an offset too many": (
            tar(pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.offset", b"0")) + file(b"f")),
            CORRUPT,
        ),
        "0.1": (tar(map_in_header(b"0,4")), EVIL),
        "0.1 with pieces that overlap": (tar(map_in_header(b"0,4,2,4", content=b"evilevil")), CORRUPT),
        "0.1 with a piece beyond the file": (tar(map_in_header(b"100,4")), CORRUPT),
        "0.1 with an odd count": (tar(map_in_header(b"0,4,5")), CORRUPT),
        "0.1 with a piece below zero": (tar(map_in_header(b"-4,4")), CORRUPT),
        "0.1 with less data than it says": (tar(map_in_header(b"0,9")), CORRUPT),
        "0.1 with more data than it says": (tar(map_in_header(b"0,1")), CORRUPT),
        "0.1 that wraps around": (tar(map_in_header(b"9223372036854775807,4")), CORRUPT),
        "0.1 without a size": (tar(pax((b"GNU.sparse.map", b"0,4")) + file(b"f")), CORRUPT),
        "0.1 of a terabyte, nearly all hole": (tar(map_in_header(b"0,4", b"%d" % TIB)), HUGE),
        "0.1 of a folder": (
            tar(pax((b"GNU.sparse.map", b"0,4"), (b"GNU.sparse.size", b"9")) + block(b"d", b"5")),
            Harmless({"d/": "0644"}),
        ),
        "1.0": (tar(map_in_data(b"1\n0\n4\n")), EVIL),
        "1.0 of a terabyte": (tar(map_in_data(b"1\n0\n4\n", b"%d" % TIB)), HUGE),
        "1.0 without end": (tar(map_in_data(b"999999999\n" + b"1\n" * (1 << 19))), CORRUPT),
        "1.0 with a number without end": (tar(map_in_data(b"1" * 2000)), CORRUPT),
        "1.0 with a count below zero": (tar(map_in_data(b"-1\n")), CORRUPT),
        "1.0 with what is no number": (tar(map_in_data(b"1\nx\n4\n")), CORRUPT),
        "1.0 longer than the file": (tar(pax(MAJOR, (b"GNU.sparse.realsize", b"9")) + file(b"f", b"1\n")), CORRUPT),
        "1.0 without a size": (tar(pax(MAJOR) + file(b"f", b"1\n0\n4\n".ljust(512, b"\0") + b"evil")), CORRUPT),
        "unknown format": (tar(pax((b"GNU.sparse.major", b"7")) + file(b"f")), UNSUPPORTED),
        "old": (tar(old(pair(0, 4))), EVIL),
        "old, continued": (
            tar(old(b"", extended=b"\1", more=pair(0, 4).ljust(512, b"\0"))),
            EVIL,
        ),
        "old, continued without end": (tar(old(pair(0, 4), extended=b"\1")), CORRUPT),
        "old with pieces that overlap": (tar(old(pair(0, 3) + pair(2, 1))), CORRUPT),
        "old with a piece below zero": (tar(old(base256(-4, 12) + base256(4, 12))), CORRUPT),
        "old with a piece beyond the file": (tar(old(pair(100, 4))), CORRUPT),
        "old with a size below zero": (tar(old(pair(0, 4), real=base256(-9, 12))), CORRUPT),
        "old of a terabyte": (tar(old(pair(0, 4), real=base256(TIB, 12))), HUGE),
    },
)
