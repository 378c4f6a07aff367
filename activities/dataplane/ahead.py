"""The walk in a process of its own, ahead of the one that takes its entries: a tree of many names needs two cores.

Entries come through a named pipe, packed. The kernel holds the walk back while nobody takes them, and tells either
side when the other is gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from activities.dataplane.entries import Entry
from activities.dataplane.running import Port, Runner
from activities.dataplane.spool import pack_entry, unpack_entry
from activities.dataplane.threads import Stop, Stopped, T, run_blocking, run_together
from activities.dataplane.walk import ChangeDigest, walk

Walked = Iterator[tuple[Entry, bytes]]
"""Entries in archive order, each with its packed form."""

_LENGTH = struct.Struct("<I")
_END = _LENGTH.pack(0)
_PIPE_BYTES, _BUFFER_BYTES = 1 << 20, 1 << 16
"""Of a pipe without privileges the most (pipe-max-size), and much less: a side that fills or empties it all at once
stands still meanwhile, and so does the other."""
_CHECK_EVERY = 256


@dataclass(frozen=True)
class Walker:
    """A process that may read the volume, and where the pipe to it may stand, as long as a walk goes on."""

    runner: Runner
    folder: Path


async def walk_ahead(walker: Walker | None, root: Path, take: Callable[[Walked, Stop], T]) -> tuple[T, str]:
    """What ``take``, in a thread, makes of all entries below ``root``, and their change fingerprint.

    Without a ``walker`` that thread walks, too. Raises what ``walk`` raises, and what ``take`` does.
    """
    if walker is None:
        change = ChangeDigest()
        return await run_blocking(lambda stop: take(_packed(root, change), stop)), change.hexdigest()
    with tempfile.TemporaryDirectory(prefix="walk-", dir=walker.folder) as folder, ExitStack() as ends:
        pipe = os.path.join(folder, "entries")
        os.mkfifo(pipe, 0o600)
        reader = ends.enter_context(_end_of(pipe, "rb"))
        # As long as it is open, a reader waits for the walk to begin; then its closing is what tells that it is over.
        writer = ends.enter_context(_end_of(pipe, "wb"))
        with suppress(OSError):  # many pipes of one user: it keeps its 64 KiB
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        taken: list[T] = []
        changes: list[str] = []

        async def write() -> None:
            try:
                changes.append(await walker.runner.run(_walk_into, str(root.absolute()), pipe))
            finally:
                writer.close()

        async def read() -> None:
            try:
                taken.append(await run_blocking(lambda stop: take(_read(reader), stop)))
            finally:
                reader.close()  # a walk that goes on fails at its next write

        await run_together([write(), read()])
        return taken[0], changes[0]


def _walk_into(port: Port, root: str, pipe: str) -> str:
    """Write all entries, then an end, into the pipe; without the end it was cut off. Their change fingerprint."""
    change = ChangeDigest()
    try:
        with _end_of(pipe, "wb") as out:
            for number, (_, packed) in enumerate(_packed(Path(root), change, chdir=True)):
                if number % _CHECK_EVERY == 0:
                    port.stop.check()
                out.write(_LENGTH.pack(len(packed)) + packed)
            out.write(_END)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.ENXIO):  # nobody reads
            raise Stopped from None
        raise
    return change.hexdigest()


def _packed(root: Path, change: ChangeDigest, *, chdir: bool = False) -> Walked:
    for entry in walk(root, xattrs=True, chdir=chdir):
        change.add(entry)
        yield entry, pack_entry(entry)


def _read(pipe: BinaryIO) -> Walked:
    """``Stopped`` where the walk was cut off; its own error tells why."""
    while (prefix := pipe.read(_LENGTH.size)) != _END:
        length = int.from_bytes(prefix, "little")
        packed = pipe.read(length)
        if len(prefix) < _LENGTH.size or len(packed) < length:
            raise Stopped
        yield unpack_entry(packed), packed


def _end_of(pipe: str, mode: str) -> BinaryIO:
    """One end of the named pipe, opened without waiting for the other: ENXIO where nobody reads what is written."""
    fd = os.open(pipe, (os.O_RDONLY if mode == "rb" else os.O_WRONLY) | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(fd, True)
    return open(fd, mode, buffering=_BUFFER_BYTES)  # type: ignore[return-value]
