"""The judge: a copy made by rsync before, and compared by rsync after. Only what rsync does not see is compared here:
links that are too many, and holes."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from examples.demo.commands import run_command
from worker.cli.format import size

_KEEP_ALL = ("-aHAX", "--numeric-ids", "--modify-window=-1")
"""Everything, times to the nanosecond: by default rsync takes two times of one second for the same."""
_COMPARE = ("--dry-run", "--checksum", "--delete", "--itemize-changes")
_KINDS = {stat.S_IFREG: "files", stat.S_IFDIR: "folders", stat.S_IFLNK: "symlinks", stat.S_IFIFO: "FIFOs"}
_BLOCK = 512
_HOLED, _SLACK = 16, 4096
"""A file counts as one with holes if it is so many times larger than what it takes on disk."""


@dataclass(frozen=True)
class Inventory:
    """What a tree holds. ``links``: the sets of names of one file. ``holed``: files with holes."""

    counts: Counter[str]
    links: frozenset[frozenset[str]]
    holed: frozenset[str]

    def __str__(self) -> str:
        kinds = (*_KINDS.values(), "further hard links", "attributes")
        return f"{size(self.counts['bytes'])}: " + ", ".join(f"{self.counts[kind]:,} {kind}" for kind in kinds)


async def copy(tree: Path, reference: Path) -> None:
    """Make the reference; holes included, so that it is no larger."""
    await run_command(["rsync", *_KEEP_ALL, "--sparse", f"{tree}/", f"{reference}/"])


async def differences(reference: Path, tree: Path) -> list[str]:
    """What rsync would have to change; nothing if the trees are equal."""
    return (await run_command(["rsync", *_KEEP_ALL, *_COMPARE, f"{reference}/", f"{tree}/"])).splitlines()


def judge(differing: list[str], before: Inventory, after: Inventory) -> list[str]:
    """All differences: those that rsync found, and those that it does not look for."""
    links = [f"hard links differ: {sorted(each)!r}" for each in before.links ^ after.links]
    return [*differing, *links, *(f"holes differ: {each!r}" for each in before.holed ^ after.holed)]


async def inventory(tree: Path) -> Inventory:
    """Walk the tree."""
    return await asyncio.to_thread(_inventory, tree)


def remove(tree: Path) -> None:
    """A tree with all below it, also directories that we made unwritable to ourselves."""
    for parent, folders, _ in os.walk(tree):
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(tree)


def _inventory(root: Path) -> Inventory:
    counts: Counter[str] = Counter()
    names: dict[int, set[str]] = defaultdict(set)
    holed = set()
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        relative = str(path.relative_to(root))
        counts["entries"] += 1
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            names[status.st_ino].add(relative)
            if len(names[status.st_ino]) > 1:
                counts["further hard links"] += 1
                continue
        counts[_KINDS[stat.S_IFMT(status.st_mode)]] += 1
        counts["attributes"] += len(os.listxattr(path, follow_symlinks=False))
        if stat.S_ISREG(status.st_mode):
            counts["bytes"] += status.st_size
            if status.st_size > _HOLED * (status.st_blocks * _BLOCK + _SLACK):
                holed.add(relative)
    return Inventory(counts, frozenset(map(frozenset, names.values())), frozenset(holed))
