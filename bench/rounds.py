"""Contenders in turn, several rounds on one server: what disturbs the machine for a while disturbs all of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from bench.contenders import Contender, Turn, phases_of
from bench.counting import RequestCounter
from bench.figures import Result
from bench.homes import size_of
from bench.measure import Measured
from bench.store import Place, new_place, scratch_folder, stored
from tests.harness.s3server import S3Server


class NotEqual(Exception):
    """What was restored is not what was archived."""


Stage = Callable[[], AbstractContextManager[Place]]
"""Makes a bucket for one turn."""


def run_rounds(
    stage: Stage,
    name: str,
    tree: Path,
    contenders: Sequence[Contender],
    numbers: Iterable[int],
    *,
    has_time: Callable[[float], bool] = lambda seconds: True,
) -> Iterator[Result]:
    """Each result of the rounds of these numbers as it comes. Every round begins with another contender.

    ``has_time``: asked with the seconds that the longest round has taken so far, ends the rounds when it says no.
    Raises ``CommandFailed``, ``NotEqual``.
    """
    size, longest = size_of(tree), 0.0
    _warm(tree)
    for number in numbers:
        began = time.monotonic()
        if not contenders or not has_time(longest):
            return
        start = number % len(contenders)
        for contender in [*contenders[start:], *contenders[:start]]:
            with _turn(stage, tree, contender, size) as turn:
                yield from _operations(turn, contender, name, number)
        longest = max(longest, time.monotonic() - began)


def count_requests(server: S3Server, tree: Path, contenders: Sequence[Contender]) -> dict[str, dict[str, int]]:
    """Requests of each contender by operation, in a round that is not timed."""
    counts: dict[str, dict[str, int]] = {}
    size = size_of(tree)
    for contender in contenders:
        with (
            RequestCounter(server.ports[0]) as counter,
            _turn(partial(new_place, server, counter.url), tree, contender, size) as turn,
        ):
            for operation, step in contender.steps(turn).items():
                step.prepare()
                before = counter.methods.total()
                step.measure()
                counts.setdefault(contender.name, {})[operation] = counter.methods.total() - before
    return counts


@contextmanager
def _turn(stage: Stage, tree: Path, contender: Contender, size: tuple[int, int]) -> Iterator[Turn]:
    """Prepared; what was restored within the block is looked at behind it."""
    with scratch_folder() as scratch, stage() as place:
        turn = Turn(tree, scratch / "target", place, scratch / "own")
        turn.target.mkdir()
        turn.scratch.mkdir()
        contender.prepare(turn)
        yield turn
        found = size_of(turn.target)
        if found not in (size, (0, 0)):
            raise NotEqual(f"{contender.name} restored {found} entries and bytes of {size}")


def _operations(turn: Turn, contender: Contender, name: str, number: int) -> Iterator[Result]:
    for operation, step in contender.steps(turn).items():
        step.prepare()
        os.sync()  # nobody pays for another's writes
        result = result_of(step.measure(), turn.place, name, contender.name, operation, number)
        tell(result)
        yield result


def result_of(measured: Measured, place: Place, tree: str, contender: str, operation: str, number: int) -> Result:
    """What was measured, with what the place holds by now."""
    objects, stored_bytes = stored(place)
    return Result(
        tree=tree,
        contender=contender,
        operation=operation,
        round=number,
        wall_seconds=round(measured.wall_seconds, 3),
        cpu_seconds=round(measured.cpu_seconds, 3),
        pss_bytes=measured.pss_bytes,
        stored_bytes=stored_bytes,
        objects=objects,
        phases=phases_of(measured.said),
    )


def tell(result: Result) -> None:
    """A line for whoever watches."""
    print(
        f"{result.tree} round {result.round + 1} {result.contender:13} {result.operation:8}"
        f" wall {result.wall_seconds:7.2f} s  cpu {result.cpu_seconds:7.2f} s  pss {result.pss_bytes >> 20:4} MiB"
        f"  stored {result.stored_bytes / 1e6:8.1f} MB  {_shown(result.phases)}",
        file=sys.stderr,
        flush=True,
    )


def _shown(phases: Mapping[str, float]) -> str:
    return " ".join(f"{name}={seconds:.2f}" for name, seconds in phases.items())


def _warm(tree: Path) -> None:
    """Read every byte once, so that the first contender finds what the others find."""
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    while file.read(1 << 20):
                        pass
