"""Rows on what a name carries beside its content: owner, mode, times, extended attributes, ACLs."""

from __future__ import annotations

import os
import subprocess

from tests.fidelity.case import Case, write

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service=ep, as the kernel keeps it."""
_LONG_AGO_NS = -315_619_199_876_543_211
_FAR_SECONDS = 13_000_000_000
"""In 2381: beyond the eleven octal digits of a plain tar header, within what ext4 can hold."""


def _three(base: bytes) -> tuple[bytes, bytes, bytes]:
    """A file, a folder with a file in it, and a symbolic link."""
    write(base + b"/file")
    os.mkdir(base + b"/folder")
    write(base + b"/folder/inside")
    os.symlink(b"file", base + b"/link")
    return base + b"/file", base + b"/folder", base + b"/link"


def _owned(uid: int, gid: int, base: bytes) -> None:
    for path in _three(base):
        os.chown(path, uid, gid, follow_symlinks=False)


def _owners(base: bytes) -> None:
    _owned(1234, 4321, base)


def _large_ids(base: bytes) -> None:
    for number, uid in enumerate((2**21, 3_000_000, 2**31 + 5, 2**32 - 2)):
        folder = base + b"/%d" % number
        os.mkdir(folder)
        _owned(uid, uid - 7, folder)


def _modes(base: bytes) -> None:
    for mode in (0o000, 0o111, 0o400, 0o444, 0o600, 0o640, 0o666, 0o755, 0o777):
        write(base + b"/%03o" % mode, b"%o" % mode)
        os.chmod(base + b"/%03o" % mode, mode)


def _special_bit(bit: int, base: bytes) -> None:
    for number, mode in enumerate((0o644, 0o711, 0o755)):
        write(base + b"/file%d" % number)
        os.chown(base + b"/file%d" % number, 1234, 4321)
        os.chmod(base + b"/file%d" % number, bit | mode)
        os.mkdir(base + b"/folder%d" % number)
        os.chown(base + b"/folder%d" % number, 1234, 4321)
        os.chmod(base + b"/folder%d" % number, bit | mode)
        write(base + b"/folder%d/inside" % number)


def _setuid(base: bytes) -> None:
    _special_bit(0o4000, base)


def _setgid(base: bytes) -> None:
    _special_bit(0o2000, base)


def _sticky(base: bytes) -> None:
    _special_bit(0o1000, base)


def _folder_modes(base: bytes) -> None:
    for mode in (0o000, 0o500, 0o555, 0o700, 0o711, 0o770):
        folder = base + b"/%03o" % mode
        os.makedirs(folder + b"/inner")
        write(folder + b"/inner/file")
        os.chmod(folder + b"/inner", 0o500)
        os.chmod(folder, mode)


def _set_times(base: bytes, *moments_ns: int) -> None:
    for number, moment in enumerate(moments_ns):
        write(base + b"/file%d" % number)
        os.utime(base + b"/file%d" % number, ns=(0, moment))


def _times(base: bytes) -> None:
    _set_times(base, 0, 1, 999_999_999, 1_234_567_890_123_456_789, 1_600_000_000_000_000_001, 2**31 * 10**9 - 1)


def _old_times(base: bytes) -> None:
    _set_times(base, *(-seconds * 10**9 for seconds in (1, 86_400, 315_619_199, 2**31)))


def _old_nanoseconds(base: bytes) -> None:
    _set_times(base, -1, -999_999_999, -1_000_000_001, _LONG_AGO_NS)


def _far_times(base: bytes) -> None:
    _set_times(base, *(seconds * 10**9 for seconds in (2**31, 2**32, 2**33 - 1, 2**33, _FAR_SECONDS)))


def _far_nanoseconds(base: bytes) -> None:
    _set_times(base, *(seconds * 10**9 + 123_456_789 for seconds in (2**31, 2**33, _FAR_SECONDS)))


def _folder_times(base: bytes) -> None:
    for number, moment in enumerate((0, 1_234_567_890_123_456_789)):
        folder = base + b"/folder%d" % number
        os.makedirs(folder + b"/inner")
        write(folder + b"/inner/file")
        os.utime(folder + b"/inner", ns=(0, moment + 1))
        os.utime(folder, ns=(0, moment))


def _link_times(base: bytes) -> None:
    for number, moment in enumerate((0, 1_234_567_890_123_456_789)):
        os.symlink(b"nowhere", base + b"/link%d" % number)
        os.utime(base + b"/link%d" % number, ns=(0, moment), follow_symlinks=False)


def _user_attributes(base: bytes) -> None:
    file, folder, _ = _three(base)
    for path in (file, folder):
        os.setxattr(path, b"user.plain", b"text")
        os.setxattr(path, b"user.empty", b"")
        os.setxattr(path, b"user.binary", b"\0\xff\n= \0")
        os.setxattr(path, b"user.long", b"x" * 2000)


def _attribute_names(base: bytes) -> None:
    file, folder, _ = _three(base)
    for path in (file, folder):
        for name in (b"a%3Db=c%", b"==", b"new\nline", b" ", b"\xff\xfe", "\u00e9".encode(), b"n" * 250):
            os.setxattr(path, b"user." + name, name)


def _trusted_attributes(base: bytes) -> None:
    file, folder, _ = _three(base)
    for path in (file, folder):
        os.setxattr(path, b"trusted.fidelity", b"\0yes")


def _link_attributes(base: bytes) -> None:
    """The kernel lets symbolic links have no ``user.*``."""
    _, _, link = _three(base)
    os.setxattr(link, b"trusted.fidelity", b"\0yes", follow_symlinks=False)


def _capabilities(base: bytes) -> None:
    file, _, _ = _three(base)
    os.chown(file, 1234, 4321)
    os.chmod(file, 0o755)
    os.setxattr(file, b"security.capability", CAPABILITY)


def _setfacl(rules: str, path: bytes) -> None:
    subprocess.run([b"setfacl", b"-m", rules.encode(), b"--", path], check=True)


def _acls(base: bytes) -> None:
    """Of ids without a name here, and of ``nobody``, who has one."""
    file, folder, _ = _three(base)
    for path in (file, folder):
        _setfacl("u:1237:rw,u:nobody:r,g:54321:rx,m::rx", path)
    write(base + b"/huge ids")
    _setfacl("u:3000000:rw", base + b"/huge ids")


def _default_acls(base: bytes) -> None:
    _, folder, _ = _three(base)
    _setfacl("d:u:1237:rwx,d:g:54321:rx,d:o::-", folder)
    os.mkdir(folder + b"/inherits")
    write(folder + b"/inherits/too")


ATTRIBUTES = (
    Case("owner and group", ("names", "owner"), _owners),
    Case("user and group ids of 2^21 and more", ("names", "owner"), _large_ids),
    Case("modes of files", ("names", "mode"), _modes),
    Case("setuid", ("names", "mode"), _setuid),
    Case("setgid", ("names", "mode"), _setgid),
    Case("sticky bit", ("names", "mode"), _sticky),
    Case("modes of folders, 0500 and 0000 among them", ("names", "mode"), _folder_modes),
    Case("times of files, to the nanosecond", ("names", "mtime"), _times),
    Case("times before 1970", ("names", "mtime"), _old_times),
    Case("times before 1970, to the nanosecond", ("names", "mtime"), _old_nanoseconds),
    Case("times beyond 2038 and beyond 2242", ("names", "mtime"), _far_times),
    Case("times beyond 2038 and beyond 2242, to the nanosecond", ("names", "mtime"), _far_nanoseconds),
    Case("times of folders, to the nanosecond", ("names", "mtime"), _folder_times),
    Case("times of symbolic links, to the nanosecond", ("names", "mtime"), _link_times),
    Case("`user.*` attributes", ("names", "user xattrs"), _user_attributes),
    Case("attribute names of any bytes", ("names", "user xattrs"), _attribute_names),
    Case("`trusted.*` attributes", ("names", "trusted xattrs"), _trusted_attributes),
    Case("attributes of symbolic links", ("names", "trusted xattrs"), _link_attributes),
    Case("`security.capability`", ("names", "security xattrs"), _capabilities),
    Case("POSIX ACLs", ("names", "ACLs"), _acls),
    Case("default ACLs", ("names", "ACLs"), _default_acls),
)
