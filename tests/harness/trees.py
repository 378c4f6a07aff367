"""Trees with everything that a home may hold, and a comparer that shares no code with the data plane."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

IS_ROOT = os.geteuid() == 0
NOBODY = 0xFFFFFFFF
EVERYTHING = frozenset({"owners", "xattrs", "sparse", "times"})


_ACL_ENTRIES = ((1, 6, NOBODY), (2, 6, 1237), (4, 4, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY))
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in _ACL_ENTRIES)
"""``u::rw-,u:1237:rw-,g::r--,m::rw-,o::r--`` as the kernel has it."""


def make_rich_tree(root: Path) -> None:
    """Names, kinds, times, attributes and links that have broken archivers before. ``root`` exists and is empty."""
    base = os.fsencode(root)
    _write(base + b"/plain.txt", b"hello\n")
    _write(base + b"/empty", b"")
    _write(base + b"/-rf --checkpoint=1", b"a name that looks like an option")
    _write(base + b"/new\nline \\n 'quote' \"", b"newline")
    _write(base + b"/\xff\xfe not utf-8", b"bytes")
    _write(base + "/ünï-\U0001f600".encode(), b"unicode")
    _write(base + b"/" + b"n" * 255, b"as long as a name may be")
    _write(base + b"/ leading and trailing ", b"spaces")
    _write(base + b"/star*[a-z]?", b"wildcards")
    os.makedirs(base + b"/deep/" + b"/".join([b"d" * 60] * 5))
    _write(base + b"/deep/" + b"/".join([b"d" * 60] * 5) + b"/file", b"a path beyond ustar")
    os.makedirs(base + b"/a.b")
    os.makedirs(base + b"/a")
    _write(base + b"/a/x", b"order: a/x before a.b/x, and both after a")
    _write(base + b"/a.b/x", b"order")
    os.mkdir(base + b"/emptydir")
    os.mkdir(base + b"/closed", 0o755)
    _write(base + b"/closed/inside", b"in a folder without write permission")
    os.symlink(b"plain.txt", base + b"/link")
    os.symlink(b"/nonexistent/absolute", base + b"/dangling")
    os.symlink(b"../../../etc/passwd", base + b"/outward")
    os.symlink(b"t/" * 2047 + b"t", base + b"/longlink")
    os.mkfifo(base + b"/fifo", 0o620)
    _bind_socket(root / "socket")
    os.link(base + b"/plain.txt", base + b"/zz-second-name")
    os.link(base + b"/plain.txt", base + b"/a/third-name")
    os.link(base + b"/fifo", base + b"/zz-fifo")
    os.link(base + b"/link", base + b"/zz-link", follow_symlinks=False)
    _write(base + b"/middle.bin", bytes(range(256)) * 150)
    _write(base + b"/large.bin", hashlib.sha256(b"seed").digest() * 4000)
    os.link(base + b"/large.bin", base + b"/zz-large-again")
    with open(base + b"/sparse.bin", "wb") as file:
        file.seek(1 << 20)
        file.write(b"island")
        file.truncate(3 << 20)
    _set_modes_and_attributes(base)
    _set_times(base)


def _set_modes_and_attributes(base: bytes) -> None:
    os.chmod(base + b"/empty", 0o4711)
    os.chmod(base + b"/middle.bin", 0o400)
    os.chmod(base + b"/emptydir", 0o1777)
    os.setxattr(base + b"/plain.txt", b"user.comment", b"with = and \n and \0 in it")
    os.setxattr(base + b"/plain.txt", b"user.a%3Db=c", b"percent and equals in the name")
    os.setxattr(base + b"/plain.txt", b"user.empty", b"")
    os.setxattr(base + b"/large.bin", b"user.large", b"x" * 2000)
    os.setxattr(base + b"/emptydir", b"user.dir", b"on a folder")
    with contextlib.suppress(OSError):
        os.setxattr(base + b"/a.b/x", b"system.posix_acl_access", ACL)
        os.setxattr(base + b"/a.b", b"system.posix_acl_default", ACL)
    if IS_ROOT:
        os.chown(base + b"/a/x", 3_000_000, 2_500_000)
        os.chown(base + b"/link", 1234, 1234, follow_symlinks=False)
        with contextlib.suppress(OSError):
            os.setxattr(base + b"/a/x", b"trusted.overlay", b"y")
            os.setxattr(base + b"/zz-link", b"trusted.onlink", b"z", follow_symlinks=False)
        capability = bytes.fromhex("0100000200200000000000000000000000000000")
        with contextlib.suppress(OSError):
            os.setxattr(base + b"/a/x", b"security.capability", capability)


def _set_times(base: bytes) -> None:
    os.utime(base + b"/plain.txt", ns=(0, 1_234_567_890_123_456_789))
    os.utime(base + b"/empty", ns=(0, -315_619_199_876_543_211))
    os.utime(base + b"/middle.bin", ns=(0, 7_258_118_400_500_000_000))
    os.utime(base + b"/link", ns=(0, 999_999_999), follow_symlinks=False)
    os.utime(base + b"/emptydir", ns=(0, 1_000_000_000))
    os.utime(base + b"/fifo", ns=(0, 5))
    os.chmod(base + b"/closed", 0o555)
    os.utime(base + b"/closed", ns=(0, 42_000_000_042))
    os.utime(base, ns=(0, 1_600_000_000_000_000_001))


def snapshot(root: Path, *, ignore: frozenset[str] = frozenset(), skip_sockets: bool = True) -> dict[bytes, Any]:
    """What stands below ``root``, by path. ``ignore``: any of ``EVERYTHING`` that a reader is known not to bring."""
    found: dict[bytes, Any] = {}
    groups: dict[tuple[int, int], bytes] = {}
    base = os.fsencode(root)
    pending = [b""]
    while pending:
        path = pending.pop(0)
        full = base + b"/" + path if path else base
        status = os.lstat(full)
        if stat.S_ISSOCK(status.st_mode) and skip_sockets:
            continue
        found[path] = _facts(full, status, ignore)
        if stat.S_ISDIR(status.st_mode):
            pending = sorted(pending + [path + b"/" + name if path else name for name in os.listdir(full)])
        elif status.st_nlink > 1:
            found[path]["group"] = groups.setdefault((status.st_dev, status.st_ino), path)
    return found


def _facts(full: bytes, status: os.stat_result, ignore: frozenset[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": stat.S_IFMT(status.st_mode)}
    if not stat.S_ISLNK(status.st_mode):
        facts["mode"] = stat.S_IMODE(status.st_mode)
    if "times" not in ignore:
        facts["mtime"] = status.st_mtime_ns
    if "owners" not in ignore:
        facts["owner"] = (status.st_uid, status.st_gid)
    if "xattrs" not in ignore:
        names = sorted(os.listxattr(full, follow_symlinks=False))
        facts["xattrs"] = {name: os.getxattr(full, name, follow_symlinks=False) for name in names}
    if stat.S_ISREG(status.st_mode):
        with open(full, "rb") as file:
            facts["data"] = (status.st_size, hashlib.file_digest(file, "sha256").hexdigest())
        if "sparse" not in ignore:
            facts["is_sparse"] = status.st_blocks * 512 < status.st_size // 2
    elif stat.S_ISLNK(status.st_mode):
        facts["target"] = os.readlink(full)
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        facts["device"] = status.st_rdev
    return facts


def _write(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, ns=(0, 1_500_000_000_000_000_000 + len(data)))


def _bind_socket(path: Path) -> None:
    """A socket in the file system; its address may be long, so it is bound by a relative name."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)
