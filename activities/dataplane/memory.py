"""The heap of a mover stays as small as what is in it.

glibc learns from the first large block that is freed to keep such blocks on its heaps, where small ones that live on
pin them: 70 MiB more than was in use, measured on incompressible data. With a fixed threshold large blocks are mapped
and go back at once.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_BYTES = 64 << 10
_TRIM_BYTES = 128 << 10


def bound_heap() -> None:
    """Call it once, when a process that moves data starts. Without glibc there is nothing to do."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
