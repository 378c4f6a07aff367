"""Foreign archives with header tricks: pax and GNU extensions, numbers of every kind, attributes, duplicates."""

from __future__ import annotations

from tests.harness.trees import ACL
from tests.hostile.case import CORRUPT, DENIED, UNSUPPORTED, Case, Harmless, endless, rows, tar
from tests.hostile.forging import END, base256, block, data, file, long_name, pax, record

F = Harmless({"f": "0644 evil"})
G = Harmless({"g": "0644 evil"})


def broken(records: bytes) -> bytes:
    """An extended header with these bytes as its records, then a file."""
    return block(kind=b"x", size=len(records)) + data(records) + file(b"f")


PAX = rows(
    "pax",
    {
        "path": (tar(pax((b"path", b"g")) + file(b"f")), G),
        "path twice, the later counts": (tar(pax((b"path", b"f"), (b"path", b"g")) + file(b"f")), G),
        "path wins over a GNU long name, whichever is first": (
            tar(
                long_name(b"x")
                + pax((b"path", b"g"))
                + file(b"f")
                + pax((b"path", b"h"))
                + long_name(b"x")
                + file(b"f")
            ),
            Harmless({"g": "0644 evil", "h": "0644 evil"}),
        ),
        "two headers, the later counts": (tar(pax((b"path", b"x")) + pax((b"path", b"g")) + file(b"f")), G),
        "header for nothing": (tar(pax((b"path", b"f"))), CORRUPT),
        "GNU long name for nothing": (tar(long_name(b"f")), CORRUPT),
        "size": (tar(pax((b"size", b"4")) + block(b"f", size=9999) + data(b"evil")), F),
        "size of a gigabyte, and no data": (tar(pax((b"size", b"1073741824")) + block(b"f")), CORRUPT),
        "size that hides a header": (
            tar(pax((b"size", b"1024")) + block(b"f") + file(b"../victim")),
            Harmless({"f": "0644 1024 bytes"}),
        ),
        "size below zero": (tar(pax((b"size", b"-1")) + file(b"f")), CORRUPT),
        "size beyond 64 bits": (tar(pax((b"size", b"18446744073709551617")) + file(b"f")), CORRUPT),
        "size of 5,000 digits": (tar(pax((b"size", b"9" * 5000)) + file(b"f")), CORRUPT),
        "size with a sign": (tar(pax((b"size", b"+4")) + file(b"f")), CORRUPT),
        "size with an underscore": (tar(pax((b"size", b"1_0")) + file(b"f")), CORRUPT),
        "size of a folder": (tar(pax((b"size", b"4")) + block(b"d/", b"5")), Harmless({"d/": "0644"})),
        "owner that means no change": (tar(pax((b"uid", b"4294967295")) + file(b"f")), CORRUPT),
        "group beyond 32 bits": (tar(pax((b"gid", b"99999999999")) + file(b"f")), CORRUPT),
        "time that is no number": (tar(pax((b"mtime", b"nan")) + file(b"f")), CORRUPT),
        "time beyond all clocks": (tar(pax((b"mtime", b"99999999999")) + file(b"f")), CORRUPT),
        "time before 1970": (tar(pax((b"mtime", b"-1.000000001")) + file(b"f")), F),
        "record that points backwards": (tar(broken(b"-5 a=bc\n")), CORRUPT),
        "record longer than its header": (tar(broken(b"99 a=bc\n")), CORRUPT),
        "record of length zero": (tar(broken(b"0 a=bcd\n")), CORRUPT),
        "record of endless length": (tar(broken(b"9" * 600)), CORRUPT),
        "record without its newline": (tar(broken(b"8 a=bcd!")), CORRUPT),
        "record without a value": (tar(broken(b"7 abcd\n")), CORRUPT),
        "record without a key": (tar(broken(b"7 =bcd\n")), CORRUPT),
        "record with a length of two kinds": (tar(broken(b"0009 a=b\n")), F),
        "records cut in the middle": (tar(broken(record(b"path", b"g")[:-3])), CORRUPT),
        "header of no bytes": (tar(block(kind=b"x") + file(b"f")), F),
        "header of a gigabyte": (tar(block(kind=b"x", size=1 << 30)), CORRUPT),
        "header below zero": (tar(block(kind=b"x", size=base256(-1, 12))), CORRUPT),
        "character set": (tar(pax((b"hdrcharset", b"BINARY"), (b"path", b"g")) + file(b"f")), G),
        "keys that nobody knows": (tar(pax((b"x.y", b"../victim"), (b"linkpath", b"../victim")) + file(b"f")), F),
    },
)
GLOBAL = rows(
    "global header",
    {
        "path": (tar(pax((b"path", b"g"), kind=b"g") + file(b"f")), CORRUPT),
        "link path": (tar(pax((b"linkpath", b"../victim"), kind=b"g") + block(b"h", b"1", link=b"f")), CORRUPT),
        "size": (tar(pax((b"size", b"0"), kind=b"g") + file(b"f")), CORRUPT),
        "sparse name": (tar(pax((b"GNU.sparse.name", b"../victim"), kind=b"g") + file(b"f")), CORRUPT),
        "sparse map": (tar(pax((b"GNU.sparse.map", b"0,4"), kind=b"g") + file(b"f")), CORRUPT),
        "time for all": (tar(pax((b"mtime", b"5"), kind=b"g") + file(b"f")), F),
        "impossible owner for all": (tar(pax((b"uid", b"4294967295"), kind=b"g") + file(b"f")), CORRUPT),
        "alone": (tar(pax((b"comment", b"x"), kind=b"g")), Harmless({})),
        "attribute for all": (
            tar(pax((b"SCHILY.xattr.trusted.x", b"1"), kind=b"g") + file(b"f") + file(b"g")),
            Harmless({"f": "0644 evil", "g": "0644 evil"}, {"trusted_xattrs": 2}),
        ),
        "that grows without end": (
            tar(b"".join(pax((b"k%d" % number, b"v" * 900), kind=b"g") for number in range(2500)) + file(b"f")),
            CORRUPT,
        ),
    },
)
GNU = rows(
    "GNU",
    {
        "long name": (tar(long_name(b"g") + file(b"f")), G),
        "long name twice, the later counts": (tar(long_name(b"x") + long_name(b"g") + file(b"f")), G),
        "long name of nothing, so the header's": (tar(long_name(b"") + file(b"f")), F),
        "long name of a gigabyte": (tar(block(kind=b"L", size=1 << 30)), CORRUPT),
        "long link for a file": (tar(long_name(b"../victim", b"K") + file(b"f")), F),
        "volume label": (tar(block(b"label", b"V") + file(b"f")), F),
        "volume label between a long name and its file": (tar(long_name(b"x") + block(kind=b"V") + file(b"f")), F),
        "part of a multi-volume archive": (tar(block(b"f", b"M")), UNSUPPORTED),
        "dump of a folder": (tar(block(b"d", b"D", size=4) + data(b"Yx\0\0")), UNSUPPORTED),
        "long names of the old kind": (tar(block(b"f", b"N", size=4) + data(b"evil")), UNSUPPORTED),
        "unknown type": (tar(block(b"f", b"Q")), UNSUPPORTED),
        "type of Solaris": (tar(block(b"f", b"X", size=9) + data(b"9 path=g\n") + file(b"f")), G),
    },
)
NUMBERS = rows(
    "number",
    {
        "size in base 256": (tar(block(b"f", size=base256(4, 12)) + data(b"evil")), F),
        "size below zero": (tar(block(b"f", size=base256(-1, 12))), CORRUPT),
        "enormous size": (tar(block(b"f", size=b"\x80" + b"\x7f" * 11)), CORRUPT),
        "size of 8 GiB, and no data": (tar(block(b"f", size=b"77777777777\0")), CORRUPT),
        "size of 8 GiB at the end": (endless(block(b"f", size=b"77777777777\0")), CORRUPT),
        "size that is no number": (tar(block(b"f", size=b"0x10       \0")), CORRUPT),
        "size with Python's prefix": (tar(block(b"f", size=b"0o4       \0\0") + data(b"evil")), CORRUPT),
        "size with an underscore": (tar(block(b"f", size=b"0000000000_4") + data(b"evil")), CORRUPT),
        "size with a sign": (tar(block(b"f", size=b"-0000000004\0") + data(b"evil")), CORRUPT),
        "size with spaces and NULs": (tar(block(b"f", size=b"   4 \0 \0    ") + data(b"evil")), F),
        "size beyond the data": (endless(block(b"f", size=10_000) + data(b"evil") + END), CORRUPT),
        "owner in base 256": (tar(block(b"f", ids=base256(1, 8) + base256(1, 8))), Harmless({"f": "0644 "})),
        "owner below zero": (tar(block(b"f", ids=base256(-2, 8) * 2)), CORRUPT),
        "owner of 56 bits": (tar(block(b"f", ids=b"\x80" + b"\xff" * 7 + b"0000000\0")), CORRUPT),
        "time below zero": (tar(block(b"f", mtime=base256(-1, 12))), Harmless({"f": "0644 "})),
        "time of 88 bits": (tar(block(b"f", mtime=b"\x80" + b"\xff" * 11)), CORRUPT),
        "mode that is no number": (tar(block(b"f", mode=b"rw-r--r-")), CORRUPT),
        "wrong checksum": (tar(block(b"f", checksum=b"000000\0 ")), CORRUPT),
        "checksum of spaces": (tar(block(b"f", checksum=b" " * 8)), CORRUPT),
        "v7 magic": (tar(block(b"f", magic=bytes(8))), Harmless({"f": "0644 "})),
        "prefix that GNU's magic does not have": (
            tar(block(b"f", magic=b"ustar  \0", prefix=b"..")),
            Harmless({"f": "0644 "}),
        ),
    },
)
ATTRIBUTES = rows(
    "attribute",
    {
        "ACLs as text are not read": (
            tar(pax((b"SCHILY.acl.access", b"user:nobody:rwx"), (b"SCHILY.acl.default", b"other::rwx")) + file(b"f")),
            Harmless({"f": "0644 evil"}, {"acls": 1}),
        ),
        "default ACL that would leak to what is below": (
            tar(
                pax((b"SCHILY.xattr.system.posix_acl_default", ACL))
                + block(b"d", b"5", mode=b"0000700\0")
                + block(b"d/f", mode=b"0000600\0")
            ),
            Harmless({"d/": "0700", "d/f": "0600 "}, {"system_xattrs": 1}),
        ),
        "capability": (
            tar(pax((b"SCHILY.xattr.security.capability", b"\1\0\0\2" + bytes(16))) + file(b"f")),
            Harmless({"f": "0644 evil"}, {"security_xattrs": 1}),
        ),
        "overlay's trusted ones": (
            tar(pax((b"SCHILY.xattr.trusted.overlay.redirect", b"/etc")) + block(b"d", b"5", mode=b"0000755\0")),
            Harmless({"d/": "0755"}, {"trusted_xattrs": 1}),
        ),
        "of no name space": (
            tar(pax((b"SCHILY.xattr.x", b"1")) + file(b"f")),
            Harmless({"f": "0644 evil"}, {"x_xattrs": 1}),
        ),
        "with an overlong name": (tar(pax((b"SCHILY.xattr." + b"n" * 300, b"x")) + file(b"f")), CORRUPT),
        "without a name": (tar(pax((b"SCHILY.xattr.", b"x")) + file(b"f")), CORRUPT),
        "with NUL in its name": (tar(pax((b"SCHILY.xattr.user.a\0b", b"x")) + file(b"f")), CORRUPT),
        "with half a name": (tar(pax((b"SCHILY.xattr.user.", b"x")) + file(b"f")), CORRUPT),
        "larger than any": (tar(pax((b"SCHILY.xattr.user.x", b"x" * 70_000)) + file(b"f")), CORRUPT),
        "of a user, on a FIFO": (tar(pax((b"SCHILY.xattr.user.x", b"x")) + block(b"p", b"6")), DENIED),
    },
)
CASES: list[Case] = [*PAX, *GLOBAL, *GNU, *NUMBERS, *ATTRIBUTES]
