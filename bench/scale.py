"""`python -m bench.scale`: how the figures change with size and number, a JSON line for each; sources are in memory.

`million`: one home of a million files. `sparse`: one of 50 GB, most of it a hole, beside one of 5 GB. `growth`: the
same files 1, 10 and 100 times. `crowd`: 200 small workspaces at once through one worker, alone and behind a large one,
beside a shell loop that does as many at a time.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.contenders import Ours
from bench.crowd import run_crowd
from bench.figures import Result
from bench.homes import size_of
from bench.rounds import run_rounds
from bench.shapes import text_of
from bench.store import new_place, scratch_folder, store_server

_MILLION, _BY_FOLDER = 1_000_000, 1000
_GROWTH_FILES, _GROWTH_BYTES = 1000, 25_000
_SPARSE_BYTES, _ISLAND_BYTES = 50_000_000_000, 1 << 20
_WORKSPACES = 200


def make_million(folder: Path, count: int) -> None:
    """Files of about 100 bytes, a thousand to a folder."""
    for number in range(count):
        here = folder / f"folder-{number // _BY_FOLDER:04}"
        if number % _BY_FOLDER == 0:
            here.mkdir()
        (here / f"file-{number:07}.txt").write_bytes(b"%07d " % number * 12)


def make_growing(folder: Path, times: int) -> None:
    """1,000 files of 25 kB of text for each of ``times``, no two alike."""
    source = random.Random(times)
    for batch in range(times):
        here = folder / f"part-{batch:03}"
        here.mkdir()
        text = text_of(source, 1 << 20)
        for number in range(_GROWTH_FILES):
            start = source.randrange(len(text) - _GROWTH_BYTES)
            (here / f"file-{number:04}").write_bytes(text[start : start + _GROWTH_BYTES])


def make_sparse(folder: Path, size: int) -> None:
    """One file, of which a fiftieth is text and the rest holes."""
    text = text_of(random.Random(6), _ISLAND_BYTES)
    with (folder / "sparse").open("wb") as file:
        for start in range(0, size - _ISLAND_BYTES, 50 * _ISLAND_BYTES):
            file.seek(start)
            file.write(text)
        file.truncate(size)


def run_million(divide: int) -> Iterator[dict[str, object]]:
    """Seconds of the plan, and of each operation."""
    yield from _ours("million", lambda folder: make_million(folder, _MILLION // divide))


def run_sparse(divide: int) -> Iterator[dict[str, object]]:
    """Memory is to be the same for both."""
    for size in (_SPARSE_BYTES // 10 // divide, _SPARSE_BYTES // divide):
        yield from _ours(f"sparse-{size / 1e9:g}GB", lambda folder, size=size: make_sparse(folder, size))  # type: ignore[misc]


def run_growth(divide: int) -> Iterator[dict[str, object]]:
    """Seconds by GB."""
    for times in (1, 10, 100):
        count = max(1, times // divide)
        yield from _ours(f"growth-{times}", lambda folder, count=count: make_growing(folder, count))  # type: ignore[misc]


PARTS = ("million", "sparse", "growth", "crowd")
_OF_ONE = {"million": run_million, "sparse": run_sparse, "growth": run_growth}


def _ours(name: str, make: Callable[[Path], None]) -> Iterator[dict[str, object]]:
    with scratch_folder() as folder, scratch_folder() as data, store_server(data) as server:
        make(folder)
        entries, total = size_of(folder)
        for result in run_rounds(partial(new_place, server), name, folder, [Ours()], [0]):
            yield told(result, entries, total)


def told(result: Result, entries: int, total: int) -> dict[str, object]:
    """A result with the size of its tree, and what a gigabyte took of CPU seconds."""
    return {
        "tree": result.tree,
        "operation": result.operation,
        "entries": entries,
        "gigabytes": round(total / 1e9, 3),
        "wall_seconds": result.wall_seconds,
        "cpu_seconds": result.cpu_seconds,
        "cpu_seconds_by_gigabyte": round(result.cpu_seconds / total * 1e9, 2),
        "pss_mib": result.pss_bytes >> 20,
        "stored_megabytes": round(result.stored_bytes / 1e6, 1),
        "phases": dict(result.phases),
    }


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="may be given several times")
    parser.add_argument("--divide", type=int, default=1, help="everything that much smaller, to try it")
    options = parser.parse_args()
    for name in options.only or PARTS:
        if name == "crowd":
            run_crowd(max(2, _WORKSPACES // options.divide), _tell)
            continue
        for found in _OF_ONE[name](options.divide):
            _tell(found)
    return 0


def _tell(found: dict[str, object]) -> None:
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    sys.exit(main())
