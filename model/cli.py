"""The command line: search, print, and say with the exit code whether the final protocol holds.

python3 -m model                       every configuration: without any rule, and the final protocol
python3 -m model NAME... [-v]          some of them; -v prints a shortest trace for each finding
python3 -m model NAME... --fixed       the final protocol only
python3 -m model NAME --without-each   one rule dropped at a time
python3 -m model NAME --mutants        does the checker see what it must?
python3 -m model --short | --full      the test plan of `verdict`
"""

import argparse
import os
import time
from collections.abc import Iterable

from model.configs import BY_NAME, CONFIGS, NOT_EXHAUSTED
from model.rules import MUTANTS, RULES
from model.table import table
from model.verdict import Task, Verdict, bare, final, full, judge_all, mutated, short, without

EVENTFUL = ("HANGS", "lost", "LATE", "RESET", "cancel", "terminate", "refused", "ends", "orphan", "dies", "HALF-WAY")


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    if unknown := [name for name in args.names if name not in BY_NAME]:
        print("no such configuration:", *unknown)
        return 2
    started = time.monotonic()
    verdicts = []
    for verdict in judge_all(_tasks(args), args.jobs):
        verdicts.append(verdict)
        if not args.table:
            _show(verdict, args.verbose)
    if args.table:
        print("\n".join(table(verdicts)))
    _sum_up(verdicts, time.monotonic() - started)
    return 0 if all(v.is_right for v in verdicts) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m model", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help="configurations: " + ", ".join(BY_NAME))
    parser.add_argument("-v", dest="verbose", action="store_true", help="a shortest trace for each finding")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="searches at a time")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--fixed", action="store_true", help="the final protocol only")
    what.add_argument("--without-each", action="store_true", help="one rule dropped at a time")
    what.add_argument("--mutants", action="store_true", help="each mutant of the final protocol")
    what.add_argument("--short", action="store_true", help="a fixed selection for every push")
    what.add_argument("--full", action="store_true", help="all of the test plan")
    what.add_argument("--table", action="store_true", help="as the table of README.md")
    return parser


def _tasks(args: argparse.Namespace) -> Iterable[Task]:
    if args.short or args.full:
        return short() if args.short else full()
    names = args.names or [cfg.name for cfg in CONFIGS if cfg.name not in NOT_EXHAUSTED]
    if args.without_each:
        return [without(rule, name) for name in names for rule in RULES]
    if args.mutants:
        return [mutated(mutant, name) for name in names for mutant in MUTANTS]
    return [task for name in names for task in ([final(name)] if args.fixed else [bare(name), final(name)])]


def _show(v: Verdict, is_verbose: bool) -> None:
    r, task = v.result, v.task
    end = "complete" if r.complete else "stopped at a trace" if task.wants == "trace" and v.unexpected else "TRUNCATED"
    head = f"{task.cfg.name:15} {task.variant:24} {r.states:8} states {r.edges:8} edges {r.seconds:5.1f} s  {end}"
    print(head if v.is_right else f"{head}  WRONG: wanted {task.wants}", flush=True)
    for kind, finding in r.findings.items():
        mark = "!" if kind in v.unexpected else " "
        print(f"   {mark} {kind:72} {finding.count:6}", flush=True)
        if is_verbose:
            print("".join(f"        {line}\n" for line in squeezed(finding.trace)))


def _sum_up(verdicts: list[Verdict], seconds: float) -> None:
    exhausted = [v for v in verdicts if v.task.wants == "nothing" and v.is_right]
    states = sum(v.result.states for v in exhausted)
    traces = [v for v in verdicts if v.task.wants == "trace"]
    shown = sum(v.is_right for v in traces)
    wrong = sum(not v.is_right for v in verdicts)
    line = f"final protocol: {len(exhausted)} configurations exhausted, {states} states, only admitted findings"
    if traces:
        line += f"; {shown} of {len(traces)} dropped rules and mutants brought a trace"
    print(f"{line}; {wrong} wrong; {seconds:.0f} s")


def squeezed(trace: list[str]) -> list[str]:
    """Runs of uneventful steps of one workflow become one line."""
    lines: list[str] = []
    for label in trace:
        who, _, what = label.partition(" ")
        if "#" not in who or any(word in label for word in EVENTFUL):
            lines.append(label)
        elif lines and lines[-1].startswith(who + " runs: "):
            lines[-1] += ", " + what
        else:
            lines.append(f"{who} runs: {what}")
    return lines
