"""`python -m bench`: measure, tell each result as it comes, end with one JSON line of ratios.

Without `--all`: one tree on one store, us against the two fastest peers. With it: every tree and everybody, requests,
the sink with the floors, and the report.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from bench.contenders import SendsOnly
from bench.figures import OURS, SLOW_PEERS, SLOWEST_PEER, WHOLE
from bench.floors import FLOORS
from bench.homes import size_of
from bench.peers import CONTENDERS, able, runnable
from bench.report import RESULTS, write_report
from bench.results import Run
from bench.rounds import count_requests, run_rounds
from bench.sink import sink_process
from bench.store import new_place, scratch_folder, store_server
from bench.trees import TREES, tree
from bench.whole import run_whole
from tests.harness.s3server import S3Server

QUICK = (OURS, WHOLE, "pigz1-rclone", "zstd1-rclone", "restic", SLOWEST_PEER)
_STREAMING = (OURS, "pigz1-rclone", "pigz1-s5cmd", "zstd1-rclone")
"""Who sends without asking the store for what it has, and is not slow: only they are sent into the sink."""
_SMALL_BYTES = 100_000_000
_OFTENER = 5
"""Times as many rounds for a small tree, which takes little and tells of what an operation costs by itself."""


def main() -> int:
    """The exit status."""
    options = _parser().parse_args()
    deadline = time.monotonic() + options.minutes * 60
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # servers and folders go with us
    names = options.tree or (list(TREES) if options.all else ["home"])
    for name in names:
        tree(name)
    run = Run.begin(options.rounds)
    with scratch_folder() as folder, store_server(folder) as server:
        for name in names:
            if options.all:
                _measure_all(run, server, name, options.only or [*CONTENDERS, WHOLE])
            else:
                _measure_quickly(run, server, name, options.only or QUICK, deadline)
    if options.all:
        with scratch_folder() as folder:
            _measure_sink(run, folder, names, options.only or _STREAMING)
        if not options.tree and not options.only:  # a part would take the place of the whole
            run.save(RESULTS)
            write_report(run)
    print(json.dumps(run.headline(names[0])))
    return 0


def _measure_all(run: Run, server: S3Server, name: str, who: Sequence[str]) -> None:
    """The fast ones in turn, the slow ones once, the whole operation, and a round for the requests."""
    fast, slow = ([each for each in who if (each in SLOW_PEERS) == is_slow] for is_slow in (False, True))
    run.sizes[name] = size_of(tree(name))
    rounds = run.rounds * (_OFTENER if run.sizes[name][1] < _SMALL_BYTES else 1)
    stage = partial(new_place, server)
    run.results += run_rounds(stage, name, tree(name), runnable(fast), range(rounds))
    run.results += run_rounds(stage, name, tree(name), runnable(slow), [0])
    if WHOLE in who:
        run.results += run_whole(server, name, tree(name), rounds)
    run.requests[name] = count_requests(server, tree(name), runnable([each for each in who if each != SLOWEST_PEER]))


def _measure_quickly(run: Run, server: S3Server, name: str, who: Sequence[str], deadline: float) -> None:
    """A round of the fast ones, what takes long once, and then the fast ones as often as there is time."""

    def has_time(seconds: float) -> bool:
        return time.monotonic() + seconds < deadline

    run.sizes[name] = size_of(tree(name))
    stage, began = partial(new_place, server), time.monotonic()
    fast = runnable([each for each in who if each != SLOWEST_PEER])
    run.results += run_rounds(stage, name, tree(name), fast, [0])
    took = time.monotonic() - began
    if WHOLE in who:
        run.results += run_whole(server, name, tree(name), 1)
    if SLOWEST_PEER in who and has_time(took):
        slowest = [SendsOnly(each) for each in runnable([SLOWEST_PEER])]
        run.results += run_rounds(stage, name, tree(name), slowest, [0])
    run.results += run_rounds(
        stage, name, tree(name), fast, range(1, run.rounds), has_time=lambda s: has_time(s or took)
    )


def _measure_sink(run: Run, folder: Path, names: Sequence[str], who: Sequence[str]) -> None:
    sending = [SendsOnly(each) for each in runnable([each for each in who if each in _STREAMING])]
    floors = able(FLOORS)
    with sink_process(folder) as place:
        for name in names:
            run.sink += run_rounds(lambda: nullcontext(place), name, tree(name), [*sending, *floors], range(run.rounds))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--all", action="store_true", help="everything; and the report, unless a part is asked for")
    parser.add_argument("--tree", action="append", choices=TREES, help="may be given several times")
    parser.add_argument("--only", action="append", choices=(*CONTENDERS, WHOLE), help="may be given several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no round that would end later, one apart"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
