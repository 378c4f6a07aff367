"""What has to come out of which search, and whether it did: the model's own test plan.

Three kinds of task.  The final protocol shows nothing beyond the admitted windows, and is searched to the end.  A rule
dropped alone brings a trace back, or it is not a rule.  A mutant is caught, or the checker is blind.
"""

import multiprocessing
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from model.configs import BY_NAME, CONFIGS, NOT_EXHAUSTED
from model.expected import is_expected
from model.rules import FINAL, MUTANTS, RULES, Rule
from model.search import Result, search
from model.world import Cfg

# Every backend, every way to start and both kinds of bucket, in configurations small enough for every push.
SHORT = (
    "warm-half",
    "handover-cold",
    "cold-reset",
    "versioned-reset",
    "purge-minio",
    "unserved",
    "two-places-warm",
    "handover",
    "foreign",
    "torn",
    "mirror",
    "docker-half",
    "pruned",
    "rolled-back",
    "first-2late",
    "undo-k8s",
    "two-places-lost",
    "mirror-dir",
    "pruned-new",
    "purge-row-new",
    "two-places-min",
)


class Task(NamedTuple):
    """One search.  `wants` is "nothing" beyond the admitted, a "trace" to what `shows` begins with, or "any" result."""

    cfg: Cfg
    variant: str
    wants: str
    shows: str = ""


class Verdict(NamedTuple):
    """The task, what the search found, and what of that is not admitted."""

    task: Task
    result: Result
    unexpected: list[str]

    @property
    def is_right(self) -> bool:
        if self.task.wants == "nothing":
            return self.result.complete and not self.unexpected
        return self.task.wants == "any" or bool(self.unexpected)


def final(name: str) -> Task:
    wants = "any" if name in NOT_EXHAUSTED else "nothing"
    return Task(BY_NAME[name]._replace(rules=FINAL), "final", wants)


def bare(name: str) -> Task:
    return Task(BY_NAME[name], "no rules", "any")


def without(rule: Rule, name: str) -> Task:
    return Task(BY_NAME[name]._replace(rules=FINAL - {rule.name}), "without " + rule.name, "any")


def mutated(mutant: Rule, name: str) -> Task:
    return Task(BY_NAME[name]._replace(rules=FINAL | {mutant.name}), mutant.name, "any")


def short() -> list[Task]:
    return [*map(final, SHORT), *witnesses()]


def full() -> list[Task]:
    return [*(final(cfg.name) for cfg in CONFIGS if cfg.name not in NOT_EXHAUSTED), *witnesses()]


def witnesses() -> list[Task]:
    """Each rule and each mutant where a trace to what it `shows` has to come back."""
    changes = [(change, vary) for changed, vary in ((RULES, without), (MUTANTS, mutated)) for change in changed]
    return [
        vary(change, change.witness)._replace(wants="trace", shows=change.shows)
        for change, vary in changes
        if change.witness
    ]


def judge(task: Task) -> Verdict:
    """Search.  Where one trace is wanted, the first will do."""

    def is_trace(kind: str) -> bool:
        return kind.startswith(task.shows) and not is_expected(kind, task.cfg)

    result = search(task.cfg, stop_at=is_trace if task.wants == "trace" else None)
    return Verdict(task, result, [kind for kind in result.findings if is_trace(kind)])


def judge_all(tasks: Iterable[Task], jobs: int) -> Iterator[Verdict]:
    """In parallel; a process per search, so that its memory goes with it."""
    with multiprocessing.get_context("forkserver").Pool(jobs, maxtasksperchild=1) as pool:
        yield from pool.imap_unordered(judge, tasks)
