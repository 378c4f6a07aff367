"""The judge: a copy made by rsync before, and compared by rsync after. Only what rsync does not see is compared here:
links that are too many, and holes."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from examples.demo.commands import run_command
from worker.cli.format import size

_KEEP_ALL = ("-aHAX", "--numeric-ids", "--modify-window=-1")
"""Everything, times to the nanosecond: by default rsync takes two times of one second for the same."""

_BLOCK = 512
_HOLED, _SLACK = 16, 4096
"""A file counts as one with holes if it is so many times larger than what it takes on disk."""


@dataclass(frozen=True)
class Inventory:
    """What a tree holds. ``links``: the sets of names of one file. ``holed``: files with holes."""

    counts: Counter[str] = field(default_factory=Counter)
    links: frozenset[frozenset[bytes]] = frozenset()
    holed: frozenset[bytes] = frozenset()

    def __str__(self) -> str:
        counts = self.counts
        kinds = ("files", "folders", "symlinks", "FIFOs", "further hard links", "attributes")
        return f"{size(counts['bytes'])}: " + ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds)


async def copy(tree: Path, reference: Path) -> None:
    """Make the reference; holes included, so that it is no larger."""
    await run_command(["rsync", *_KEEP_ALL, "--sparse", f"{tree}/", f"{reference}/"])


async def differences(reference: Path, tree: Path) -> list[str]:
    """What rsync would have to change; nothing if the trees are equal."""
    said = await run_command(
        [
            "rsync",
            *_KEEP_ALL,
            *("--dry-run", "--checksum", "--delete", "--itemize-changes"),
            f"{reference}/",
            f"{tree}/",
        ]
    )
    return said.splitlines()


def judge(differing: list[str], before: Inventory, after: Inventory) -> list[str]:
    """All differences: those that rsync found, and those that it does not look for."""
    links = [f"hard links differ: {sorted(each)!r}" for each in before.links ^ after.links]
    return [*differing, *links, *(f"holes differ: {each!r}" for each in before.holed ^ after.holed)]


async def inventory(tree: Path) -> Inventory:
    """Walk the tree."""
    return await asyncio.to_thread(_inventory, os.fsencode(tree))


def remove(tree: Path) -> None:
    """A tree with all below it, also directories that we made unwritable to ourselves."""
    for parent, folders, _ in os.walk(tree):
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(tree)


def _inventory(root: bytes) -> Inventory:
    counts: Counter[str] = Counter()
    names: dict[int, set[bytes]] = defaultdict(set)
    holed = set()
    for path in _paths(root):
        status = os.lstat(path)
        relative = os.path.relpath(path, root)
        counts["entries"] += 1
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            names[status.st_ino].add(relative)
            if len(names[status.st_ino]) > 1:
                counts["further hard links"] += 1
                continue
        counts[_kind(status.st_mode)] += 1
        counts["attributes"] += len(os.listxattr(path, follow_symlinks=False))
        if stat.S_ISREG(status.st_mode):
            counts["bytes"] += status.st_size
            if status.st_size > _HOLED * (status.st_blocks * _BLOCK + _SLACK):
                holed.add(relative)
    return Inventory(counts, frozenset(map(frozenset, names.values())), frozenset(holed))


def _paths(root: bytes) -> Iterator[bytes]:
    """Every entry once, the root first."""
    yield root
    for parent, folders, others in os.walk(root):
        for name in (*folders, *others):
            yield os.path.join(parent, name)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "files"
    if stat.S_ISDIR(mode):
        return "folders"
    return "symlinks" if stat.S_ISLNK(mode) else "FIFOs"
