"""The fence, and which operation a run's step belongs to."""

from collections.abc import Callable

from model.archive import PAST_GATE, archive
from model.claiming import claim, sign_off
from model.making import provision, restore
from model.purge import purge
from model.steps import End, Go, Step, go
from model.world import Cfg, Record, Run, State

OPERATIONS: dict[str, Callable[[State, Record, Run, Cfg], Step]] = {
    "archive": archive,
    "restore": restore,
    "provision": provision,
    "purge": purge,
}
CLAIMING = ("claim", "claim unseen")
WRITES_NOTHING = ("done", "handout")
SIGNING_OFF = ("sign off", "ended")


def step(s: State, r: Run, cfg: Cfg) -> Step:
    outcome = _step(s, r, cfg)
    if isinstance(outcome, Go) and outcome.run.pc == "ended":
        return End(outcome.run.result or "ok")
    is_owner = cfg.signs and s.rec is not None and s.rec.owner == r.owner and not s.rec.signed
    if isinstance(outcome, End) and is_owner and r.pc not in SIGNING_OFF:
        return go(r, "sign off", result=outcome.result)
    return outcome


def _step(s: State, r: Run, cfg: Cfg) -> Step:
    if r.pc in CLAIMING:
        return claim(s, r, cfg)
    if r.pc in WRITES_NOTHING:
        return End("ok")
    if r.pc == "sign off":
        return sign_off(s, r)
    if r.pc == "ended":
        return End(r.result or "ok")
    if r.pc == "wait":
        return go(r, r.resume or "inspect", resume=None)
    if s.rec is None or (s.rec.owner != r.owner and "MUTANT no fence" not in cfg.rules):
        return End("NotYours")  # in compensation too: what is not ours any more is not undone, nor called cancelled
    if r.epoch != s.epoch and "fence-epoch" in cfg.rules:
        return End("NotYours")  # H12: a claim is for one bucket
    return OPERATIONS[r.op](s, s.rec, r, cfg)


def is_cancellable(r: Run) -> bool:
    """purge is always too late; archive up to its point of no return.  A wait and a sign-off are not broken off."""
    is_past = r.pc in (*PAST_GATE, *SIGNING_OFF, "undo", "wait")
    return r.op != "purge" and not is_past and not r.cancel
