"""Tie a child to the life of its parent: run as a program, it becomes the command that follows.

A server that outlives the session or the tests that started it keeps its ports and its data directory busy. The kernel
ends a tied child with SIGKILL when the parent is gone, however it ended. The tie is to the parent's *thread*: start
children from one that lives as long as they shall (the main thread, or an executor's).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def tied(command: Sequence[str]) -> list[str]:
    """The command that runs ``command`` under the same pid, tied to this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """``tied.py PARENT COMMAND...``"""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the tie was made
        sys.exit("the parent is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
