"""Layers of an overlay file system as a rootless container engine keeps them in a home, and as the kernel sees them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.trees import IS_ROOT

SEEN = ["d", "d/new", "deep", "deep/stays", "stays"]
"""What the layers of ``make_store`` show together."""
WHITEOUTS = 4
"""How many names there are whiteouts, three of them names of one inode."""


def make_store(store: Path) -> None:
    """A lower layer, and above it the difference of a container that removed names and made a folder anew."""
    lower, diff = store / "lower", store / "diff"
    for folder in (lower / "d", lower / "deep", lower / "gone folder", diff / "d", diff / "deep"):
        folder.mkdir(parents=True)
    for name in ("stays", "gone", "d/old", "deep/stays", "deep/gone", "deep/gone too", "gone folder/file"):
        (lower / name).write_text(name)
    os.mknod(diff / "gone", 0o020000, os.makedev(0, 0))  # the kernel makes one, and further names of it
    os.link(diff / "gone", diff / "deep/gone")
    os.link(diff / "gone", diff / "gone folder")
    os.mknod(diff / "deep/gone too", 0o020000, os.makedev(0, 0))
    if IS_ROOT:
        os.chown(diff / "deep/gone too", 100_999, 100_999)
    os.utime(diff / "deep/gone too", ns=(0, 1_500_000_000_123_456_789))
    (diff / "d/new").write_text("new")
    os.setxattr(diff / "d", "user.overlay.opaque", b"y")
    os.setxattr(diff, "user.overlay.impure", b"y")
    # What is a whiteout by attribute, without a device, in a folder that says so.
    (store / "xdiff").mkdir()
    (store / "xdiff/gone").touch()
    os.setxattr(store / "xdiff", "user.overlay.opaque", b"x")
    os.setxattr(store / "xdiff/gone", "user.overlay.whiteout", b"y")


def seen_together(store: Path) -> list[str]:
    """The names that the kernel shows of the layers, none of which it may write to. Needs root."""
    script = "mount -t overlay overlay -o ro,userxattr,lowerdir=diff:lower lower && cd lower && find . -mindepth 1"
    return sorted(line.removeprefix("./") for line in _unshared(script, store).splitlines())


@contextmanager
def overlaid(folder: Path) -> Iterator[Path]:
    """An empty overlay file system, on which the kernel lets nobody make a whiteout. Needs root."""
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir(parents=True)
    options = ",".join(("userxattr", *(f"{name}dir={folder / name}" for name in ("lower", "upper", "work"))))
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, folder / "merged"], check=True)
    try:
        yield folder / "merged"
    finally:
        subprocess.run(["umount", folder / "merged"], check=True)


def _unshared(script: str, where: Path) -> str:
    """What a script prints whose mounts nobody else sees."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
    return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True).stdout
