"""Rows on what a name is: links, sparse files, folders, specials."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

from activities.dataplane.plan import MIB, PlanLimits
from tests.fidelity.case import COUNTED, NO, Case, write
from tests.harness.archives import TINY

_KIB = 1 << 10


def _links_within(base: bytes) -> None:
    write(base + b"/a")
    os.link(base + b"/a", base + b"/b")
    os.mkdir(base + b"/folder")
    os.link(base + b"/a", base + b"/folder/c")


def _links_across(base: bytes) -> None:
    """Between the names stands more than a segment holds, as our archive is cut."""
    write(base + b"/a", b"first")
    for number in range(6):
        write(base + b"/between%d" % number, bytes([number]) * 6000)
    os.link(base + b"/a", base + b"/z")
    os.link(base + b"/between3", base + b"/0")


def _links_to_large(base: bytes) -> None:
    """To a file of several pieces, as our archive is cut; with names before and behind it."""
    write(base + b"/large", bytes(range(256)) * 200)
    os.link(base + b"/large", base + b"/a")
    os.link(base + b"/large", base + b"/z")


def _links_to_links(base: bytes) -> None:
    os.symlink(b"nowhere", base + b"/link")
    os.link(base + b"/link", base + b"/link too", follow_symlinks=False)


def _links_to_pipes(base: bytes) -> None:
    os.mkfifo(base + b"/pipe")
    os.link(base + b"/pipe", base + b"/pipe too")


def _symlinks(base: bytes) -> None:
    write(base + b"/file")
    os.makedirs(base + b"/folder/inner")
    for name, target in (
        (b"to a file", b"file"),
        (b"to a folder", b"folder"),
        (b"to a folder with a slash", b"folder/"),
        (b"to a link", b"to a file"),
        (b"to itself", b"to itself"),
        (b"folder/inner/upwards", b"../../file"),
        (b"not clean", b"./folder/../folder//inner/."),
    ):
        os.symlink(target, base + b"/" + name)


def _dangling(base: bytes) -> None:
    os.symlink(b"no/such file", base + b"/below")
    os.symlink(b"../../../../../nowhere", base + b"/outside")


def _absolute(base: bytes) -> None:
    for number, target in enumerate((b"/", b"/etc/hostname", b"/no such file", b"//twice")):
        os.symlink(target, base + b"/%d" % number)


def _long_links(base: bytes) -> None:
    for length in (99, 100, 101, 255, 256, 1024, 4095):
        os.symlink(b"t" * length, base + b"/%d" % length)
    os.symlink(b"t/" * 2047 + b"t", base + b"/components")


def _odd_targets(base: bytes) -> None:
    for number, target in enumerate((b"\xff\xfe", b"new\nline", b" ", b"-rf", b"a = b %3D", "\u00e9".encode())):
        os.symlink(target, base + b"/%d" % number)


def _hollow(path: bytes, size: int, islands: tuple[int, ...]) -> None:
    with open(path, "wb") as file:
        for offset in islands:
            file.seek(offset)
            file.write(os.urandom(4 * _KIB))
        file.truncate(size)
    os.utime(path, ns=(0, 1_500_000_000_000_000_000))


def _large_sparse(base: bytes) -> None:
    """Holes at the start, within, at the end; nothing but a hole; and an end within a block."""
    _hollow(base + b"/middle", 48 * MIB, (16 * MIB, 32 * MIB))
    _hollow(base + b"/start", 40 * MIB, (40 * MIB - 4 * _KIB,))
    _hollow(base + b"/end", 24 * MIB, (0, 64 * _KIB + 4 * _KIB))
    _hollow(base + b"/nothing", 100 * MIB + 777, ())


def _small_sparse(base: bytes) -> None:
    """As above, but in files that share their segment with others."""
    _hollow(base + b"/middle", 4 * MIB, (1 * MIB,))
    _hollow(base + b"/start", 24 * MIB - 1, (24 * MIB - 4 * _KIB - 1,))
    _hollow(base + b"/end", 1 * MIB, (0, 64 * _KIB + 4 * _KIB))
    _hollow(base + b"/nothing", 5 * MIB + 777, ())
    often = range(64 * _KIB, 12 * MIB, 68 * _KIB)
    _hollow(base + b"/often", often[-1] + 68 * _KIB, tuple(often))


def _zeros(base: bytes) -> None:
    write(base + b"/zeros", bytes(128 * _KIB))


def _folders(base: bytes) -> None:
    os.mkdir(base + b"/empty")
    os.makedirs(base + b"/a/b/c")
    os.makedirs(base + b"/" + b"/".join([b"deep"] * 100))
    write(base + b"/" + b"/".join([b"deep"] * 100) + b"/file")


def _pipes(base: bytes) -> None:
    os.mkfifo(base + b"/pipe", 0o620)
    os.chown(base + b"/pipe", 1234, 4321)
    os.utime(base + b"/pipe", ns=(0, 5))


def _socket(base: bytes) -> None:
    """Bound by a relative name, for the address may be too long otherwise."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(base)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
    finally:
        os.fchdir(here)
        os.close(here)
    os.link(base + b"/socket", base + b"/socket too")
    write(base + b"/file")


def _devices(base: bytes) -> None:
    os.mknod(base + b"/null", 0o020666, os.makedev(1, 3))
    os.mknod(base + b"/disk", 0o060600, os.makedev(259, 70_000))
    os.chown(base + b"/disk", 1234, 6)
    os.link(base + b"/null", base + b"/null too")
    for name in (b"/null", b"/disk"):
        os.utime(base + name, ns=(0, 1_500_000_000_000_000_000))


def _whiteouts(base: bytes) -> None:
    """As an overlay file system leaves them in the folder of what has changed: one inode for all of them."""
    os.makedirs(base + b"/diff/opaque")
    os.setxattr(base + b"/diff/opaque", b"user.overlay.opaque", b"y")
    os.mknod(base + b"/diff/gone", 0o020000, os.makedev(0, 0))
    os.link(base + b"/diff/gone", base + b"/diff/opaque/gone too")
    os.mknod(base + b"/another", 0o020644, os.makedev(0, 0))
    os.chown(base + b"/another", 1234, 4321)
    os.utime(base + b"/another", ns=(0, 1_500_000_000_123_456_789))
    write(base + b"/diff/by attribute", b"")
    os.setxattr(base + b"/diff", b"user.overlay.opaque", b"x")
    os.setxattr(base + b"/diff/by attribute", b"user.overlay.whiteout", b"y")


_WHOLE = PlanLimits()
_ALLOWING = replace(TINY, allow_devices=True)

LINKS = (
    Case("hard links, names side by side", ("names", "groups", "content"), _links_within),
    Case("hard links, names far apart", ("names", "groups", "content"), _links_across),
    Case("hard links to large files", ("names", "groups", "content"), _links_to_large),
    Case("hard links to symbolic links", ("names", "groups"), _links_to_links),
    Case("hard links to FIFOs", ("names", "groups"), _links_to_pipes),
    Case("symbolic links, relative", ("names", "target"), _symlinks),
    Case("symbolic links, dangling", ("names", "target"), _dangling),
    Case("symbolic links, absolute", ("names", "target"), _absolute),
    Case("symbolic links of up to 4,095 bytes", ("names", "target"), _long_links),
    Case("symbolic links to any bytes", ("names", "target"), _odd_targets),
)
KINDS = (
    Case("holes of files of 24 MiB and more", ("names", "content", "holes"), _large_sparse, limits=_WHOLE),
    Case("holes of smaller files", ("names", "content", "holes"), _small_sparse, limits=_WHOLE),
    Case(
        "zeros of smaller files that take their space",
        ("names", "content", "holes"),
        _zeros,
        NO,
        lost="holes",
        limits=_WHOLE,
    ),
    Case("empty and nested folders", ("names", "content"), _folders),
    Case("FIFOs", ("names", "owner", "mode"), _pipes),
    Case("sockets", ("names",), _socket, COUNTED, {"sockets": 2}, ("socket", "socket too")),
    Case("devices", ("names", "device"), _devices, COUNTED, {"devices": 3}, ("null", "null too", "disk")),
    Case("overlay whiteouts, opaque folders", ("names", "device", "user xattrs"), _whiteouts),
    Case("devices, where the writer is told to", ("names", "device"), _devices, limits=_ALLOWING),
)
