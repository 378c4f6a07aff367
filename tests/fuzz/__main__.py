"""`python -m tests.fuzz --minutes M`: every target for its share of the time; what breaks a promise becomes a case.

Each target runs in a process of its own, so that one that spins, or takes all memory, ends alone.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import TARGETS

CASES = Path(__file__).parent / "cases"
CURRENT = "current"
"""In a run's folder: the bytes that its target was given last."""


def main() -> int:
    """Run all; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for all targets together")
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help=f"some of: {', '.join(TARGETS)}")
    wanted = parser.parse_args()
    seconds = max(1, round(wanted.minutes * 60 / len(wanted.targets)))
    found = [_run(target, seconds) for target in wanted.targets]
    return int(any(found))


def _run(target: str, seconds: int) -> bool:
    """One target; True if it was broken, and the bytes are kept."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "tests.fuzz.mutating", target, str(seconds), str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace")
        # Python's own removal does not get through every tree that a target may have made.
        subprocess.run(["chmod", "-R", "u+rwx", folder], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", *(each for each in folder.iterdir() if each.is_dir())], check=True)
        print(f"{target}, {seconds} s: {'sound' if ended.returncode == 0 else 'BROKEN'}", flush=True)
        if ended.returncode == 0:
            return False
        print(ended.stdout[-2000:], ended.stderr[-4000:])
        if (folder / CURRENT).exists():
            _keep(target, (folder / CURRENT).read_bytes())
        return True


def _keep(target: str, data: bytes) -> None:
    kept = CASES / target / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    print(f"kept as {kept.relative_to(CASES.parents[2])}: give it a name and commit it with its repair")


if __name__ == "__main__":
    sys.exit(main())
