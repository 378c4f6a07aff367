"""The fence, and which operation a run's step belongs to."""

from collections.abc import Callable

from model.archive import PAST_GATE, archive
from model.making import provision, restore
from model.purge import purge
from model.steps import End, Step, claim
from model.world import Cfg, Record, Run, State

OPERATIONS: dict[str, Callable[[State, Record, Run, Cfg], Step]] = {
    "archive": archive,
    "restore": restore,
    "provision": provision,
    "purge": purge,
}
WRITES_NOTHING = ("done", "handout")


def step(s: State, r: Run, cfg: Cfg) -> Step:
    if r.pc == "claim":
        if r.cancel and r.op != "archive":
            return claim(s, r._replace(err="Cancelled"), "undo")
        return claim(s, r, "inspect")
    if r.pc in WRITES_NOTHING:
        return End("ok")
    if s.rec is None or (s.rec.owner != r.owner and "MUTANT no fence" not in cfg.rules):
        return End("NotYours")  # in compensation too: what is not ours any more is not undone, nor called cancelled
    return OPERATIONS[r.op](s, s.rec, r, cfg)


def is_cancellable(r: Run) -> bool:
    """purge is always too late; archive up to its point of no return."""
    return r.op != "purge" and r.pc not in (*PAST_GATE, "undo") and not r.cancel
