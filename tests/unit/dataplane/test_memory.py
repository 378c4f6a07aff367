"""The heap gives back what is freed."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from activities.dataplane.memory import bound_heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

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


def test_freed_blocks_go_back() -> None:
    """200 MiB of blocks with small ones between them, which glibc would keep by itself."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10
