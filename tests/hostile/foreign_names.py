"""Foreign archives whose names want out, or are odd: absolute, parents, empty and dot components, NUL, newlines."""

from __future__ import annotations

from tests.hostile.case import CORRUPT, Case, Harmless, rows, tar
from tests.hostile.forging import block, data, file, long_name, pax

GNU_10 = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"4"))
ODD = b"new\nline\x1b[2J\xff -rf *"

CASES: list[Case] = rows(
    "name",
    {
        "absolute": (tar(file(b"/victim")), CORRUPT),
        "absolute with two slashes": (tar(file(b"//victim")), CORRUPT),
        "absolute, of a file that is there, by pax": (
            lambda canary: tar(pax((b"path", canary.victim)) + file(b"harmless")),
            CORRUPT,
        ),
        "absolute, of a file that is there, by GNU long name": (
            lambda canary: tar(long_name(canary.victim) + file(b"harmless")),
            CORRUPT,
        ),
        "absolute folder": (lambda canary: tar(pax((b"path", canary.victim + b"-new")) + block(kind=b"5")), CORRUPT),
        "parent": (tar(file(b"../victim")), CORRUPT),
        "parent behind a dot": (tar(file(b"./../victim")), CORRUPT),
        "parent inside": (tar(file(b"x/../../victim")), CORRUPT),
        "parent that stays inside": (tar(file(b"x/../y")), CORRUPT),
        "parent at the end": (tar(file(b"x/..")), CORRUPT),
        "parent alone": (tar(block(b"..", b"5")), CORRUPT),
        "parent as folder": (tar(block(b"../new/", b"5")), CORRUPT),
        "parent as FIFO": (tar(block(b"../pipe", b"6")), CORRUPT),
        "parent as whiteout": (tar(block(b"../null", b"3")), CORRUPT),
        "parent as device": (tar(block(b"../null", b"3", device=b"0000001\0" * 2)), CORRUPT),
        "parent as symbolic link": (tar(block(b"../link", b"2", link=b"x")), CORRUPT),
        "parent as hard link": (tar(file(b"f") + block(b"../link", b"1", link=b"f")), CORRUPT),
        "parent by pax": (tar(pax((b"path", b"../victim")) + file(b"harmless")), CORRUPT),
        "parent by prefix": (tar(block(b"victim", prefix=b"..")), CORRUPT),
        "absolute by prefix": (tar(block(b"victim", prefix=b"/tmp")), CORRUPT),
        "parent by GNU long name": (tar(long_name(b"../victim") + file(b"x")), CORRUPT),
        "parent by sparse name": (
            tar(
                pax(*GNU_10, (b"GNU.sparse.name", b"../victim"))
                + block(b"x", size=516)
                + data(b"1\n0\n4\n".ljust(512, b"\0") + b"evil")
            ),
            CORRUPT,
        ),
        "parent for all by global header": (tar(pax((b"path", b"../victim"), kind=b"g") + file(b"x")), CORRUPT),
        "empty": (tar(file(b"")), CORRUPT),
        "empty by pax, so the header's": (
            tar(pax((b"path", b"")) + file(b"f")),
            Harmless({"f": "0644 evil"}),
        ),
        "the root as a file": (tar(file(b".")), CORRUPT),
        "the root as a link": (tar(block(b"./", b"2", link=b"..")), CORRUPT),
        "the root as a FIFO": (tar(block(b".", b"6")), CORRUPT),
        "only slashes": (tar(block(b"///", b"5")), CORRUPT),
        "dot components": (tar(file(b"./a/./b/.")), Harmless({"a/": "0755", "a/b": "0644 evil"})),
        "empty components": (tar(file(b"a//b")), Harmless({"a/": "0755", "a/b": "0644 evil"})),
        "file with a slash at its end": (tar(block(b"d/")), Harmless({"d/": "0644"})),
        "NUL by pax": (tar(pax((b"path", b"ok\0/../victim")) + file(b"x")), CORRUPT),
        "NUL in the header, where the name ends": (tar(file(b"ok\0/../victim")), Harmless({"ok": "0644 evil"})),
        "NUL first": (tar(file(b"\0victim")), CORRUPT),
        "NUL in a GNU long name, where it ends": (
            tar(long_name(b"ok\0/../victim") + file(b"x")),
            Harmless({"ok": "0644 evil"}),
        ),
        "newline, escape sequence, wildcard": (tar(file(ODD)), Harmless({ODD.decode("latin-1"): "0644 evil"})),
        "three dots": (tar(file(b".../f")), Harmless({".../": "0755", ".../f": "0644 evil"})),
        "parent and a space": (tar(file(b".. /f")), Harmless({".. /": "0755", ".. /f": "0644 evil"})),
        "backslashes and a drive": (tar(file(b"C:\\..\\f")), Harmless({"C:\\..\\f": "0644 evil"})),
        "like an option": (
            tar(file(b"--checkpoint-action=exec=sh")),
            Harmless({"--checkpoint-action=exec=sh": "0644 evil"}),
        ),
        "overlong component": (tar(pax((b"path", b"n" * 256)) + file(b"x")), CORRUPT),
        "component as long as can be": (
            tar(pax((b"path", b"n" * 255)) + file(b"x")),
            Harmless({"n" * 255: "0644 evil"}),
        ),
        "overlong": (tar(pax((b"path", (b"n" * 200 + b"/") * 21 + b"n")) + file(b"x")), CORRUPT),
        "700 deep": (
            tar(pax((b"path", b"n/" * 699 + b"n")) + block(kind=b"5")),
            Harmless({"n/" * depth: "0644" if depth == 700 else "0755" for depth in range(1, 701)}),
        ),
    },
)
