"""One target, with mutations of its seeds, until the time is up. Started by `python -m tests.fuzz`."""

from __future__ import annotations

import faulthandler
import sys
import time
from pathlib import Path

from tests.fuzz.ground import Ground
from tests.fuzz.running import run
from tests.fuzz.targets import TARGETS

LONGEST_S = 120
"""A single example that takes longer hangs."""


def main(target: str, seconds: int, folder: Path) -> None:
    """Batches of examples; the one that breaks a promise is the last in the folder, as small as could be made."""
    Ground.parent = folder
    ends = time.monotonic() + seconds

    def work(data: bytes) -> None:
        (folder / "current").write_bytes(data)
        faulthandler.dump_traceback_later(LONGEST_S, exit=True)
        TARGETS[target](data)

    while time.monotonic() < ends:
        run(target, 200, work)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
