"""Foreign objects whose gzip or tar framing is damaged, cut, spliced, reordered, doubled, or explodes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import zlib

from activities.dataplane.foreign import ForeignLimits
from tests.hostile.case import CORRUPT, TOO_LARGE, Case, Foreign, Harmless, endless, rows, tar
from tests.hostile.forging import END, block, file, pax

NOISE = random.Random(1).randbytes(5000)
RAW = file(b"f", NOISE) + END
HEADER_CRC = struct.pack("<H", zlib.crc32(b"\x1f\x8b\x08\x02" + bytes(6)) & 0xFFFF)
GOOD = gzip.compress(RAW, mtime=0)
WHOLE = Harmless({"f": "0644 5000 bytes"})
EVIL = Harmless({"f": "0644 evil"})
A, B, C = (file(name, b"evil") for name in (b"a", b"b", b"c"))


def members(*raw: bytes) -> Foreign:
    """Each in a gzip member of its own."""
    return Foreign(b"".join(gzip.compress(each) for each in raw))


def with_flags(flags: int, extra: bytes) -> Foreign:
    """A gzip header with optional fields."""
    return Foreign(b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + extra + GOOD[10:])


def zeros(head: bytes, mebibytes: int) -> bytes:
    """A gzip file that is a thousand times smaller than what comes out of it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(1 << 20)
    return packer.compress(head) + b"".join(packer.compress(piece) for _ in range(mebibytes)) + packer.flush()


GZIP = rows(
    "gzip",
    {
        "empty object": (Foreign(b""), CORRUPT),
        "only zeros": (Foreign(bytes(5000)), CORRUPT),
        "zip file": (Foreign(b"PK\x03\x04" + bytes(1000)), CORRUPT),
        "bzip2": (Foreign(bz2.compress(RAW)), CORRUPT),
        "xz": (Foreign(lzma.compress(RAW)), CORRUPT),
        "zlib": (Foreign(zlib.compress(RAW)), CORRUPT),
        "tar without gzip": (Foreign(RAW), CORRUPT),
        "cut off": (Foreign(GOOD[:-9]), CORRUPT),
        "cut off in its trailer": (Foreign(GOOD[:-3]), CORRUPT),
        "cut off in its header": (Foreign(GOOD[:5]), CORRUPT),
        "wrong CRC": (Foreign(GOOD[:-8] + bytes(4) + GOOD[-4:]), CORRUPT),
        "wrong length": (Foreign(GOOD[:-4] + struct.pack("<I", 1)), CORRUPT),
        "flipped bit": (Foreign(GOOD[:2000] + bytes([GOOD[2000] ^ 4]) + GOOD[2001:]), CORRUPT),
        "unknown method": (Foreign(GOOD[:2] + b"\x07" + GOOD[3:]), CORRUPT),
        # RFC 1952: a reader must refuse them, for what follows may not be what it takes it for. The archiver does.
        "reserved flags mean nothing": (with_flags(0xE0, b""), CORRUPT),
        "extra field, name and comment": (with_flags(0x1C, b"\x04\0ABCD../victim\0/victim\0"), WHOLE),
        "checksum of the header": (with_flags(0x02, HEADER_CRC), WHOLE),
        "wrong checksum of the header": (with_flags(0x02, b"\0\0"), CORRUPT),
        "extra field longer than the file": (with_flags(0x04, b"\xff\xff"), CORRUPT),
        "name without end": (Foreign(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 5000), CORRUPT),
        "garbage behind it": (Foreign(GOOD + b"garbage"), CORRUPT),
        "half a member behind it": (Foreign(GOOD + GOOD[:20]), CORRUPT),
        "zeros behind it": (Foreign(GOOD + bytes(3000)), WHOLE),
        "zeros, then garbage behind it": (Foreign(GOOD + bytes(70_000) + b"x"), CORRUPT),
        "zeros between members": (Foreign(gzip.compress(RAW[:777]) + bytes(9) + gzip.compress(RAW[777:])), CORRUPT),
        "stored block with the wrong complement": (Foreign(GOOD[:10] + b"\x01\x05\0\x00\x00evil." + bytes(8)), CORRUPT),
        "deflate of an impossible block": (Foreign(GOOD[:10] + b"\x07" + bytes(100)), CORRUPT),
        "distance before the beginning": (Foreign(GOOD[:10] + b"\x4b\x04\x12\x00" + bytes(8)), CORRUPT),
    },
)
MEMBERS = rows(
    "members",
    {
        "one for each piece": (members(*(RAW[at : at + 777] for at in range(0, len(RAW), 777))), WHOLE),
        "thousands that hold nothing": (Foreign(gzip.compress(b"") * 5000 + GOOD), WHOLE),
        "reordered": (members(RAW[1000:], RAW[:1000]), CORRUPT),
        "reordered at entries, which no reader could notice": (
            members(B, A, END),
            Harmless({"a": "0644 evil", "b": "0644 evil"}),
        ),
        "lost": (members(RAW[:1000], RAW[2000:]), CORRUPT),
        "lost at entries, which no reader could notice": (
            members(A, C, END),
            Harmless({"a": "0644 evil", "c": "0644 evil"}),
        ),
        "doubled": (members(RAW[:1000], RAW[:1000], RAW[1000:]), CORRUPT),
        "doubled at entries, the later counts": (members(A, A, END), Harmless({"a": "0644 evil"})),
        "doubled with the end": (members(A, END, A, END), CORRUPT),
        "two archives": (Foreign(GOOD + GOOD), CORRUPT),
        "spliced from two archives": (members(RAW[:1500], A + END), CORRUPT),
        "end before the last": (members(A, END, B), CORRUPT),
        "one more of zeros": (members(A, END, bytes(5000)), Harmless({"a": "0644 evil"})),
    },
)
TAR = rows(
    "tar",
    {
        "no end": (endless(file(b"f")), CORRUPT),
        "half an end": (endless(file(b"f") + bytes(512)), CORRUPT),
        "end within a block": (endless(file(b"f") + bytes(1000)), CORRUPT),
        "no tar at all": (endless(b"hello world" * 100), CORRUPT),
        "nothing": (endless(b""), CORRUPT),
        "only its end": (endless(END), Harmless({})),
        "cut in a header": (endless(file(b"f") + block(b"g")[:300]), CORRUPT),
        "cut in data": (endless(file(b"f", NOISE)[:3000]), CORRUPT),
        "cut in padding": (endless(file(b"f")[:520]), CORRUPT),
        "lone zero block": (tar(file(b"f") + bytes(512) + file(b"g")), CORRUPT),
        "two archives in one stream": (endless(file(b"f") + END + file(b"g") + END), CORRUPT),
        "bytes after the end": (endless(file(b"f") + END + b"hidden"), CORRUPT),
        "shifted by one byte": (endless(b"\0" + RAW), CORRUPT),
        "a header in the padding is padding": (
            tar(block(b"f", size=4) + b"evil" + block(b"../victim")[:508]),
            EVIL,
        ),
    },
)
BOMBS = rows(
    "bomb",
    {
        "one file of zeros": (Foreign(zeros(block(b"bomb", size=b"77777777777\0"), 64)), TOO_LARGE),
        "zeros behind the end": (Foreign(zeros(file(b"f") + END, 64)), TOO_LARGE),
        "of many members": (Foreign(gzip.compress(block(b"f", size=1 << 30)) + zeros(b"", 1) * 64), TOO_LARGE),
        "more bytes than allowed": (tar(file(b"f", bytes(5 << 20))), TOO_LARGE),
        "more entries than allowed": (tar(b"".join(file(b"f%d" % at, b"") for at in range(1001))), TOO_LARGE),
        "one entry more often than allowed": (tar(file(b"f", b"") * 1001), TOO_LARGE),
        "one name of more folders than allowed": (
            Foreign(tar(pax((b"path", b"n/" * 300 + b"n")) + file(b"x")).stored, ForeignLimits(max_entries=300)),
            TOO_LARGE,
        ),
        "more folders above files than allowed": (
            tar(b"".join(pax((b"path", b"%d" % at + b"/n" * 200)) + file(b"x") for at in range(9))),
            TOO_LARGE,
        ),
        "more links than allowed": (
            tar(b"".join(block(b"l%d" % at, b"2", link=b"x") for at in range(1001))),
            TOO_LARGE,
        ),
        "more devices than allowed": (tar(block(b"d", b"4") * 1001), TOO_LARGE),
        "more whiteouts than allowed": (tar(block(b"d", b"3") * 1001), TOO_LARGE),
        "headers for nothing": (tar(pax((b"path", b"f")) * 5000), TOO_LARGE),
        "of no bytes allowed": (Foreign(GOOD, ForeignLimits(max_bytes=0)), TOO_LARGE),
    },
)
CASES: list[Case] = [*GZIP, *MEMBERS, *TAR, *BOMBS]
