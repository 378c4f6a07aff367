"""Archives of ours with a tampered tail: links, specials, folders and their metadata, under digests that are right."""

from __future__ import annotations

from tests.harness.trees import ACL, IS_ROOT
from tests.hostile.case import CORRUPT, DENIED, UNSUPPORTED, Case, Expected, Harmless, Made, Own, rows
from tests.hostile.forging import END, Forged, base256, block, file, honest, long_name, pax, tail
from tests.oracle.entries import Entry, FileType

OUT = b"../../victim"
ROOT = block(b"./", b"5", mode=b"0000755\0", mtime=b"00000000001\0")
GOOD = {"good": "0644 good"}


def symlink(path: bytes, target: bytes) -> Entry:
    return Entry(path, FileType.SYMLINK, 0o777, mtime_ns=10**9, target=target)


def hard(path: bytes, target: bytes) -> Entry:
    return Entry(path, FileType.HARD_LINK, target=target)


def folder(path: bytes, mode: int = 0o755, xattrs: tuple[tuple[bytes, bytes], ...] = ()) -> Entry:
    return Entry(path, FileType.DIRECTORY, mode, mtime_ns=10**9, xattrs=xattrs)


def special(path: bytes, kind: FileType, device: tuple[int, int] = (0, 0), mode: int = 0o644) -> Entry:
    return Entry(path, kind, mode, device=device, mtime_ns=10**9)


def raw(body: bytes) -> Forged:
    """A tail of these very bytes."""
    return Forged("tail", body)


def bare(path: bytes, **changes: object) -> Forged:
    """A folder with a header of our making, in its place before the root."""
    return tail(raw=block(path, b"5", **changes))  # type: ignore[arg-type]


def behind(table: dict[str, tuple[Forged, Expected]]) -> dict[str, tuple[Made, Expected]]:
    """Each behind one honest file."""
    return {name: (Own((honest(b"good"), segment)), expected) for name, (segment, expected) in table.items()}


def refused(table: dict[str, Forged]) -> dict[str, tuple[Made, Expected]]:
    """The same where all are corrupt."""
    return behind({name: (segment, CORRUPT) for name, segment in table.items()})


LINKS = {
    "link outside": tail(symlink(b"../evil", b"x")),
    "absolute link": tail(symlink(b"/tmp/evil", b"x")),
    "hard link outside": tail(hard(b"../evil", b"good")),
    "hard link to outside": tail(hard(b"h", OUT)),
    "hard link to an absolute name": tail(hard(b"h", b"/etc/passwd")),
    "hard link through a link": tail(symlink(b"a", b".."), hard(b"h", b"a/victim")),
    "hard link below a link": tail(symlink(b"a", b".."), hard(b"a/new", b"good")),
    "hard link to nothing": tail(hard(b"h", b"missing")),
    "hard link to a folder": tail(hard(b"h", b"d"), folder(b"d")),
    "hard link to the root": tail(hard(b"h", b"")),
    "hard link to itself": tail(hard(b"h", b"h")),
    "hard link over a file": tail(symlink(b"l", b"x"), hard(b"good", b"l")),
    "link over a file": tail(symlink(b"good", b"..")),
    "link over a folder": tail(symlink(b"d", b".."), folder(b"d")),
    "link over the root": tail(symlink(b"", b"..")),
    "link below a link": tail(symlink(b"out", b".."), symlink(b"out/evil", b"x")),
    "link below nothing": tail(symlink(b"no/evil", b"x")),
    "link twice, differently": tail(symlink(b"l", b"x"), symlink(b"l", b"y")),
    "link without a target": tail(raw=block(b"l", b"2")),
    "link with NUL in its target": tail(raw=pax((b"linkpath", b"x\0y")) + block(b"l", b"2")),
    "link with a target too long": tail(raw=pax((b"linkpath", b"x" * 4096)) + block(b"l", b"2")),
    "link with NUL in its name": tail(raw=pax((b"path", b"l\0m")) + block(b"l", b"2", link=b"x")),
    "FIFO over a file": tail(special(b"good", FileType.FIFO)),
    "FIFO outside": tail(special(b"../p", FileType.FIFO)),
    "FIFO below a link": tail(symlink(b"out", b".."), special(b"out/p", FileType.FIFO)),
    "device outside": tail(special(b"../d", FileType.CHARACTER_DEVICE, (1, 3))),
    "whiteout outside": tail(special(b"../d", FileType.CHARACTER_DEVICE)),
    "whiteout over a file": tail(special(b"good", FileType.CHARACTER_DEVICE)),
    "whiteout below a link": tail(symlink(b"out", b".."), special(b"out/d", FileType.CHARACTER_DEVICE)),
}
FOLDERS = {
    "absolute folder": tail(folder(b"/tmp/evil")),
    "folder outside": tail(folder(b"../evil")),
    "folder outside that is there": tail(folder(b"../open", 0)),
    "dot component": bare(b"./a/./b"),
    "empty component": bare(b"a//b"),
    "parent alone": bare(b".."),
    "folder over a file": tail(folder(b"good")),
    "folder below a file": tail(folder(b"good/d")),
    "folder below a link": tail(symlink(b"out", b".."), folder(b"out/b")),
    "folder with NUL in its name": tail(raw=pax((b"path", b"a\0b")) + block(b"a", b"5")),
    "folder of an overlong component": tail(raw=pax((b"path", b"n" * 256)) + block(b"n", b"5")),
    "folder as deep as a header can say": tail(raw=pax((b"path", b"n/" * 1_000_000)) + block(b"n", b"5")),
    "link after a folder": tail(folder(b"d"), symlink(b"l", b"d")),
    "folder twice": tail(folder(b"d"), folder(b"d")),
    "folder behind the root": raw(ROOT + block(b"d", b"5") + END),
    "root twice": raw(ROOT + ROOT + END),
    "no root": raw(block(b"d", b"5") + END),
    "nothing but its end": raw(END),
    "no end": tail(end=b""),
    "half an end": tail(end=bytes(512)),
    "more behind the end": tail(end=END + file(b"f")),
    "cut in a header": raw(ROOT[:300]),
    "a file": tail(raw=file(b"f")),
    "a file that looks like a folder": tail(raw=block(b"f", b"0", size=512) + block(b"../x")),
    "unknown type": tail(raw=block(b"f", b"Q")),
    "GNU sparse file": tail(raw=block(b"f", b"S")),
    "not in the manifest's sum": Forged("tail", tail(folder(b"extra")).raw, content=tail().content),
    "a folder less than in the sum": Forged("tail", tail().raw, content=tail(folder(b"d")).content),
    "other mode than in the sum": Forged("tail", tail(folder(b"d", 0o4777)).raw, content=tail(folder(b"d")).content),
    "wrong checksum": bare(b"d", checksum=b"0000000\0"),
    "GNU long name out": tail(raw=long_name(b"../../evil") + block(b"d", b"5")),
    "global path": tail(raw=pax((b"path", b"../../evil"), kind=b"g") + block(b"d", b"5")),
    "extended headers without end": tail(raw=pax((b"path", b"n" * 4000)) * 1500 + block(b"n", b"5")),
    "global headers without end": tail(
        raw=b"".join(pax((b"k%d" % at, b"v" * 4000), kind=b"g") for at in range(1500)) + block(b"n", b"5")
    ),
    "extended header of a gigabyte": tail(raw=block(kind=b"x", size=1 << 30)),
}
NUMBERS = {
    "owner below zero": bare(b"d", ids=base256(-2, 8) * 2),
    "owner of 56 bits": bare(b"d", ids=base256((1 << 55) - 1, 8) * 2),
    "owner that means no change": tail(raw=pax((b"uid", b"4294967295")) + block(b"d", b"5")),
    "owner of 5,000 digits": tail(raw=pax((b"uid", b"9" * 5000)) + block(b"d", b"5")),
    "owner of 30 digits": tail(raw=pax((b"gid", b"9" * 30)) + block(b"d", b"5")),
    "time of 88 bits": bare(b"d", mtime=base256((1 << 86) - 1, 12)),
    "time of 88 bits below zero": bare(b"d", mtime=base256(-(1 << 86), 12)),
    "time of 30 digits": tail(raw=pax((b"mtime", b"9" * 30)) + block(b"d", b"5")),
    "time of 5,000 digits": tail(raw=pax((b"mtime", b"9" * 5000)) + block(b"d", b"5")),
    "time that is no number": tail(raw=pax((b"mtime", b"1e9")) + block(b"d", b"5")),
    "size of 5,000 digits": tail(raw=pax((b"size", b"9" * 5000)) + block(b"d", b"5")),
    "mode that is no number": bare(b"d", mode=b"rwxr-xr-"),
    "device below zero": tail(raw=block(b"d", b"3", device=base256(-1, 8) * 2)),
    "device of 56 bits": tail(raw=block(b"d", b"4", device=base256((1 << 54), 8) * 2)),
    "device that is no number": tail(raw=block(b"d", b"4", device=b"sda     " * 2)),
}
DEVICE = special(b"null", FileType.CHARACTER_DEVICE, (1, 3), 0o666)
ATTRIBUTES: dict[str, tuple[Forged, Expected]] = {
    "ACL of a few bytes": (tail(folder(b"d", xattrs=((b"system.posix_acl_default", b"\x02\0"),))), CORRUPT),
    "ACL that is text": (tail(folder(b"d", xattrs=((b"system.posix_acl_default", b"evil"),))), UNSUPPORTED),
    "ACL of an unknown version": (
        tail(folder(b"d", xattrs=((b"system.posix_acl_access", b"\x09\0\0\0" + ACL[4:]),))),
        UNSUPPORTED,
    ),
    "attribute without a name": (tail(raw=pax((b"SCHILY.xattr.", b"1")) + block(b"d", b"5")), CORRUPT),
    "attribute with NUL in its name": (
        tail(raw=pax((b"SCHILY.xattr.user.a\0b", b"1")) + block(b"d", b"5")),
        CORRUPT,
    ),
    "attribute with an overlong name": (tail(folder(b"d", xattrs=((b"user." + b"n" * 300, b"1"),))), CORRUPT),
    "attribute larger than any": (tail(folder(b"d", xattrs=((b"user.x", b"1" * 70_000),))), CORRUPT),
    "attribute of a user on a link": (
        tail(Entry(b"l", FileType.SYMLINK, 0o777, mtime_ns=10**9, target=b"x", xattrs=((b"user.x", b"1"),))),
        DENIED,
    ),
    "default ACL above, which is not inherited": (
        tail(folder(b"d/e", 0o700), folder(b"d", 0o755, ((b"system.posix_acl_default", ACL),))),
        Harmless({**GOOD, "d/": "0755", "d/e/": "0700"}),
    ),
    "setgid and sticky bit of a folder": (tail(folder(b"d", 0o3777)), Harmless({**GOOD, "d/": "3777"})),
    "device, made only where one may": (
        tail(DEVICE),
        Harmless({**GOOD, "null": "device 0666"}) if IS_ROOT else Harmless(GOOD, {"devices": 1}),
    ),
    "whiteouts, made by everybody": (
        tail(special(b"gone", FileType.CHARACTER_DEVICE, mode=0), hard(b"gone too", b"gone")),
        Harmless({**GOOD, "gone": "whiteout 0000", "gone too": "whiteout 0000"}),
    ),
    "block device 0/0 is no whiteout": (
        tail(special(b"disk", FileType.BLOCK_DEVICE)),
        Harmless({**GOOD, "disk": "device 0644"}) if IS_ROOT else Harmless(GOOD, {"devices": 1}),
    ),
    "links out are text": (
        tail(symlink(b"a", b"/etc/passwd"), symlink(b"b", OUT), symlink(b"c", b"..")),
        Harmless({**GOOD, "a": "-> /etc/passwd", "b": "-> ../../victim", "c": "-> .."}),
    ),
    "hard link to a link": (
        tail(symlink(b"a", OUT), hard(b"b", b"a")),
        Harmless({**GOOD, "a": "-> ../../victim", "b": "-> ../../victim"}),
    ),
}
CASES: list[Case] = [
    *rows("own tail", refused(LINKS)),
    *rows("own tail", refused(FOLDERS)),
    *rows("own tail", refused(NUMBERS)),
    *rows("own tail", behind(ATTRIBUTES)),
]
