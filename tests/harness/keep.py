"""What takes long to make is made once, and kept for later sessions in the cache folder, whole or not at all."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.harness.parts import cache_folder


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The file or folder of that name. ``make`` writes it where it is told; of several processes one does."""
    target = cache_folder() / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_name(f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as partial:
                    make(Path(partial) / name)
                    (Path(partial) / name).rename(target)
    return target


def forget_all_but(newest: int, pattern: str) -> None:
    """Remove what a newer one of its kind has replaced."""
    found = [path for path in cache_folder().glob(pattern) if path.suffix != ".lock"]
    for old in sorted(found, key=lambda path: path.stat().st_mtime)[: max(0, len(found) - newest)]:
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
