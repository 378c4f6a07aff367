"""Where fuzzed archives are restored to: one volume beside one canary, used again and again by one process."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from activities.dataplane.archiver import Wall
from tests.harness.canary import Canary


class Ground:
    """A world in memory where there is one; without Landlock, so that what it would hold back shows."""

    WALL = Wall.OFF
    parent: ClassVar[Path | None] = None
    """Where to make it, if somebody says."""
    _mine: ClassVar[tuple[int, Ground] | None] = None

    def __init__(self) -> None:
        memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=self.parent or memory))
        self.canary = Canary(self._folder)

    @classmethod
    def of_process(cls) -> Ground:
        """The one of this process; it goes when the process does."""
        if cls._mine is None or cls._mine[0] != os.getpid():
            cls._mine = (os.getpid(), cls())
            atexit.register(cls._mine[1].remove)
        return cls._mine[1]

    @contextmanager
    def volume(self) -> Iterator[Canary]:
        """An empty volume; ``AssertionError`` if something changed outside it. What is in it goes."""
        yield self.canary
        try:
            assert not self.canary.changes()
            assert not os.listdir(self.canary.spool)
        finally:
            self._clear()

    def _clear(self) -> None:
        volume = self.canary.volume
        volume.chmod(0o700)
        for name in os.listxattr(volume):
            os.removexattr(volume, name)
        try:
            with os.scandir(volume) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        os.unlink(entry.path)
        except (OSError, RecursionError):
            self._begin_anew()

    def _begin_anew(self) -> None:
        """What cannot be cleared, such as a chain of a thousand folders, is left to another program."""
        self.remove()
        self._folder.mkdir()
        self.canary = Canary(self._folder)

    def remove(self) -> None:
        """All of it."""
        subprocess.run(["chmod", "-R", "u+rwx", self._folder], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", self._folder], check=True)
