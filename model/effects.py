"""What each external write does when it reaches its server: at once, or long after the run that sent it is gone.

Every function is one atom with the guard that the real server or file system offers, and no more than that guard.
"""

from collections.abc import Callable

from model.world import Cfg, Eff, Obj, Record, State, Upload, Vol, proven, without_movers_of

Answer = tuple[State, bool]


def land(s: State, e: Eff, cfg: Cfg) -> Answer:
    """Apply one effect; the answer says whether the server did it."""
    return EFFECTS[e.kind](s, e, cfg)


def with_record(s: State, rec: Record | None, cfg: Cfg) -> State:
    """Change the record.  Its revision grows with every PUT, so no captured If-Match PUT can match ever again.

    Dropping those effects is exact and keeps the state space finite, which counting would not.  A captured
    If-None-Match create stays possible only where a purge deletes the record instead of leaving a tombstone.
    """
    late = s.late
    if "revision" in cfg.rules:
        recreated = "tombstone" not in cfg.rules
        late = tuple(e for e in late if e.kind != "rec.put" or (recreated and e.a is None))
    return s._replace(rec=rec, late=late)


def rec_put(s: State, e: Eff, cfg: Cfg) -> Answer:
    return (with_record(s, e.b, cfg), True) if s.rec == e.a else (s, False)


def with_loss_admitted(s: State) -> State:
    """What is gone is gone: from here on, what is left is what must not be lost."""
    o = proven(s)
    return s._replace(need=o.content if o and o.good else 0, purging=False)


def rec_del(s: State, e: Eff, cfg: Cfg) -> Answer:
    return (with_record(s, None, cfg), True) if e.a is None or s.rec == e.a else (s, False)


def man_put(s: State, e: Eff, cfg: Cfg) -> Answer:
    return (s._replace(man=e.b), True) if s.man == e.a else (s, False)


def man_del(s: State, e: Eff, cfg: Cfg) -> Answer:
    return (s._replace(man=None), True) if e.a is None or s.man == e.a else (s, False)


def obj_del(s: State, e: Eff, cfg: Cfg) -> Answer:
    """a: the exact versions; None: whatever is there."""
    return s._replace(obj=tuple(o for o in s.obj if e.a is not None and o.aid not in e.a)), True


def up_abort(s: State, e: Eff, cfg: Cfg) -> Answer:
    return s._replace(ups=frozenset(u for u in s.ups if u.id not in e.a)), True


def up_new(s: State, e: Eff, cfg: Cfg) -> Answer:
    return s._replace(ups=s.ups | {Upload(e.a, e.b, None)}), True


def up_parts(s: State, e: Eff, cfg: Cfg) -> Answer:
    for u in s.ups:
        if u.id == e.a:
            return s._replace(ups=s.ups - {u} | {u._replace(content=e.b)}), True
    return s, False


def up_complete(s: State, e: Eff, cfg: Cfg) -> Answer:
    """A part list that is not what the store has is InvalidPart."""
    for u in s.ups:
        if u.id == e.a and u.content == e.b:
            new = Obj(u.aid, e.b, True)
            return s._replace(ups=s.ups - {u}, obj=(*s.obj, new) if cfg.versioned else (new,)), True
    return s, False


def vol_new(s: State, e: Eff, cfg: Cfg) -> Answer:
    return (s._replace(vol=Vol(e.a, 0, e.b)), True) if s.vol is None else (s, False)


def vol_fill(s: State, e: Eff, cfg: Cfg) -> Answer:
    """Done by the mover, so it lands only while that mover lives."""
    if s.vol and s.vol.uid == e.a and (e.a, e.rid) in s.movers:
        return s._replace(vol=s.vol._replace(content=e.b)), True
    return s, False


def vol_del(s: State, e: Eff, cfg: Cfg) -> Answer:
    """Docker's API deletes whatever bears the name; the others compare the uid."""
    by_name = cfg.backend == "docker" and "holder" not in cfg.rules
    if s.vol is None or (not by_name and s.vol.uid != e.a):
        return s, False
    if any(m[0] == s.vol.uid for m in s.movers):
        return s, False
    return s._replace(vol=None), True


def vol_trash(s: State, e: Eff, cfg: Cfg) -> Answer:
    """A rename acts on the name; `vol_check` looks afterwards what it has caught."""
    if s.vol is None or s.trash is not None:
        return s, False
    return s._replace(vol=None, trash=s.vol), True


def vol_back(s: State, e: Eff, cfg: Cfg) -> Answer:
    return (s._replace(vol=s.trash, trash=None), True) if s.trash and s.vol is None else (s, False)


def vol_rm(s: State, e: Eff, cfg: Cfg) -> Answer:
    return (s._replace(trash=None), True) if s.trash and s.trash.uid == e.a else (s, False)


def vol_check(s: State, e: Eff, cfg: Cfg) -> Answer:
    """A late deletion goes on behind its rename: the evidence again, then the fenced seal."""
    if s.trash is None:
        return s, False
    if s.trash.uid != e.a or (e.b is not None and s.trash.content != e.b):
        return vol_back(s, e, cfg)[0], False
    if "deleting" in cfg.rules and s.rec and needs_seal(s.rec, s.trash, s.epoch):
        if s.rec.owner != e.rid:
            return vol_back(s, e, cfg)[0], False
        return with_record(s, s.rec._replace(state="deleting"), cfg), True
    return s, True


def needs_seal(rec: Record, vol: Vol, epoch: int) -> bool:
    """H2: what was or may be handed out is sealed first; a half-made or given-up volume needs no seal."""
    is_unsure = rec.state == "restoring" and rec.epoch < epoch
    return vol.uid == rec.uid and (rec.state in ("ready", "archived") or is_unsure)


def mover_start(s: State, e: Eff, cfg: Cfg) -> Answer:
    if s.vol and s.vol.uid == e.a and not any(m[0] == e.a for m in s.movers):
        return s._replace(movers=s.movers | {(e.a, e.rid)}), True
    return s, False


def mover_stop(s: State, e: Eff, cfg: Cfg) -> Answer:
    return s._replace(movers=without_movers_of(s, e.a)), True


EFFECTS: dict[str, Callable[[State, Eff, Cfg], Answer]] = {
    "rec.put": rec_put,
    "rec.del": rec_del,
    "man.put": man_put,
    "man.del": man_del,
    "obj.del": obj_del,
    "up.abort": up_abort,
    "up.new": up_new,
    "up.parts": up_parts,
    "up.complete": up_complete,
    "vol.new": vol_new,
    "vol.fill": vol_fill,
    "vol.del": vol_del,
    "vol.trash": vol_trash,
    "vol.back": vol_back,
    "vol.rm": vol_rm,
    "vol.check": vol_check,
    "mover.start": mover_start,
    "mover.stop": mover_stop,
}

# The directory backend does these under the volume's lock (H7): while a late one may still land, its process lives.
UNDER_THE_LOCK = ("vol.new", "vol.trash", "vol.check", "vol.back", "vol.rm")

# A late deletion on the directory backend is a process that goes on by itself.
GOES_ON_WITH = {"vol.trash": "vol.check", "vol.check": "vol.rm"}


def is_unconditional_delete(e: Eff) -> bool:
    return e.kind in ("rec.del", "man.del", "obj.del") and e.a is None
