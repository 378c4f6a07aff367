"""The first step of every run and its last: whose record this is, and who has ended its last write.

Signing off, and waiting over an owner that never did, are steps only where `Cfg.signs`; elsewhere they are assumed.
"""

from model.effects import is_unconditional_delete
from model.steps import End, Go, Step, do, go, put
from model.world import Cfg, Eff, Record, Run, State

TAKES = ("restore", "purge")  # H10: may take a record from another place


def claim(s: State, r: Run, cfg: Cfg) -> Step:
    """H1; H10: place and owner in one PUT, If-Match on the very content that was looked at."""
    nxt = r._replace(pc=_first_step(r), err="Cancelled" if r.cancel and r.op != "archive" else r.err, epoch=s.epoch)
    rec = s.rec
    if rec is None:
        new = Record(r.owner, place=s.here, at=s.here, signed=not cfg.signs)
        return do(r, Eff("rec.put", r.rid, None, new), nxt)
    if cfg.places and r.pc == "claim":
        if refusal := _refusal(s, rec, r, cfg):
            return End(refusal)
        if "one-put" not in cfg.rules:
            return go(r, "claim unseen")
    new = rec._replace(owner=r.owner)
    if "MUTANT claim raises the epoch" in cfg.rules:
        new = new._replace(epoch=s.epoch)
    if cfg.signs:
        if "claim-wait" in cfg.rules and not rec.signed:  # also its own, where an earlier attempt's answer was lost
            nxt = nxt._replace(pc="wait", resume=nxt.pc)
        new = new._replace(signed=False, place=s.here)
    return Go(nxt) if new == rec else do(r, Eff("rec.put", r.rid, rec, new), nxt)


def _first_step(r: Run) -> str:
    return "undo" if r.cancel and r.op != "archive" else "inspect"


def _refusal(s: State, rec: Record, r: Run, cfg: Cfg) -> str | None:
    """H10: the state first, then the owner.  Where the volume itself is here, it comes home."""
    is_away = rec.uid is not None and rec.at != s.here
    is_kept = is_away and rec.state in ("ready", "archived")
    if is_kept and "takes" in cfg.rules and r.asked.accept != rec.uid:
        return "WrongStore"
    if rec.place == s.here:
        return None
    if r.op not in TAKES and (is_away or (rec.uid is None and r.op != "provision")):
        return "WrongStore"
    if "released" in cfg.rules and not rec.signed and not r.asked.dead:
        return "OperationInProgress"
    return None


def sign_off(s: State, r: Run) -> Step:
    """What is not ours any more needs no signature."""
    if s.rec is None or s.rec.owner != r.owner:
        return End(r.result or "ok")
    is_gone = r.op == "archive" and r.result == "ok" and s.rec.state == "deleting"
    return put(s, s.rec, r, "ended", signed=True, gone=s.rec.gone or is_gone)


def is_waiting(s: State, r: Run, cfg: Cfg) -> bool:
    """H4: an unanswered unconditional DELETE of its own, or behind such a claim anybody's, is waited out."""
    if not cfg.signs or "wait" not in cfg.rules:
        return False
    return any(is_unconditional_delete(e) and (e.rid == r.rid or r.pc == "wait") for e in s.late)
