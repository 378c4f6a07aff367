"""The heap gives back what is freed."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from activities.dataplane.memory import bound_heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "bounded":
    bound_heap()
for size in (1 << 18, 1 << 20, 1 << 22):  # from here on glibc would keep blocks of these sizes
    bytes(size)
before = resident()
kept, blocks = [], []
for _ in range(400):
    blocks.append(b"x" * (1 << 19))
    kept.append(b"y" * 2000)
blocks.clear()
print((resident() - before) >> 20)
"""


@pytest.mark.parametrize("mode", ["bounded", "unbounded"])
def test_freed_blocks_go_back(mode: str) -> None:
    """200 MiB of blocks with small ones between them; without the bound they stay, or this test would show nothing."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    left_mib = int(done.stdout)
    assert left_mib < 10 if mode == "bounded" else left_mib > 50
