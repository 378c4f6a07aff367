"""The trees that are measured, each built once into a cache folder: of registry packages and of a seed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import homes, shapes

_CACHE = "STORAGE_BENCH_CACHE"
_FOLDER = "codehub-storage-bench"


@dataclass(frozen=True)
class Tree:
    """``make`` fills an empty folder; ``version`` grows whenever it makes another tree. ``what``: for the report."""

    version: int
    what: str
    make: Callable[[Path], None]


TREES: Mapping[str, Tree] = {
    "home": Tree(2, "a developer's home", lambda folder: asyncio.run(homes.make_developer(folder))),
    "files": Tree(1, "files of 1 to 8 KiB", shapes.make_files),
    "large": Tree(1, "one file, half of it incompressible", shapes.make_large),
    "repetitive": Tree(1, "logs that compress about 20:1", shapes.make_repetitive),
    "small": Tree(1, "a small workspace", homes.make_small),
}


def cache_folder() -> Path:
    """Outside the checkout, so that what takes minutes to make is made once."""
    if named := os.environ.get(_CACHE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / _FOLDER


def tree(name: str) -> Path:
    """The folder of that tree, built first where it is not there. Whoever measures leaves it as it is."""
    folder = cache_folder() / f"{name}-{TREES[name].version}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _build(name, folder)
    return folder


def _build(name: str, folder: Path) -> None:
    """The whole tree, or none."""
    partial = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder.parent))
    try:
        TREES[name].make(partial)
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the kernel lets go of it when that one dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
