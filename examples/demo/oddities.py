"""What breaks backup tools: strange names, links, holes, attributes, rights and times. Most are rows of
docs/fidelity.md."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from examples.demo.reference import remove
from tests.fidelity.case import YES
from tests.fidelity.cases import CASES
from tests.harness.archives import TINY

_MIB = 1 << 20
_RANDOM_MIB = 48


def make_oddities(folder: Path) -> dict[str, str]:
    """Make them in a new directory. What the kernel or the file system did not let us make, and why. Blocks."""
    folder.mkdir()
    refused = {}
    for what, make in _makers().items():
        here = folder / what
        here.mkdir()
        try:
            make(os.fsencode(here))
            _check_readable(here)
        except (OSError, subprocess.CalledProcessError) as error:
            remove(here)
            refused[what] = str(error)
    return refused


def _makers() -> dict[str, Callable[[bytes], None]]:
    """The rows that need no settings of their own, that come back whole, and that rsync can open; and large files."""
    rows = [
        case
        for case in CASES
        if case.ours == YES and case.limits is TINY and "device" not in case.aspects and not case.beyond_path_max
    ]
    return {case.title: case.make for case in rows} | {"large files": _large_files}


def _large_files(base: bytes) -> None:
    """One that cannot be compressed, and one with holes."""
    with open(base + b"/random", "wb") as file:
        source = random.Random(1)
        for _ in range(_RANDOM_MIB):
            file.write(source.randbytes(_MIB))
    with open(base + b"/sparse", "wb") as file:
        for offset in (0, 100 * _MIB, 299 * _MIB):
            file.seek(offset)
            file.write(b"data between holes\n" * 500)
        file.truncate(300 * _MIB)


def _check_readable(folder: Path) -> None:
    """Root reads everything; who is not root may not read all that he can make."""
    for parent, folders, others in os.walk(folder, onerror=_fail):
        for name in (*folders, *others):
            path = os.path.join(parent, name)
            if not os.path.islink(path) and not os.access(path, os.R_OK):
                raise PermissionError(f"only root can read {name!r}")


def _fail(error: OSError) -> None:
    raise error
