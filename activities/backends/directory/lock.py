"""The exclusive lock of a workspace: held by the process that changes its directory or trash, and by its mover.

It is a flock on an open file description. A mover inherits the description and hands it to its children. So the lock is
free only when the last of them is gone, however it ended: the kernel sees to that. The file names the holder. That text
is written by the holder after it has the lock and means nothing while the lock is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from activities.runtime.linux import processes

STARTING_MOVER = "attach"
"""What a holder does that is about to hand its lock to a mover."""
MOVER = "mover"
_SIGNED_BYTES = 1024


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, and for what. A mover is the leader of its session; its children are that session."""

    pid: int
    started: int
    scope: str
    doing: str
    run_id: str | None = None
    queue: str | None = None
    volume_uid: str | None = None

    @classmethod
    def me(cls, doing: str, **what: str) -> Holder:
        """This process."""
        process = processes.look(os.getpid())
        assert process is not None
        return cls(process.pid, process.started, processes.scope(), doing, **what)

    @property
    def is_mover(self) -> bool:
        """True for a mover, False for a method of a backend."""
        return self.doing == MOVER

    @property
    def label(self) -> str:
        """As people read it."""
        return f"pid {self.pid} ({self.doing}{f' of run {self.run_id}' if self.run_id else ''})"

    def is_alive(self) -> bool:
        """True if the process runs, as far as it can be seen from here."""
        process = processes.look(self.pid) if self.scope == processes.scope() else None
        return process is not None and process.started == self.started

    def kill(self, lock: Path) -> None:
        """Kill this mover with its children. Does nothing to a method, or to what runs on another machine."""
        if self.is_mover and self.scope == processes.scope():
            processes.kill_session(self.pid, self.started, lock)


class Lock:
    """A lock that is held. Let go by ``release``, or by the end of the last process that has the description."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def sign(self, holder: Holder) -> None:
        """Write who holds it. In place, so that it works on a full disk, too; if it does not, no holder is named."""
        with contextlib.suppress(OSError):
            os.pwrite(self.fd, json.dumps(asdict(holder)).encode().ljust(_SIGNED_BYTES), 0)

    def release(self) -> None:
        """Let go of our descriptor; a mover that inherited it keeps the lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def try_lock(path: Path) -> Lock | None:
    """The lock, or ``None`` if another process has it. ``FileNotFoundError`` where the place is not mounted."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return Lock(fd)


def read_holder(path: Path) -> Holder | None:
    """The holder that signed the lock last; ``None`` if none did, or one is just doing so."""
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def is_free(path: Path) -> bool:
    """True if no process has the lock at this moment."""
    lock = try_lock(path)
    if lock is None:
        return False
    lock.release()
    return True
