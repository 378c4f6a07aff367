"""``python -m tests.pages``: types the quick start on an empty Debian and writes docs/transcript.md.

Nothing is kept from an earlier run, so the times are those of a first use. Needs root and debootstrap.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.harness.baseimage import BaseImageError
from tests.harness.sources import TOP
from tests.pages.machine import USER, Machine
from tests.pages.reading import QUICK_START, follow
from tests.pages.shell import CommandFailed
from tests.pages.transcript import PAGE, TellsTooMuch, Transcript


def main() -> int:
    """Exit status 1: a command failed, and the page is as it was."""
    try:
        with Machine() as machine:
            transcript = Transcript(machine.system, os.cpu_count() or 1)
            with machine.shell() as shell:
                for block, ran in follow(QUICK_START, shell):
                    print(f"{ran.seconds:8.1f} s  {ran.command}", flush=True)
                    transcript.add(block.heading, ran)
                left = machine.processes()
            private = [str(machine.root), str(TOP), str(Path.home()), socket.gethostname()]
            text = _neutral(transcript.text(datetime.now(UTC).date(), private))
    except (BaseImageError, CommandFailed, TellsTooMuch) as error:
        print(error, file=sys.stderr)
        return 1
    if left:
        print("still running:", *left, sep="\n", file=sys.stderr)
        return 1
    PAGE.write_text(text)
    print(f"written: {PAGE.relative_to(TOP)}")
    return 0


def _neutral(text: str) -> str:
    """As it would be elsewhere: the user's home, and the kernel by the first two numbers of its version."""
    release = os.uname().release
    return re.sub(rf"/home/{USER}\b", "~", text).replace(release, ".".join(release.split(".")[:2]))


if __name__ == "__main__":
    sys.exit(main())
