"""Foreign archives that try to write through links, or to replace one kind of thing by another."""

from __future__ import annotations

import os

from tests.hostile.case import CORRUPT, DENIED, Case, Harmless, rows, tar
from tests.hostile.forging import block, file, long_name, pax

LINK = block(b"link", b"2", link=b"../victim")
OUT = block(b"out", b"2", link=b"..")
FOLDER = block(b"d/", b"5", mode=b"0000755\0")
DEVICE = block(b"sda", b"4", device=b"0000010\0" * 2)
FIFO = block(b"p", b"6")
WHITEOUT = block(b"w", b"3")


def hard(name: bytes, target: bytes) -> bytes:
    return block(name, b"1", link=target)


LINKS = rows(
    "link",
    {
        "to outside is text": (
            tar(block(b"a", b"2", link=b"/etc/passwd") + LINK),
            Harmless({"a": "-> /etc/passwd", "link": "-> ../victim"}),
        ),
        "loop": (
            tar(block(b"a", b"2", link=b"b") + block(b"b", b"2", link=b"a")),
            Harmless({"a": "-> b", "b": "-> a"}),
        ),
        "to itself": (tar(block(b"a", b"2", link=b"a")), Harmless({"a": "-> a"})),
        "twice, the later counts": (
            tar(LINK + block(b"link", b"2", link=b"x")),
            Harmless({"link": "-> x"}),
        ),
        "written through, then a file": (tar(OUT + file(b"out/victim")), CORRUPT),
        "written through, then a new file": (tar(OUT + file(b"out/new")), CORRUPT),
        "written through, then a folder": (tar(OUT + block(b"out/open", b"5", mode=b"0000000\0")), CORRUPT),
        "written through, by its own name": (tar(LINK + file(b"link")), CORRUPT),
        "file, then link of its name": (tar(file(b"link") + LINK), CORRUPT),
        "folder, then link of its name": (tar(block(b"link/", b"5") + LINK), CORRUPT),
        "link, then folder of its name": (tar(LINK + block(b"link/", b"5")), CORRUPT),
        "FIFO, then link of its name": (tar(block(b"link", b"6") + LINK), CORRUPT),
        "below a link": (tar(OUT + block(b"out/new", b"2", link=b"x")), CORRUPT),
        "below a link that comes later": (tar(block(b"out/new", b"2", link=b"x") + OUT), CORRUPT),
        "without a target": (tar(block(b"l", b"2")), CORRUPT),
        "with a target too long": (tar(pax((b"linkpath", b"x" * 5000)) + block(b"l", b"2")), CORRUPT),
        "with a target as long as can be": (
            tar(long_name(b"x/" * 2047, b"K") + block(b"l", b"2")),
            Harmless({"l": "-> " + "x/" * 2047}),
        ),
        "with NUL in its target": (tar(pax((b"linkpath", b"x\0/../y")) + block(b"l", b"2")), CORRUPT),
        "with attributes": (
            tar(pax((b"SCHILY.xattr.user.x", b"1")) + LINK),
            Harmless({"link": "-> ../victim"}, {"user_xattrs": 1}),
        ),
        "with data behind it": (tar(block(b"l", b"2", link=b"x", size=4) + b"evil".ljust(512, b"\0")), CORRUPT),
    },
)
HARD_LINKS = rows(
    "hard link",
    {
        "to outside": (tar(hard(b"h", b"../victim")), CORRUPT),
        "to an absolute name": (tar(hard(b"h", b"/etc/passwd")), CORRUPT),
        "to an absolute name that is there": (
            lambda canary: tar(pax((b"linkpath", canary.victim)) + hard(b"h", b"x")),
            CORRUPT,
        ),
        "to outside by GNU long link": (tar(long_name(b"../victim", b"K") + hard(b"h", b"x")), CORRUPT),
        "through a link": (tar(OUT + hard(b"h", b"out/victim")), CORRUPT),
        "below a link": (tar(file(b"f") + OUT + hard(b"out/new", b"f")), CORRUPT),
        "to a link is another name of it": (
            tar(LINK + hard(b"zz", b"link")),
            Harmless({"link": "-> ../victim", "zz": "-> ../victim"}),
        ),
        "to a link, then written through": (tar(LINK + hard(b"h", b"link") + file(b"h")), CORRUPT),
        "to nothing": (tar(hard(b"h", b"missing")), CORRUPT),
        "to a folder": (tar(FOLDER + hard(b"h", b"d")), CORRUPT),
        "to the root": (tar(hard(b"h", b".")), CORRUPT),
        "to itself": (tar(hard(b"h", b"h")), CORRUPT),
        "to one another": (tar(hard(b"a", b"b") + hard(b"b", b"a")), CORRUPT),
        "to a device that was left out is left out": (
            tar(DEVICE + hard(b"h", b"sda") + hard(b"i", b"h") + file(b"f")),
            Harmless({"f": "0644 evil"}, {"devices": 3}),
        ),
        "to a device that comes later": (tar(hard(b"h", b"sda") + DEVICE), CORRUPT),
        "to a whiteout": (
            tar(WHITEOUT + hard(b"h", b"w")),
            Harmless({"w": "whiteout 0644", "h": "whiteout 0644"}),
        ),
        "to a whiteout, then written through": (tar(WHITEOUT + hard(b"h", b"w") + file(b"w")), CORRUPT),
        "twice": (tar(file(b"f") + hard(b"h", b"f") * 2), Harmless({"f": "0644 evil", "h": "0644 evil"})),
        "with a mode of its own, which does not count": (
            tar(file(b"f") + block(b"h", b"1", link=b"f", mode=b"0006777\0")),
            Harmless({"f": "0644 evil", "h": "0644 evil"}),
        ),
        "over a file": (tar(file(b"f") + file(b"h") + hard(b"h", b"f")), CORRUPT),
        "over a folder": (tar(FOLDER + file(b"f") + hard(b"d", b"f")), CORRUPT),
        "written through": (tar(file(b"f", b"good") + hard(b"h", b"f") + file(b"f", b"evil")), CORRUPT),
        "with data behind it": (
            tar(file(b"f") + block(b"h", b"1", link=b"f", size=4) + b"evil".ljust(512, b"\0")),
            CORRUPT,
        ),
    },
)
REPLACED = rows(
    "replaced",
    {
        "file below a file": (tar(file(b"f") + file(b"f/victim")), CORRUPT),
        "folder over a file": (tar(file(b"f") + block(b"f/", b"5")), CORRUPT),
        "file over a folder": (tar(FOLDER + file(b"d")), CORRUPT),
        "file over a folder that holds something": (tar(file(b"d/f") + file(b"d")), CORRUPT),
        "file over a file, in a new inode": (
            tar(file(b"f", b"first") + file(b"f", b"2nd")),
            Harmless({"f": "0644 2nd"}),
        ),
        "file over a FIFO, which is not opened": (tar(FIFO + file(b"p", b"x")), Harmless({"p": "0644 x"})),
        "FIFO over a file": (tar(file(b"p") + FIFO), Harmless({"p": "fifo 0644"})),
        "FIFO over a folder": (tar(FOLDER + block(b"d", b"6")), CORRUPT),
        "folder over a folder, the later counts": (
            tar(block(b"d", b"5", mode=b"0000700\0") + FOLDER),
            Harmless({"d/": "0755"}),
        ),
        "root twice": (tar(block(b"./", b"5", mode=b"0000755\0") * 2), Harmless({})),
        "file 300 times": (tar(file(b"f") * 300), Harmless({"f": "0644 evil"})),
    },
)
SPECIALS = rows(
    "special",
    {
        "devices are left out": (
            tar(DEVICE + block(b"null", b"3", device=b"0000001\0" * 2) + file(b"f")),
            Harmless({"f": "0644 evil"}, {"devices": 2}),
        ),
        "device with impossible numbers is left out": (
            tar(block(b"d", b"4", device=b"\xff" * 16)),
            Harmless({}, {"devices": 1}),
        ),
        "device over a file leaves the file": (
            tar(file(b"sda") + DEVICE),
            Harmless({"sda": "0644 evil"}, {"devices": 1}),
        ),
        "whiteouts are made": (
            tar(
                WHITEOUT + block(b"blank", b"3", device=b"     0 \0" * 2) + block(b"bsd", b"3", device=b"000000 \0" * 2)
            ),
            Harmless({"w": "whiteout 0644", "blank": "whiteout 0644", "bsd": "whiteout 0644"}),
        ),
        "nearly a whiteout is left out": (
            tar(
                block(b"major", b"3", device=b"0000001\0" + b"0000000\0")
                + block(b"minor", b"3", device=b"0000000\0" + b"0000001\0")
                + block(b"block", b"4", device=b"0000000\0" * 2)
                + block(b"without digits", b"3", device=bytes(16))
                + block(b"in base 256", b"3", device=(b"\x80" + bytes(7)) * 2)
                + block(b"below zero", b"3", device=b"\xff" * 16)
                + block(b"no octal", b"3", device=b"0000008\0" * 2)
                + block(b"words", b"3", device=b"0x00000\0" * 2)
                + block(b"two words", b"3", device=b"0 00000\0" * 2)
                + block(b"behind its end", b"3", device=b"0\x00000001" * 2)
                + block(b"of an old form", b"3", magic=bytes(8))
                + pax((b"SCHILY.devmajor", b"262144"))
                + block(b"major in a record", b"3")
                + pax((b"SCHILY.devminor", b"262144"))
                + block(b"minor in a record", b"3")
                + pax((b"SCHILY.devminor", b"1"), kind=b"g")
                + block(b"minor in a record for all", b"3")
            ),
            Harmless({}, {"devices": 14}),
        ),
        "whiteout over a file": (tar(file(b"w") + WHITEOUT), Harmless({"w": "whiteout 0644"})),
        "whiteout over a folder": (tar(block(b"w/", b"5") + WHITEOUT), CORRUPT),
        "whiteout as root": (tar(block(b"./", b"3")), CORRUPT),
        "file over a whiteout, which is not opened": (tar(WHITEOUT + file(b"w", b"x")), Harmless({"w": "0644 x"})),
        "file below a whiteout": (tar(WHITEOUT + file(b"w/f")), CORRUPT),
        "whiteout below a link": (tar(OUT + block(b"out/w", b"3")), CORRUPT),
        "whiteout with an attribute of a user": (tar(pax((b"SCHILY.xattr.user.x", b"1")) + WHITEOUT), DENIED),
        "setuid and setgid of a file go": (
            tar(block(b"su", mode=b"0006755\0")),
            Harmless({"su": "0755 "}, {"setuid": 1}),
        ),
        "setuid in base 256 goes": (
            tar(block(b"su", mode=b"\x80" + bytes(5) + b"\x0d\xed")),
            Harmless({"su": "0755 "}, {"setuid": 1}),
        ),
        "mode with more bits than there are": (
            tar(block(b"su", mode=b"7777755\0")),
            Harmless({"su": "1755 "}, {"setuid": 1}),
        ),
        "setgid and sticky bit of a folder stay": (
            tar(block(b"d", b"5", mode=b"0003777\0")),
            Harmless({"d/": "3777"}),
        ),
        "file of no mode": (tar(block(b"f", mode=b"0000000\0")), Harmless({"f": "0000 "})),
        "folder of no mode with something in it": (
            tar(block(b"d", b"5", mode=b"0000000\0") + (file(b"d/f") if os.geteuid() == 0 else b"")),
            Harmless({"d/": "0000", **({"d/f": "0644 evil"} if os.geteuid() == 0 else {})}),
        ),
    },
)
CASES: list[Case] = [*LINKS, *HARD_LINKS, *REPLACED, *SPECIALS]
