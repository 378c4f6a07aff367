"""`python -m bench`: measure, tell each result as it comes, end with one JSON line of ratios."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bench.contenders import CONTENDERS, missing
from bench.figures import OURS, headline
from bench.rounds import run_rounds
from bench.store import scratch_folder, server_of
from bench.trees import TREES, tree

QUICK = (OURS, "pigz1-rclone", "restic")


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    options = _parser().parse_args(arguments)
    names = options.only or QUICK
    contenders = [each for name, each in CONTENDERS.items() if name in names and not _lacks(name)]
    with scratch_folder() as folder, server_of(options.server, folder) as server:
        results = list(run_rounds(server, options.tree, tree(options.tree), contenders, options.rounds))
    if options.results:
        options.results.write_text(json.dumps([asdict(each) for each in results], indent=1) + "\n")
    print(json.dumps(headline(results)))
    return 0


def _lacks(name: str) -> bool:
    lacking = missing(CONTENDERS[name])
    if lacking:
        print(f"{name} is left out: {', '.join(lacking)} not installed", file=sys.stderr)
    return bool(lacking)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--tree", choices=TREES, default="home")
    parser.add_argument("--only", action="append", choices=CONTENDERS, help="may be given several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=("seaweed", "minio"), default="seaweed")
    parser.add_argument("--results", type=Path, help="file for all results, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
