"""restore and provision: the two that make a volume and hand it out.

Both write their intent, create, and set `ready`; restore fills the volume in between.
"""

from model.looks import giving_up, is_lost_volume, is_never_handed_out, is_torn, leaving, losing, must_prove_again
from model.steps import End, Step, delete, do, give_up, go, prove_again, put, settle_trash
from model.world import HALF_FILLED, ArchiveId, Cfg, Eff, Record, Run, State, proven


def restore(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    pc = r.pc
    if pc == "inspect":
        o = proven(s)
        if not s.obj or is_torn(s, rec, r, cfg):
            return End("ArchiveNotFound")
        return End("ArchiveUnproven") if o is None else go(r, "look", aid=o.aid)  # bad bytes show while reading
    if pc == "look":
        return restore_look(s, rec, r, cfg)
    if pc == "prove":
        return prove_again(s, rec, r, cfg, "look")
    if pc == "attach":
        if s.vol is None or s.vol.uid != r.uid:
            return go(r, "look")
        if any(m[0] == r.uid and m[1] != r.rid for m in s.movers):
            return do(r, Eff("mover.stop", r.rid, r.uid), r)
        nxt = r._replace(pc="fill")
        return do(r, Eff("mover.start", r.rid, r.uid), nxt, refused=nxt)
    if pc in ("fill", "fill2", "compare"):
        return fill(s, r, cfg)
    if pc == "gone":
        if r.loose and "detach" not in cfg.rules:
            return go(r, "ready")
        return do(r, Eff("mover.stop", r.rid, r.uid), r._replace(pc="ready", loose=False))
    return make(s, rec, r, cfg, origin=r.aid, created="attach")


def restore_look(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """Is the volume that stands there already the answer?"""
    is_sealed_here = rec.state == "deleting" and any(x and x.uid == rec.uid for x in (s.vol, s.trash))
    if is_sealed_here and must_prove_again(s, rec, cfg):
        return go(r, "prove")  # C2: finishing that deletion leans on the archive
    if back := settle_trash(s, rec, r, cfg):
        return back
    v = s.vol
    if v is None:
        return go(r, "intent", tells=is_lost_volume(s, rec, cfg))
    if is_never_handed_out(s, rec, v, cfg, r):
        return go(r, "clear")
    if v.uid != rec.uid:
        return End("VolumeConflict")
    r = r._replace(tells=rec.lost is not None)
    if "evict" in cfg.rules and any(m[0] == v.uid for m in s.movers):
        return do(r, Eff("mover.stop", r.rid, v.uid), r)
    keeps_aid = "ready-from" in cfg.rules
    if rec.state == "ready" and (v.origin == r.aid or (keeps_aid and rec.aid == r.aid)):
        return go(r, "handout")
    if rec.state == "archived" and rec.aid == r.aid and v.content == rec.fp:
        return put(s, rec, r, "handout", state="ready", aid=rec.aid if keeps_aid else None, fp=None)
    return End("VolumeConflict")


def fill(s: State, r: Run, cfg: Cfg) -> Step:
    """Two writes stand for the many, so that a half-filled volume exists.  A lost mover means a new uid."""
    o, v = proven(s), s.vol
    is_same_archive = o is not None and o.aid == r.aid
    if (r.uid, r.rid) not in s.movers or v is None or v.uid != r.uid:
        return go(r, "look") if is_same_archive else give_up(r, "ArchiveNotFound")
    if r.pc == "fill":
        nxt = "gone" if "MUTANT no compare" in cfg.rules else "fill2"
        return do(r, Eff("vol.fill", r.rid, r.uid, HALF_FILLED), r._replace(pc=nxt))
    if o is None or s.man is None or not is_same_archive:
        return give_up(r, "ArchiveNotFound")
    if not o.good:
        return give_up(r, "ArchiveCorrupt")
    if r.pc == "fill2":
        return do(r, Eff("vol.fill", r.rid, r.uid, o.content), r._replace(pc="compare"))
    return go(r, "gone") if v.content == s.man.content else give_up(r, "ArchiveCorrupt")


def provision(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    if r.pc not in ("inspect", "look"):
        return make(s, rec, r, cfg, origin=None, created="ready")
    if back := settle_trash(s, rec, r, cfg):
        return back
    if s.obj or (s.man and s.man.aid):
        return End("LineageConflict")
    is_sealed_here = any(x and x.uid == rec.uid for x in (s.vol, s.trash))
    if is_sealed_here and is_torn(s, rec, r, cfg) and rec.epoch < s.epoch:
        return End("ArchiveNotFound")  # nothing stands for what would be cleared
    v = s.vol
    if v is None:
        if is_lost_volume(s, rec, cfg) and (r.asked.accept is None or r.asked.accept not in (rec.uid, rec.lost)):
            return End("VolumeLost")
        return go(r, "intent")
    if is_never_handed_out(s, rec, v, cfg, r):
        return go(r, "clear")
    return End("ok" if v.uid == rec.uid and rec.state == "ready" else "VolumeConflict")


def make(s: State, rec: Record, r: Run, cfg: Cfg, origin: ArchiveId | None, created: str) -> Step:
    pc, v = r.pc, s.vol
    if pc == "clear":
        leftovers = [x for x in (v, s.trash) if x and is_never_handed_out(s, rec, x, cfg, r)]
        return delete(s, rec, r, cfg, leftovers[0].uid, "look") if leftovers else go(r, "look")
    if pc == "intent":
        uid, nxt = ("V", r.rid, r.serial), r._replace(serial=r.serial + 1)
        new = rec._replace(uid=uid, state="restoring", aid=r.aid if "torn" in cfg.rules else None, fp=None)
        new = new._replace(
            given_up=giving_up(rec, cfg), epoch=r.epoch, at=s.here, gone=False, left=leaving(s, rec, cfg)
        )
        new = new._replace(lost=None if r.op == "provision" else losing(s, rec, r, cfg))
        return do(r, Eff("rec.put", r.rid, rec, new), nxt._replace(pc="create", uid=uid), retry=nxt)
    if pc == "create":
        if v is None:
            if s.trash is not None and "trash" in cfg.rules:
                return go(r, "look")
            return do(r, Eff("vol.new", r.rid, r.uid, origin), r)
        if v.uid == r.uid:
            return go(r, created)
        return go(r, "clear") if is_never_handed_out(s, rec, v, cfg, r) else End("VolumeConflict")
    if pc == "ready":
        if rec.uid != r.uid:
            return End("NotYours")
        if v is None or v.uid != r.uid:
            return give_up(r, "VolumeNotFound")
        r = r._replace(tells=r.tells or rec.lost is not None)
        return go(r, "handout") if rec.state == "ready" else put(s, rec, r, "handout", state="ready", aid=None)
    assert pc == "undo", pc
    return undo(s, rec, r, cfg)


def undo(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """H3: first the record gives the uid up, then the volume goes."""
    is_ours = r.uid is not None and rec.uid == r.uid and rec.state == "restoring"
    if is_ours and "given-up" in cfg.rules:
        return put(s, rec, r, "undo", uid=None, state=None, given_up=giving_up(rec, cfg))
    is_doomed = is_ours or r.uid in rec.given_up
    if is_doomed and any(x and x.uid == r.uid for x in (s.vol, s.trash)):
        return delete(s, rec, r, cfg, r.uid, "undo")
    return End(r.err or "ok")
