"""Mover entries for tests: what a mover does all day, without Temporal."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

from activities.backends.base import MoverSpec


def idle(spec: MoverSpec, folder: str, lock_fd: int) -> None:
    """Serve until SIGTERM, then hand back the work (status 0)."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    _say(spec, "ready")
    stopped.wait()
    _say(spec, "handed-back")


def with_tar(spec: MoverSpec, folder: str, lock_fd: int) -> None:
    """A mover with a child that holds the lock; deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"], cwd=folder, pass_fds=(lock_fd,))
    _say(spec, f"tar {child.pid}")
    child.wait()


def fails(spec: MoverSpec, folder: str, lock_fd: int) -> None:
    """A mover that dies of an error at once."""
    print("about to fail", flush=True)
    raise RuntimeError("no such luck")


def reports(spec: MoverSpec, folder: str, lock_fd: int) -> None:
    """Says what surroundings it found, then serves."""
    _say(spec, "\n".join([os.getcwd(), os.environ.get("TEST_MARK", ""), str(os.getsid(0) == os.getpid())]))
    signal.pause()


def _say(spec: MoverSpec, word: str) -> None:
    path = Path(spec.environment["TEST_OUT"])
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{os.getpid()}\n{word}\n")
    fresh.rename(path)
