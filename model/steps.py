"""What a step of a run may answer, and the steps that the operations share.

A step looks at the world and acts in one atom; its effect may instead be captured behind that look and land late
(`faults`).  Each external write is a step of its own, with the fence read just before it.
"""

from typing import Any, NamedTuple

from model.effects import needs_seal
from model.world import Cfg, Eff, Record, Run, State, Uid, Vol


class Go(NamedTuple):
    """On to the next step, nothing written."""

    run: Run


class Do(NamedTuple):
    """One external write: how the run goes on when it is done, when it is refused, when its answer is missing."""

    effect: Eff
    done: Run
    refused: Run
    retry: Run


class End(NamedTuple):
    """The run closes: "ok" or an error code."""

    result: str


Step = Go | Do | End


def go(r: Run, pc: str, **local: Any) -> Go:
    return Go(r._replace(pc=pc, **local))


def do(r: Run, e: Eff, done: Run, refused: Run | None = None, retry: Run | None = None) -> Do:
    """By default a refused or unanswered step looks again."""
    return Do(e, done, refused or r, retry or r)


def give_up(r: Run, err: str) -> Go:
    return go(r, "undo", err=err)


def put(s: State, rec: Record, r: Run, nxt: str, **fields: Any) -> Step:
    """PUT the record If-Match; nothing to write means it is done already."""
    new = rec._replace(**fields)
    return go(r, nxt) if new == rec else do(r, Eff("rec.put", r.rid, rec, new), r._replace(pc=nxt))


def claim(s: State, r: Run, nxt: str) -> Step:
    if s.rec is None:
        return do(r, Eff("rec.put", r.rid, None, Record(r.owner)), r._replace(pc=nxt))
    return put(s, s.rec, r, nxt, owner=r.owner)


def is_never_handed_out(rec: Record, v: Vol) -> bool:
    """A volume of ours that nobody may be given: half made, given up, or being deleted."""
    return v.uid in rec.given_up or (v.uid == rec.uid and rec.state in ("restoring", "deleting"))


def giving_up(rec: Record, cfg: Cfg) -> tuple[Uid, ...]:
    """H3: the uids given up once the record's own is replaced or cleared."""
    if "given-up" in cfg.rules and rec.uid:
        return tuple(sorted({*rec.given_up, rec.uid}))
    return rec.given_up


def settle_trash(s: State, rec: Record, r: Run, cfg: Cfg) -> Step | None:
    """H7: what an earlier deletion left in the trash is settled before anybody looks at the volume."""
    if "trash" not in cfg.rules or s.trash is None:
        return None
    if is_never_handed_out(rec, s.trash):
        return do(r, Eff("vol.rm", r.rid, s.trash.uid), r)
    return do(r, Eff("vol.back", r.rid), r) if s.vol is None else None


def delete(
    s: State, rec: Record, r: Run, cfg: Cfg, uid: Uid | None, nxt: str, *, fp: int | None = None, changed: str = ""
) -> Step:
    """delete(uid, check, seal), one call of the server per step.

    fp is the evidence that the check compares; None where nothing is to compare: purge, and volumes that nobody was
    handed.  Under `deleting` the check has been passed and is never asked again (H2).
    """
    if any(m[0] == uid for m in s.movers):
        return do(r, Eff("mover.stop", r.rid, uid), r)
    if ("deleting" in cfg.rules and rec.state == "deleting" and rec.uid == uid) or "MUTANT no last check" in cfg.rules:
        fp = None
    if cfg.backend == "dir":
        return _delete_by_trash(s, rec, r, cfg, uid, nxt, fp, changed or nxt)
    if s.vol is None or s.vol.uid != uid:
        return go(r, nxt)
    if fp is not None and s.vol.content != fp:
        return go(r, changed)
    if "deleting" in cfg.rules and needs_seal(rec, s.vol):
        return put(s, rec, r, r.pc, state="deleting")
    return do(r, Eff("vol.del", r.rid, uid), r)


def _delete_by_trash(
    s: State, rec: Record, r: Run, cfg: Cfg, uid: Uid | None, nxt: str, fp: int | None, changed: str
) -> Step:
    """Directory: rename, and only then look; whatever else is found there goes back."""
    t = s.trash
    if t is None:
        if s.vol is None or s.vol.uid != uid:
            return go(r, nxt)
        if fp is not None and s.vol.content != fp:
            return go(r, changed)
        return do(r, Eff("vol.trash", r.rid, uid, fp), r)
    if t.uid != uid or (fp is not None and t.content != fp):
        if s.vol is not None:
            return go(r, changed)
        return do(r, Eff("vol.back", r.rid), r._replace(pc=changed) if t.uid == uid else r)
    if "deleting" in cfg.rules and needs_seal(rec, t):
        return put(s, rec, r, r.pc, state="deleting")
    return do(r, Eff("vol.rm", r.rid, uid), r)
