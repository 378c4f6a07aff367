"""The repository's files, for what is built of a copy of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

TOP = Path(__file__).parents[2]


def sources() -> list[Path]:
    """What the repository has, or would have with the next commit; relative to its top."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=TOP, check=True, capture_output=True).stdout
    paths = sorted({Path(os.fsdecode(each)) for each in listed.split(b"\0") if each})
    return [path for path in paths if (TOP / path).is_file()]


def copy_sources(paths: Iterable[Path], target: Path) -> None:
    """Copy these files, with their modes and times."""
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / path, target / path)
