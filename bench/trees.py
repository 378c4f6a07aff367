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

from bench import homes

_CACHE = "STORAGE_BENCH_CACHE"
_FOLDER = "codehub-storage-bench"


@dataclass(frozen=True)
class Tree:
    """``make`` fills an empty folder; ``version`` grows whenever it makes another tree than before."""

    version: int
    make: Callable[[Path], None]


TREES: Mapping[str, Tree] = {
    "home": Tree(2, lambda folder: asyncio.run(homes.make_developer(folder))),
    "small": Tree(1, homes.make_small),
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
