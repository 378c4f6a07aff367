"""Rows on names and lengths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from activities.dataplane.plan import MIB, PlanLimits
from tests.fidelity.case import Case, write

_LEVEL = b"l" * 250
_LEVELS = 20
_PATTERN = bytes(range(256)) * 256
CUTS = (PlanLimits().segment_bytes * 3 // 4, PlanLimits().segment_bytes, 24 * MIB, 32 * MIB)
"""From the first size on our archive keeps a file apart, beyond the second it cuts it. The title names the others."""


def _bytes(base: bytes) -> None:
    """Every byte that a name may hold, and some names that are no UTF-8 or look like others that are."""
    every = bytes(byte for byte in range(1, 256) if byte not in b"/")
    for at in range(0, len(every), 11):
        write(base + b"/" + every[at : at + 11], every[at : at + 11])
    for name in (
        b"\x80",
        b"\xff\xfe not utf-8",
        "composed \u00e9".encode(),
        "decomposed e\u0301".encode(),
        b"...",
        b".hidden",
    ):
        write(base + b"/" + name, name)
    os.mkdir(base + b"/\xff folder")
    write(base + b"/\xff folder/\xfe", b"inside")


def _newlines(base: bytes) -> None:
    for name in (b"new\nline", b"\n", b"end\n", b"\nstart", b"\r\n", b"back\\nslash", b"tab\there", b"\x1b[2J"):
        write(base + b"/" + name, name)
    os.mkdir(base + b"/folder\n")
    write(base + b"/folder\n/file\n")
    os.symlink(b"new\nline", base + b"/link\n")


def _options(base: bytes) -> None:
    for name in (b"-rf", b"--help", b"--checkpoint=1", b"--checkpoint-action=exec=false", b"-", b"--", b"@file", b"~"):
        write(base + b"/" + name, name)
    for name in (b" ", b" both sides ", b"*?[a-z]{a,b}", b"$HOME`id`", b"quote'and\"quote", b"a=b%3D", b"C:file"):
        write(base + b"/" + name, name)


def _long_names(base: bytes) -> None:
    for length in (99, 100, 101, 155, 156, 254, 255):
        write(base + b"/" + b"n" * length, b"%d" % length)
    os.mkdir(base + b"/" + b"f" * 255)
    write(base + b"/" + b"f" * 255 + b"/" + b"n" * 255)
    write(base + b"/" + ("\u00e9" * 127).encode())


def _long_paths(base: bytes) -> None:
    """To just below PATH_MAX, as counted from the top of the tree by those who name it whole."""
    folder = base
    for _ in range(3):
        folder += b"/" + b"d" * 250
        os.mkdir(folder)
        write(folder + b"/file")
        os.symlink(b"file", folder + b"/link")


def _beyond_path_max(base: bytes) -> None:
    with _deep(base) as folder:
        for name, size in ((b"empty", 0), (b"small", 100), (b"large", 50_000)):
            fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=folder)
            os.write(fd, (_PATTERN * 2)[:size])
            os.setxattr(fd, b"user.x", b"1")
            os.close(fd)
            os.utime(name, ns=(0, 1_500_000_000_000_000_007), dir_fd=folder)
        os.symlink(b"small", b"link", dir_fd=folder)
        os.link(b"small", b"small too", src_dir_fd=folder, dst_dir_fd=folder)
        os.mkfifo(b"pipe", dir_fd=folder)
        os.mkdir(b"empty folder", 0o500, dir_fd=folder)


@contextmanager
def _deep(base: bytes) -> Iterator[int]:
    """A folder at a path of 5,020 bytes, open."""
    at = os.open(base, os.O_RDONLY)
    for _ in range(_LEVELS):
        os.mkdir(_LEVEL, dir_fd=at)
        inner = os.open(_LEVEL, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    yield at
    os.close(at)


def _tiny_files(base: bytes) -> None:
    write(base + b"/empty", b"")
    write(base + b"/one", b"1")
    write(base + b"/one zero", b"\0")


def sizes_around(base: bytes, *sizes: int) -> None:
    """For each size a file of it, one with a byte less and one with a byte more."""
    for size in sizes:
        for length in (size - 1, size, size + 1):
            with open(base + b"/%d" % length, "wb") as file:
                file.write(b"%d" % length)
                while (left := length - file.tell()) > 0:
                    file.write(_PATTERN[:left])


def _cut_sizes(base: bytes) -> None:
    sizes_around(base, *CUTS)


NAMES = (
    Case("names of any bytes", ("names", "content"), _bytes),
    Case("names with newlines and other controls", ("names", "content"), _newlines),
    Case("names that look like options or patterns", ("names", "content"), _options),
    Case("names of 255 bytes", ("names", "content"), _long_names),
    Case("paths of up to 1,000 bytes", ("names", "content"), _long_paths),
    Case(
        "paths longer than PATH_MAX",
        ("names", "content", "mode", "mtime", "groups", "target", "user xattrs"),
        _beyond_path_max,
        beyond_path_max=True,
    ),
    Case("files of 0 and 1 bytes", ("names", "content"), _tiny_files),
    Case(
        "files of 24 and 32 MiB, a byte less, a byte more",
        ("names", "content"),
        _cut_sizes,
        limits=PlanLimits(),
    ),
)
