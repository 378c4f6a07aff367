"""What a step of a run may answer, and the steps that the operations share.

A step looks at the world and acts in one atom; its effect may instead be captured behind that look and land late
(`faults`).  Each external write is a step of its own, with the fence read just before it.
"""

from typing import Any, NamedTuple

from model.effects import needs_seal
from model.looks import is_never_handed_out
from model.world import Cfg, Eff, Record, Run, State, Uid, proven


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
    """PUT the record If-Match; nothing to write means it is done already.

    H12: what is said of the volume bears the epoch in which it was said.
    """
    new = rec._replace(**fields)
    if new != rec and fields.keys() & {"uid", "state", "aid", "fp"}:
        new = new._replace(epoch=r.epoch)
    return go(r, nxt) if new == rec else do(r, Eff("rec.put", r.rid, rec, new), r._replace(pc=nxt))


def prove_again(s: State, rec: Record, r: Run, cfg: Cfg, nxt: str) -> Step:
    """C2: the archive read back whole; then the manifest anew, If-Match on itself.

    Read back bad, a volume that is whole is all there is: `ready` again.  What was sealed is left as it stands.
    """
    o = proven(s)
    if o is None or s.man is None or o.copy == s.man.copy:
        return go(r, nxt)
    if o.good and o.content == s.man.content:
        return do(r, Eff("man.put", r.rid, s.man, s.man._replace(copy=o.copy)), r._replace(pc=nxt))
    if rec.state == "archived":
        if back := settle_trash(s, rec, r, cfg):
            return back
        if s.vol is not None and s.vol.uid == rec.uid:
            is_whole = s.vol.content == rec.fp
            return put(s, rec, r, nxt, state="ready", aid=None, fp=None) if is_whole else End("VolumeConflict")
    return End("ArchiveCorrupt")


def settle_trash(s: State, rec: Record, r: Run, cfg: Cfg) -> Step | None:
    """H7: what an earlier deletion left in the trash is settled before anybody looks at the volume."""
    if "trash" not in cfg.rules or s.trash is None:
        return None
    if is_never_handed_out(s, rec, s.trash, cfg, r):
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
    if "deleting" in cfg.rules and needs_seal(rec, s.vol, s.epoch):
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
    if "deleting" in cfg.rules and needs_seal(rec, t, s.epoch):
        return put(s, rec, r, r.pc, state="deleting")
    return do(r, Eff("vol.rm", r.rid, uid), r)
