"""Breadth-first search to the end, so that a trace which comes back is a shortest one."""

import gc
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from model.configs import first_state
from model.faults import successors
from model.properties import Memo, at_rest, is_lost
from model.world import Cfg, State

STATES_AT_MOST = 1_200_000
SECONDS_AT_MOST = 280.0


@dataclass(frozen=True)
class Finding:
    """One kind of violation: how often it was met, and a shortest way to it."""

    count: int
    trace: list[str]


@dataclass(frozen=True)
class Result:
    """`complete` says that every reachable state was visited; without it, absence of findings proves nothing."""

    states: int
    edges: int
    complete: bool
    seconds: float
    findings: dict[str, Finding] = field(default_factory=dict)


Parents = dict[State, tuple[State, str] | None]


def search(
    cfg: Cfg,
    *,
    states: int = STATES_AT_MOST,
    seconds: float = SECONDS_AT_MOST,
    stop_at: Callable[[str], bool] | None = None,
) -> Result:
    """Visit every state.  With `stop_at`, stop at the first kind of violation of which it says so."""
    gc.disable()  # tuples by the million and no cycles: the collector would only walk them again and again
    try:
        return _search(cfg, states, seconds, stop_at)
    finally:
        gc.enable()


def _search(cfg: Cfg, states: int, seconds: float, stop_at: Callable[[str], bool] | None) -> Result:
    first = first_state(cfg)
    parents: Parents = {first: None}
    todo, memo = deque([first]), Memo()
    counts: dict[str, int] = {}
    traces: dict[str, list[str]] = {}
    started, edges = time.monotonic(), 0

    def note(bad: list[str], s: State, label: str) -> None:
        for kind in bad:
            counts[kind] = counts.get(kind, 0) + 1
            if kind not in traces:
                traces[kind] = [*_trace(parents, s), label]

    while todo:
        s = todo.popleft()
        for label, after, bad in successors(s, cfg):
            edges += 1
            note(bad, s, label)  # before the look into `parents`: a bad way to a known state is bad all the same
            if after in parents:
                continue
            parents[after] = (s, label)
            if is_lost(after):
                note(["1 NO COMPLETE COPY" + after.tag], s, label)
                continue  # beyond a loss nothing more is learnt
            if after.run is None and (after.away is None or after.away.run is None):
                note(at_rest(after, cfg, memo), s, label)
            todo.append(after)
        if stop_at is not None and any(map(stop_at, counts)):
            break
        if len(parents) > states or time.monotonic() - started > seconds:
            break
    found = {kind: Finding(counts[kind], traces[kind]) for kind in sorted(counts)}
    return Result(len(parents), edges, not todo, time.monotonic() - started, found)


def _trace(parents: Parents, s: State) -> list[str]:
    steps = []
    while (came := parents[s]) is not None:
        s, label = came
        steps.append(label)
    return steps[::-1]
