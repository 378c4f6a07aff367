"""Something done at the moment at which another process reads a file."""

from __future__ import annotations

import ctypes
import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_IN_ACCESS = 1


@contextmanager
def at_its_first_read(file: Path, do: Callable[[], object]) -> Iterator[threading.Event]:
    """Within the block ``do`` is called, once, when somebody has read from ``file``; then the event is set.

    The kernel tells of a read behind it and waits for nobody, so the file must be long to be changed under its reader.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC)
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(file), _IN_ACCESS) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    ends, wake = os.pipe2(os.O_CLOEXEC)
    done = threading.Event()

    def wait() -> None:
        if watch in select.select([watch, ends], [], [])[0]:
            do()
            done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield done
    finally:
        os.close(wake)
        thread.join()
        os.close(ends)
        os.close(watch)
