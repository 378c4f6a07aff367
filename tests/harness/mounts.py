"""Mounts of a test's own, unmounted at its end whoever is still in them. All need root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BTRFS_BYTES = 128 << 20


@contextmanager
def mount_point(target: Path) -> Iterator[Path]:
    """A folder on which somebody may mount something."""
    target.mkdir(exist_ok=True)
    try:
        yield target
    finally:
        while subprocess.run(["umount", "--lazy", target], capture_output=True).returncode == 0:
            pass


@contextmanager
def btrfs(folder: Path) -> Iterator[Path]:
    """A file system of which stat tells another device number than the mount table. It takes a loop device."""
    image = folder / "btrfs.img"
    with image.open("wb") as file:
        file.truncate(_BTRFS_BYTES)
    _run("mkfs.btrfs", "--quiet", image)
    with _mounted("--options", "loop", image, folder / "btrfs"):
        yield folder / "btrfs"


@contextmanager
def overlay(folder: Path) -> Iterator[Path]:
    """A file system whose files have device and inode of another one, or look as if."""
    layers = [folder / name for name in ("lower", "upper", "work")]
    for layer in layers:
        layer.mkdir()
    options = ",".join(f"{layer.name}dir={layer}" for layer in layers)
    with _mounted("--types", "overlay", "--options", options, "overlay", folder / "overlay"):
        yield folder / "overlay"


@contextmanager
def sizes(folder: Path) -> Iterator[Path]:
    """A file system that holds names and sizes: what is not written to a file takes no room, and is no hole either."""
    with _mounted("--types", "ramfs", "sizes", folder / "sizes"):
        yield folder / "sizes"


@contextmanager
def _mounted(*command: str | Path) -> Iterator[None]:
    with mount_point(Path(command[-1])) as target:
        _run("mount", *command[:-1], target)
        yield


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
