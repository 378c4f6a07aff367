"""purge: archive, manifest, uploads and volume gone; the record stays as a tombstone.  It ends in evidence."""

from model.looks import giving_up, is_never_handed_out, is_rolled_back, leaving
from model.steps import End, Step, delete, do, go, put, settle_trash
from model.world import Cfg, Eff, Record, Run, State


def purge(s: State, rec: Record, r: Run, cfg: Cfg) -> Step:
    pc = r.pc
    assert r.scope is not None
    with_volume, with_archive = r.scope
    if pc == "inspect":
        return inspect(s, rec, r, cfg, with_volume, with_archive)
    if pc == "object":
        if not s.obj:
            return go(r, "manifest")
        by_version = frozenset(o.aid for o in s.obj) if cfg.versioned or cfg.cond_delete else None
        return do(r, Eff("obj.del", r.rid, by_version), r._replace(pc="manifest"))
    if pc == "manifest":
        if s.man is None:
            return go(r, "uploads")
        return do(r, Eff("man.del", r.rid, s.man if cfg.cond_delete else None), r._replace(pc="uploads"))
    if pc == "uploads":
        if not s.ups:
            return go(r, "volume")
        return do(r, Eff("up.abort", r.rid, frozenset(u.id for u in s.ups)), r._replace(pc="volume"))
    if pc == "volume":
        ours = [x for x in (s.vol, s.trash) if x and (x.uid == rec.uid or is_never_handed_out(s, rec, x, cfg, r))]
        if with_volume and ours:
            return delete(s, rec, r, cfg, ours[0].uid, "confirm")
        return go(r, "confirm") if not with_volume or s.vol is None else End("PurgeIncomplete")
    if pc == "confirm":
        return confirm(s, r, cfg, with_volume, with_archive)
    assert pc == "record", pc
    return tombstone(s, rec, r, cfg, with_volume, with_archive)


def inspect(s: State, rec: Record, r: Run, cfg: Cfg, with_volume: bool, with_archive: bool) -> Step:
    """With the archive key goes also a volume that nobody holds."""
    if back := settle_trash(s, rec, r, cfg):
        return back
    if with_archive and "leftovers" in cfg.rules and rec.uid and rec.state in ("restoring", "archived", "deleting"):
        is_somebodys = rec.state == "restoring" and is_rolled_back(s, rec, cfg)
        with_volume = with_volume or not is_somebodys
    return go(r, "object" if with_archive else "volume", scope=(with_volume, with_archive))


def confirm(s: State, r: Run, cfg: Cfg, with_volume: bool, with_archive: bool) -> Step:
    is_archive_left = with_archive and bool(s.obj or s.man or s.ups)
    is_volume_left = with_volume and bool(s.vol or (s.trash and "trash" in cfg.rules))
    left = is_archive_left or is_volume_left
    return go(r, "inspect" if left and "MUTANT no confirm" not in cfg.rules else "record")


def tombstone(s: State, rec: Record, r: Run, cfg: Cfg, with_volume: bool, with_archive: bool) -> Step:
    """H4: no volume, the given-up uids; only when both are gone."""
    whole = (with_volume or s.vol is None) and (with_archive or not (s.obj or s.man))
    if "keep-record" in cfg.rules and not whole:
        return End("ok")
    if "tombstone" in cfg.rules:
        cleared = {"uid": None, "state": None, "aid": None, "fp": None, "lost": None, "gone": False}
        return put(s, rec, r, "done", given_up=giving_up(rec, cfg), left=leaving(s, rec, cfg), **cleared)
    return do(r, Eff("rec.del", r.rid, rec if cfg.cond_delete else None), r._replace(pc="done"))
