"""archive: volume -> proven archive -> volume deleted.  One function per step, in the order of the workflow.

claim, inspect, attach, plan, begin (abort, create), parts, finish (walk, complete), settle, verify, manifest, gate,
head, archived, delete, prune, sign off.  Settling is waiting and signing off changes only what `wait` assumes; neither
is a step here.  Inside `finish` the walk and the complete are two steps, because a user may write between them.
"""

from collections.abc import Callable

from model.looks import is_lost_volume, is_torn, may_be_half_removed, may_stand, must_prove_again
from model.steps import Do, End, Go, Step, delete, do, give_up, go, prove_again, put, settle_trash
from model.world import Cfg, Eff, Manifest, Record, Run, State, current, proven

PAST_GATE = ("head", "archived", "delete", "changed", "prune")


def archive(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    if r.pc in IN_THE_MOVER and (r.uid, r.rid) not in s.movers:
        return go(r, "attach", resume=r.pc)  # the mover died: a new one goes on here
    if s.vol is None and r.pc in ("plan", "parts", "walk"):
        return give_up(r, "VolumeNotFound")
    return STEPS[r.pc](s, rec, r, cfg)


def inspect(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """Look what an earlier run has left.  A cancelled archive looks just the same, and answers at `ready` (H8)."""
    if rec.lost is not None and not r.tells:
        return go(r, "inspect", tells=True)  # H11: every result names what was lost
    if is_torn(s, rec, r, cfg):
        return End("ArchiveNotFound")
    if rec.state == "deleting" and must_prove_again(s, rec, cfg):
        return go(r, "prove")  # C2: before anything settles a trash
    if back := settle_trash(s, rec, r, cfg):
        return back
    v = s.vol
    if v is None:
        return gone(s, rec, r, cfg)
    if v.uid in rec.given_up:
        return delete(s, rec, r, cfg, v.uid, "inspect")
    if v.uid != rec.uid and "MUTANT no lineage" not in cfg.rules:
        return End("VolumeConflict")
    if rec.state == "restoring":
        return End("VolumeConflict")
    o = may_stand(s, cfg)
    is_resumable = not r.cancel and o is not None and o.aid == rec.aid
    if (rec.state == "deleting" and "MUTANT revived" not in cfg.rules) or (rec.state == "archived" and is_resumable):
        return go(r, "delete", uid=v.uid, aid=rec.aid, fp=rec.fp)
    if may_be_half_removed(s, rec, v, cfg) and (rec.state == "ready" or v.content != rec.fp):
        return End("VolumeConflict")
    if rec.state == "archived" and not r.cancel and must_prove_again(s, rec, cfg):
        return go(r, "prove")
    if rec.state in ("archived", "deleting"):
        return put(s, rec, r, "inspect", state="ready", aid=None, fp=None)
    if r.cancel:
        return End("Cancelled")
    replaces = s.man.aid if s.man else None
    if replaces and s.man and s.man.source != v.uid and v.origin != replaces and "MUTANT no lineage" not in cfg.rules:
        return End("LineageConflict")
    return go(r, "attach", uid=v.uid, aid=("A", r.rid))


def gone(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """No volume: fine where an archive of it is proven; H11: a `ready` one that nobody of ours deleted is lost."""
    if is_lost_volume(s, rec, cfg):
        return End("VolumeLost")
    if must_prove_again(s, rec, cfg):
        return go(r, "prove")
    o = may_stand(s, cfg)
    is_archived = rec.state in ("archived", "deleting") and o is not None and o.aid == rec.aid
    return End("ok" if is_archived else "VolumeNotFound")


def prove(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    return prove_again(s, rec, r, cfg, "inspect")


def attach(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    if (r.uid, r.rid) in s.movers:
        return go(r, r.resume or "plan", resume=None)
    if any(m[0] == r.uid for m in s.movers):
        return do(r, Eff("mover.stop", r.rid, r.uid), r)
    if s.vol is None or s.vol.uid != r.uid:
        return give_up(r, "VolumeNotFound")
    return do(r, Eff("mover.start", r.rid, r.uid), r)


def plan(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    return go(r, "abort", fp=_content(s), upload=None)


def abort(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    if not s.ups:
        return go(r, "create")
    return do(r, Eff("up.abort", r.rid, frozenset(u.id for u in s.ups)), r._replace(pc="create"))


def create(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """H5: with an empty manifest where none is, the proof is always If-Match; what it will replace is fixed here."""
    nxt = r._replace(serial=r.serial + 1)
    if "placeholder" in cfg.rules and s.man is None:
        nonce = (r.rid, r.serial) if "own-placeholder" in cfg.rules else None
        return do(r, Eff("man.put", r.rid, None, Manifest(None, None, None, nonce)), nxt, refused=nxt, retry=nxt)
    upload = ("U", r.rid, r.serial)
    done = nxt._replace(pc="parts", upload=upload, base=s.man)
    return do(r, Eff("up.new", r.rid, upload, r.aid), done, retry=nxt._replace(pc="abort"))


def parts(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    effect = Eff("up.parts", r.rid, r.upload, _content(s))
    return do(r, effect, r._replace(pc="walk"), refused=r._replace(pc="plan"))


def walk(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    return go(r, "complete" if _content(s) == r.fp else "plan")


def complete(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """A lost answer is settled by looking; a retry is one of the whole `finish`, so it walks again."""
    o = current(s)  # that it is this run's says the archive id; `verify` asks for the very copy
    if o and o.aid == r.aid and not any(u.id == r.upload for u in s.ups):
        return go(r, "verify")
    effect = Eff("up.complete", r.rid, r.upload, r.fp)
    return do(r, effect, r._replace(pc="verify"), refused=r._replace(pc="plan"), retry=r._replace(pc="walk"))


def verify(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    o = current(s)
    if "MUTANT no verify" in cfg.rules or (o and o.aid == r.aid and o.copy == 0 and o.good and o.content == r.fp):
        return go(r, "manifest")
    return give_up(r, "ArchiveCorrupt")


def manifest(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    if s.man and s.man.aid == r.aid:
        return go(r, "gate")
    if "MUTANT early delete" in cfg.rules:
        return go(r, "archived")
    proof, refused = Manifest(r.aid, r.uid, r.fp), r._replace(pc="undo", err="NotYours")
    return do(r, Eff("man.put", r.rid, r.base, proof), r._replace(pc="gate"), refused=refused)


def gate(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """The point of no return.  A cancel is modelled at the step where it is noticed, so nothing waits here."""
    if r.loose and "detach" in cfg.rules:
        return do(r, Eff("mover.stop", r.rid, r.uid), r._replace(pc="head", loose=False))
    return go(r, "head")


def head(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    o = may_stand(s, cfg)
    return go(r, "archived") if o and o.aid == r.aid else End("ArchiveNotFound")


def archived(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    return put(s, rec, r, "delete", state="archived", aid=r.aid, fp=r.fp)


def delete_volume(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    return delete(s, rec, r, cfg, r.uid, "prune", fp=r.fp, changed="changed")


def changed(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """A resumed deletion whose archive is outdated starts from the beginning."""
    if s.vol is not None and may_be_half_removed(s, rec, s.vol, cfg):
        return End("VolumeConflict")
    return End("VolumeChanged") if r.upload else put(s, rec, r, "inspect", state="ready", aid=None, fp=None)


def prune(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """Versions older than the one the manifest names, listed anew."""
    if r.aid is None:
        return End("VolumeNotFound")  # the deletion finished here was a purge's
    kept = proven(s)
    older = frozenset(o.aid for o in s.obj[: s.obj.index(kept)]) if kept else frozenset()
    return do(r, Eff("obj.del", r.rid, older), r) if older else End("ok")


def undo(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    """Compensation, only before the gate.  After it a cancelled run looks: an earlier one may be past its own gate."""
    if r.upload and any(u.id == r.upload for u in s.ups):
        return do(r, Eff("up.abort", r.rid, frozenset([r.upload])), r)
    if cfg.versioned and r.err == "ArchiveCorrupt" and any(o.aid == r.aid for o in s.obj):
        return do(r, Eff("obj.del", r.rid, frozenset([r.aid])), r)
    if (r.uid, r.rid) in s.movers and (not r.loose or "detach" in cfg.rules):
        return do(r, Eff("mover.stop", r.rid, r.uid), r._replace(loose=False))
    if r.err == "Cancelled" and "cancel-looks" in cfg.rules:
        return go(r, "inspect", cancel=True, err=None, uid=None, aid=None, fp=None, upload=None, base=None)
    return End(r.err or "ok")


def _content(s: State) -> int:
    assert s.vol is not None  # `archive` has looked
    return s.vol.content


STEPS: dict[str, Callable[[State, Record, Run, Cfg], Go | Do | End]] = {
    "inspect": inspect,
    "prove": prove,
    "attach": attach,
    "plan": plan,
    "abort": abort,
    "create": create,
    "parts": parts,
    "walk": walk,
    "complete": complete,
    "verify": verify,
    "manifest": manifest,
    "gate": gate,
    "head": head,
    "archived": archived,
    "delete": delete_volume,
    "changed": changed,
    "prune": prune,
    "undo": undo,
}
IN_THE_MOVER = ("plan", "parts", "walk", "complete", "verify", "manifest")
