"""Files of a volume as they are archived: header, data and padding into a member, and a look whether it was as planned.

No link is followed on the way to a file, and no mount crossed. A file is what the plan saw if type, inode, size,
mtime and ctime are equal after its last byte was read: whoever writes to it, or changes any attribute, moves its ctime.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from activities.dataplane.beneath import Beneath
from activities.dataplane.entries import Entry
from activities.dataplane.gzipmember import MemberWriter
from activities.dataplane.large import Cut, Range, holes_within
from activities.dataplane.tarheader import padding_of
from activities.dataplane.tarwrite import build_header
from activities.dataplane.threads import Stop
from activities.dataplane.walk import volume_changed, volume_error

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_STEP_BYTES = 4 << 20
_ZEROS = bytes(1 << 18)


class VolumeReader:
    """Reads files below ``root``. For one thread: folders are kept open and reused.

    Raises ``VolumeChanged`` and ``VolumeUnreadable``, naming the path.
    """

    def __init__(self, root: Path) -> None:
        try:
            self._beneath = Beneath(root)
        except OSError as error:
            raise volume_error(b"", error) from error

    def __enter__(self) -> VolumeReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._beneath.close()

    def write_file(self, entry: Entry, member: MemberWriter) -> None:
        """A whole file."""
        size = entry.size
        with self.opened(entry) as fd:
            member.write(build_header(entry))
            if member.write_from(fd, size, 0) != size:
                raise volume_changed(entry.path, "became shorter while it was read")
        member.write(_ZEROS[: padding_of(size)])

    def write_piece(self, entry: Entry, cut: Cut, holes: list[Range], member: MemberWriter, stop: Stop) -> int:
        """One piece of a large file; answers the bytes of the tar header (0 but in the first piece).

        ``holes`` of the file are written as zeros without being read.
        """
        header = build_header(entry) if cut.offset == 0 else b""
        at, end = cut.offset, cut.offset + cut.length
        with self.opened(entry) as fd:
            member.write(header)
            for start, length in [*holes_within(holes, cut), (end, 0)]:
                _copy(fd, entry, at, start, member, stop)
                _write_zeros(length, member, stop)
                at = start + length
        if end == entry.size:
            member.write(_ZEROS[: padding_of(entry.size)])
        return len(header)

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[int]:
        """A planned file, open for reading; when it is closed, it must still be what was planned."""
        folder, _, name = entry.path.rpartition(b"/")
        try:
            fd = os.open(name, _FLAGS, dir_fd=self._beneath.folder(folder))
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.EXDEV):  # a socket; something mounted
                raise volume_changed(entry.path, "was replaced while it was read") from error
            raise volume_error(entry.path, error) from error
        try:
            yield fd
            _expect(fd, entry)
        except OSError as error:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise volume_changed(entry.path, "is no regular file any more") from error
            raise volume_error(entry.path, error) from error
        finally:
            os.close(fd)


def _expect(fd: int, entry: Entry) -> None:
    now = os.fstat(fd)
    if not (
        now.st_ctime_ns == entry.ctime_ns
        and now.st_ino == entry.inode
        and now.st_size == entry.size
        and now.st_mtime_ns == entry.mtime_ns
        and stat.S_ISREG(now.st_mode)
    ):
        raise volume_changed(entry.path, "changed since it was listed")


def _copy(fd: int, entry: Entry, start: int, end: int, member: MemberWriter, stop: Stop) -> None:
    while start < end:
        stop.check()
        step = min(_STEP_BYTES, end - start)
        if member.write_from(fd, step, start) != step:
            raise volume_changed(entry.path, "became shorter while it was read")
        start += step


def _write_zeros(length: int, member: MemberWriter, stop: Stop) -> None:
    while length:
        stop.check()
        step = min(length, len(_ZEROS))
        member.write(memoryview(_ZEROS)[:step])
        length -= step
