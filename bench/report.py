"""The report of a run: a section for each tree and one of commands, written into docs/benchmarks.md between two marks.

`python -m bench.report RESULTS` makes it again from the results of a run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.figures import DATA_STEPS, NOT_PEERS, OURS, WHOLE, Result, Spread, spread
from bench.floors import FLOORS
from bench.peers import CONTENDERS
from bench.plots import plot
from bench.results import Run
from bench.trees import TREES

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
RESULTS = PAGE.with_suffix("") / "results.json"
BEGIN, END = "<!-- made by make bench: begin -->", "<!-- made by make bench: end -->"
_SHOWN = {OURS: "ours, data plane", WHOLE: "ours, whole operation"}


def write_report(run: Run, page: Path = PAGE) -> None:
    """The page's part between the marks, and a plot for each tree in the folder of the page's name."""
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    for name in run.sizes:
        (folder / f"{name}.svg").write_text(_plot(run, name))
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{report(run)}\n{END}{after}")


def report(run: Run) -> str:
    """In Markdown."""
    blocks = [_heading(run)]
    for name in run.sizes:
        blocks += _tree_section(run, name)
    blocks += ["### Commands", _commands()]
    return "\n\n".join(blocks)


def _heading(run: Run) -> str:
    versions = "; ".join(f"{name}: {said}" for name, said in run.versions.items())
    return (
        f"Measured {run.date} on {run.machine}, with {run.rounds} rounds, store {run.server}. Versions: {versions}.\n\n"
        "Seconds are medians, with least and most in brackets. CPU is that of the client and all its children, memory "
        "the most that they had at a time (PSS). Restores go into memory. Ratios are our median by theirs."
    )


def _tree_section(run: Run, name: str) -> Iterator[str]:
    entries, total = run.sizes[name]
    results = [each for each in run.results if each.tree == name]
    yield f"### {name}: {TREES[name].what}, {total / 1e6:,.0f} MB in {entries:,} entries"
    yield f"![Wall seconds of archive and restore]({PAGE.stem}/{name}.svg)"
    yield f"Command: `make bench ARGS='--tree {name}'`"
    yield _store_table(run, name, results)
    steps = _steps(results)
    if steps:
        yield steps
    sink = [each for each in run.sink if each.tree == name]
    if sink:
        yield "Into a sink that keeps nothing, and the floors:"
        yield _sink_table(sink)
    yield f"```json\n{json.dumps(run.headline(name))}\n```"


def _store_table(run: Run, name: str, results: Sequence[Result]) -> str:
    header = [
        "Contender",
        "Operation",
        "Wall (s)",
        "Ours / theirs",
        "CPU (s)",
        "Memory (MiB)",
        "Stored (MB)",
        "Requests",
    ]
    rows = []
    for contender in _contenders(results):
        for operation in ("archive", "verify", "restore"):
            wall = spread(results, contender, operation, "wall_seconds")
            if wall is None:
                continue
            requests = run.requests.get(name, {}).get(contender, {}).get(operation)
            stored = spread(results, contender, operation, "stored_bytes")
            rows.append(
                [
                    _SHOWN.get(contender, contender),
                    operation,
                    _seconds(wall),
                    _ratio(results, contender, operation),
                    _seconds(spread(results, contender, operation, "cpu_seconds")),
                    _mebibytes(spread(results, contender, operation, "pss_bytes")),
                    f"{stored.median / 1e6:,.1f}" if stored and operation == "archive" else "",
                    "" if requests is None else f"{requests:,}",
                ]
            )
    return _table(header, rows)


def _sink_table(results: Sequence[Result]) -> str:
    rows = [
        [
            _SHOWN.get(contender, contender),
            _seconds(spread(results, contender, operation, "wall_seconds")),
            _seconds(spread(results, contender, operation, "cpu_seconds")),
            _mebibytes(spread(results, contender, operation, "pss_bytes")),
        ]
        for contender in _contenders(results)
        for operation in ("archive", "restore", "copy")
        if spread(results, contender, operation, "wall_seconds")
    ]
    return _table(["Who", "Wall (s)", "CPU (s)", "Memory (MiB)"], rows)


def _steps(results: Sequence[Result]) -> str:
    """What the whole operation consists of."""
    lines = []
    for operation in ("archive", "restore"):
        runs = [each for each in results if (each.contender, each.operation) == (WHOLE, operation)]
        if runs:
            names = [name for name in runs[0].phases if name in DATA_STEPS or runs[0].phases[name] >= 0.1]
            told = ", ".join(
                f"{name} {Spread.of(each.phases.get(name, 0) for each in runs).median:.2f}" for name in names
            )
            lines.append(f"Steps of the whole {operation}, median seconds from its history: {told}.")
    return "\n".join(lines)


def _commands() -> str:
    rows = [
        [each.name, operation, f"`{typed}`".replace("|", "\\|")]
        for each in (*CONTENDERS.values(), *FLOORS)
        for operation, typed in each.as_typed.items()
    ]
    return _table(["Who", "Operation", "Command"], rows)


def _plot(run: Run, name: str) -> str:
    results = [each for each in run.results if each.tree == name]
    rows = [
        (
            _SHOWN.get(contender, contender),
            {
                operation: found
                for operation in ("archive", "restore")
                if (found := spread(results, contender, operation, "wall_seconds"))
            },
        )
        for contender in _contenders(results)
    ]
    return plot(name, rows, list(_SHOWN.values()))


def _contenders(results: Sequence[Result]) -> list[str]:
    """In the order of the line-up, floors last."""
    order = [OURS, WHOLE, *(name for name in CONTENDERS if name != OURS), *(each.name for each in FLOORS)]
    return sorted({each.contender for each in results}, key=order.index)


def _ratio(results: Sequence[Result], contender: str, operation: str) -> str:
    mine, theirs = (spread(results, who, operation, "wall_seconds") for who in (OURS, contender))
    return f"{mine.median / theirs.median:.2f}" if mine and theirs and contender not in NOT_PEERS else ""


def _seconds(found: Spread | None) -> str:
    return "" if found is None else f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def _mebibytes(found: Spread | None) -> str:
    return "" if found is None else f"{found.high / (1 << 20):.0f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    write_report(Run.load(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS))
