"""Contenders in turn, several rounds on one server: what disturbs the machine for a while disturbs all of them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.contenders import Command, Contender, Turn, phases_of
from bench.figures import Result
from bench.homes import size_of
from bench.measure import measure
from bench.store import new_place, scratch_folder, stored
from tests.harness.s3server import S3Server


class NotEqual(Exception):
    """What was restored is not what was archived."""


def run_rounds(
    server: S3Server, name: str, tree: Path, contenders: Sequence[Contender], rounds: int
) -> Iterator[Result]:
    """Each result as it comes. Every round begins with another contender. Raises ``CommandFailed``, ``NotEqual``."""
    size = size_of(tree)
    _warm(tree)
    for number in range(rounds):
        start = number % len(contenders)
        for contender in [*contenders[start:], *contenders[:start]]:
            yield from _take_turn(server, name, tree, size, contender, number)


def _take_turn(
    server: S3Server, name: str, tree: Path, size: tuple[int, int], contender: Contender, number: int
) -> Iterator[Result]:
    with scratch_folder() as scratch, new_place(server) as place:
        target = scratch / "target"
        target.mkdir()
        (scratch / "own").mkdir()
        turn = Turn(tree, target, place, scratch / "own")
        contender.prepare(turn)
        for operation, command in contender.commands(turn).items():
            result = _one(server, turn, command, Result(name, contender.name, operation, number, 0, 0, 0, 0, 0))
            tell(result)
            yield result
        found = size_of(target)
        if found != size:
            raise NotEqual(f"{contender.name} restored {found} entries and bytes of {size}")
        shutil.rmtree(target)


def _one(server: S3Server, turn: Turn, command: Command, blank: Result) -> Result:
    os.sync()  # nobody pays for another's writes
    measured = measure(command.arguments, cwd=command.cwd, environment=command.environment)
    objects, stored_bytes = stored(server, turn.place.bucket)
    return Result(
        tree=blank.tree,
        contender=blank.contender,
        operation=blank.operation,
        round=blank.round,
        wall_seconds=round(measured.wall_seconds, 3),
        cpu_seconds=round(measured.cpu_seconds, 3),
        pss_bytes=measured.pss_bytes,
        stored_bytes=stored_bytes,
        objects=objects,
        phases=phases_of(measured.said),
    )


def tell(result: Result) -> None:
    """A line for whoever watches."""
    phases = " ".join(f"{name}={seconds:.2f}" for name, seconds in result.phases.items())
    print(
        f"{result.tree} round {result.round + 1} {result.contender:13} {result.operation:8}"
        f" wall {result.wall_seconds:7.2f} s  cpu {result.cpu_seconds:7.2f} s  pss {result.pss_bytes >> 20:4} MiB"
        f"  stored {result.stored_bytes / 1e6:8.1f} MB  {phases}",
        file=sys.stderr,
        flush=True,
    )


def _warm(tree: Path) -> None:
    """Read every byte once, so that the first contender finds what the others find."""
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    while file.read(1 << 20):
                        pass
