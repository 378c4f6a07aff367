"""A disk that fails: an ext4 on a loop device whose image ends where chosen bytes begin. Reading them is a real EIO."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IMAGE_BYTES = 64 << 20


@contextmanager
def failing_disk(folder: Path, tree: Path, where: bytes) -> Iterator[Path]:
    """The root of a read-only copy of ``tree`` that cannot be read from the block on in which ``where`` stands.

    What was written before lies before, more or less. Needs root; ``folder`` takes the image.
    """
    image, root = folder / "disk.img", folder / "disk"
    with image.open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "^has_journal,^inline_data", "-d", tree, image)
    at = image.read_bytes().index(where) // 1024 * 1024
    root.mkdir()
    device = _run("losetup", "--find", "--show", image).strip()
    try:
        # Only now: the file system would not be mounted on a device that is shorter than it.
        with image.open("r+b") as file:
            file.truncate(at)
        _run("mount", "-o", "ro", device, root)
        try:
            yield root
        finally:
            _run("umount", root)
    finally:
        _run("losetup", "--detach", device)


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
