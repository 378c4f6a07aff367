"""Volumes of extreme shape: a thousand folders deep, a million names in one folder, on tmpfs where there is one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.dataplane.archiver import Wall, program
from activities.dataplane.restore import ArchiveRestore
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import make_archive, plan_of
from tests.harness.restores import restore_whole

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
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(source, store, spool=spool)
    await restore_whole(ArchiveRestore(target, store, made.manifest, wall=Wall.DEMANDED))
    assert made.plan.summary.entries == 3001
    assert (await plan_of(target)).summary.content_fingerprint == made.plan.summary.content_fingerprint


@pytest.mark.slow
def test_a_million_names_in_one_folder(tmp_path: Path, folder: Path) -> None:
    """The walk holds their names and nothing else of them: at most 160 bytes for each."""
    here = os.open(folder, os.O_RDONLY)
    for number in range(MANY):
        os.mknod(f"an ordinary name {number}", stat.S_IFREG | 0o644, dir_fd=here)
    os.close(here)
    plan = tmp_path / "plan"
    plan.mkdir()
    command = [program(), "plan", "--root", str(folder), "--out", str(plan), "--parent", str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}) as walking:
        assert walking.stdout is not None
        peak = 0
        while walking.poll() is None:  # what wait4 tells counts the memory of whoever started it
            peak = max(peak, peak_of(walking.pid))
            time.sleep(0.002)
        said = walking.stdout.read().splitlines()
    assert walking.returncode == 0
    assert json.loads(said[-1])["plan"]["entries"] == 1 + MANY
    assert 0 < peak < 16 * MIB + 160 * MANY


def peak_of(process: int) -> int:
    """The most bytes of memory that it has had; 0 once it is over."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
