"""`python -m bench.starting`: how long `codehub-storage dev` takes from the command to its ready line.

The first start on an empty folder, then warm ones, each ended in order before the next. The folder is in memory.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import Spread
from bench.store import scratch_folder


def main() -> int:
    """Tell each start, end with one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.starting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="warm starts")
    rounds = parser.parse_args().rounds
    with scratch_folder() as folder:
        first, *warm = [_start(folder / "stack") for _ in range(rounds + 1)]
    told = Spread.of(warm)
    print(
        json.dumps(
            {"first": first, "warm_median": round(told.median, 2), "warm_least": told.low, "warm_most": told.high}
        )
    )
    return 0


def _start(data_dir: Path) -> float:
    """Seconds until it is ready; it is ended again."""
    began = time.monotonic()
    command = [sys.executable, "-m", "worker.cli.main", "dev", "--data-dir", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stack:
        assert stack.stdout is not None
        try:
            said = stack.stdout.readline()
            took = round(time.monotonic() - began, 2)
        finally:
            stack.send_signal(signal.SIGTERM)
    if not said.startswith("ready:"):
        raise SystemExit(f"dev is not ready: {said or 'see above'}")
    print(f"ready after {took:.2f} s", flush=True)
    return took


if __name__ == "__main__":
    sys.exit(main())
