"""The content of a file whose holes nobody noted: what is long nothing but zeros is left out, so it stays a hole.

Archives note the holes of large files alone. Whether a smaller one had a hole there, or zeros that took their space,
is no longer known; left out they read the same, and no file takes more space than it did.
"""

from __future__ import annotations

import os

from activities.dataplane.beneath import write_all
from activities.dataplane.large import MIN_HOLE_BYTES, PAGE

_ZEROS = bytes(MIN_HOLE_BYTES + 2 * PAGE)
_HOLE_STARTS = bytes(MIN_HOLE_BYTES // PAGE)
"""The first bytes of so many blocks."""
_NONE = memoryview(b"")


class HollowFile:
    """Writes a new file from its start to its end. Runs of zeros that fill 64 KiB of whole blocks are left out.

    A run counts from end to end, however the pieces that come are cut.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self._settled = 0  # what is before it is written, or a hole
        self._zeros_from: int | None = None  # from there on all was zeros

    def write(self, data: memoryview) -> None:
        """The next bytes."""
        if self._zeros_from is not None or not _is_dense(data, self._at):
            for start in range(-(self._at % PAGE), len(data), PAGE):
                begin = max(start, 0)
                if data[begin] or not _is_zero(data[begin : start + PAGE]):
                    self._end_zeros(self._at + begin, data)
                elif self._zeros_from is None:
                    self._zeros_from = self._at + begin
        end = self._at + len(data)
        self._settle(end if self._zeros_from is None else self._zeros_from, data)
        self._at = end

    def finish(self) -> None:
        """All has come. The file gets its full length, which a hole at its end would not give it."""
        if self._zeros_from is not None and self._at - _round_up(self._zeros_from) >= MIN_HOLE_BYTES:
            self._settle(_round_up(self._zeros_from), _NONE)
            os.ftruncate(self._fd, self._at)
        else:
            self._settle(self._at, _NONE)

    def _end_zeros(self, end: int, data: memoryview) -> None:
        """At ``end`` stands something else than zeros."""
        if self._zeros_from is not None:
            first, last = _round_up(self._zeros_from), end - end % PAGE
            if last - first >= MIN_HOLE_BYTES:
                self._settle(first, data)
                self._settled = last
            self._zeros_from = None

    def _settle(self, end: int, data: memoryview) -> None:
        """Write up to ``end``: zeros that came before ``data``, then of these."""
        late = min(end, self._at) - self._settled
        if late > 0:
            write_all(self._fd, _ZEROS[:late], self._settled)
        begin = max(self._settled, self._at)
        if end > begin:
            write_all(self._fd, data[begin - self._at : end - self._at], begin)
        self._settled = end


def _is_dense(data: memoryview, at: int) -> bool:
    """True where no hole can begin in ``data``, by the first byte of each block: cheap, and right for most data."""
    starts = bytes(data[-at % PAGE :: PAGE])
    return bool(starts) and starts[-1] != 0 and _HOLE_STARTS not in starts


def _is_zero(block: memoryview) -> bool:
    return bytes(block) == _ZEROS[: len(block)]  # comparing memoryviews is slow


def _round_up(offset: int) -> int:
    return -(-offset // PAGE) * PAGE
