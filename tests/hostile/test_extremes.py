"""Volumes of extreme shape: a thousand folders deep, a million names in one folder, on tmpfs where there is one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.dataplane.confine import Wall
from activities.dataplane.restore import ArchiveRestore, restore_archive
from activities.dataplane.walk import content_fingerprint, walk
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import make_archive

REPOSITORY = Path(__file__).parents[2]
MANY = 1_000_000 if os.environ.get("STORAGE_TESTS_N") else 150_000
"""A million takes half a minute and is for `make faults`; in the suite as many as show that memory is in proportion."""
MIB = 1 << 20


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, and removed by a program that copes with any depth."""
    made = Path(tempfile.mkdtemp(prefix="extreme-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        yield made
    finally:
        subprocess.run(["rm", "-rf", made], check=True)


async def test_a_thousand_folders_deep(folder: Path) -> None:
    """A file and a link at each level, 12 KiB of path at the last: walked, archived, restored, the same."""
    source, target, spool = folder / "source", folder / "target", folder / "spool"
    for each in (source, target, spool):
        each.mkdir()
    at = os.open(source, os.O_RDONLY)
    for _ in range(1000):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at))
        os.symlink("file", "link", dir_fd=at)
        os.mkdir("deep-folder", dir_fd=at)
        inner = os.open("deep-folder", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    assert sum(1 for _ in walk(source, xattrs=True)) == 3001
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(source, store, spool=spool)
    await restore_archive(ArchiveRestore(target, store, made.manifest, wall=Wall.REQUIRED))
    assert await content_fingerprint(target) == await content_fingerprint(source)


COUNT = """
import resource, sys
from activities.dataplane.walk import walk
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in walk(sys.argv[1], xattrs=True))
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_a_million_names_in_one_folder(folder: Path) -> None:
    """The walk holds their names and nothing else of them: at most 160 bytes for each."""
    here = os.open(folder, os.O_RDONLY)
    for number in range(MANY):
        os.mknod(f"an ordinary name {number}", stat.S_IFREG | 0o644, dir_fd=here)
    os.close(here)
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "client")])
    command = [sys.executable, "-c", COUNT, str(folder)]
    said = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True)
    count, grown = map(int, said.stdout.split())
    assert count == 1 + MANY
    assert grown < 4 * MIB + 160 * MANY
