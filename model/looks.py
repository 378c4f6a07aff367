"""What a look asks of record, manifest and volume; nothing here writes."""

from model.world import Cfg, Obj, Record, Run, State, Uid, Vol, proven, standing


def is_rolled_back(s: State, rec: Record, cfg: Cfg) -> bool:
    """H12: what the record says of its volume was written before the mirror; much may have happened since."""
    return "epoch" in cfg.rules and rec.epoch < s.epoch


def is_never_handed_out(s: State, rec: Record, v: Vol, cfg: Cfg, r: Run) -> bool:
    """A volume of ours that nobody may be given: half made, given up, or being deleted."""
    if v.uid in rec.given_up:
        return True
    is_named = v.uid == rec.uid and rec.at == s.here
    if r.asked.accept == v.uid and not (is_named and rec.epoch == s.epoch):
        return True  # H12: its loss is accepted, and no record of this epoch vouches for it
    if is_named and rec.state == "restoring":
        return not is_rolled_back(s, rec, cfg)
    return is_named and rec.state == "deleting"


def may_be_half_removed(s: State, rec: Record, v: Vol, cfg: Cfg) -> bool:
    """H12: the archive was made of this volume, and the record may have forgotten that it was sealed."""
    is_source = s.man is not None and s.man.source == v.uid
    return "sealed-epoch" in cfg.rules and rec.epoch < s.epoch and is_source and rec.state in ("ready", "archived")


def is_lost_volume(s: State, rec: Record, cfg: Cfg) -> bool:
    """H11, where none stands: one was `ready` here and nobody of ours deleted it, now or before an earlier restore."""
    is_missed = rec.state == "ready" and rec.at == s.here
    return "lost" in cfg.rules and (is_missed or rec.lost is not None)


def losing(s: State, rec: Record, r: Run, cfg: Cfg) -> Uid | None:
    """H11: what the record keeps of a loss, in the PUT that gives that volume up; an accepted one is kept all the same.

    It is kept until an archive was answered: whoever answered that has told.
    """
    if "lost-kept" not in cfg.rules or rec.state in ("archived", "deleting"):
        return None
    is_given_up = rec.state == "ready" or (rec.uid is not None and r.asked.accept == rec.uid)
    return rec.uid if is_given_up else rec.lost


def leaving(s: State, rec: Record, cfg: Cfg) -> tuple[tuple[Uid, str], ...]:
    """H10: volumes that may still stand at a place that the record leaves."""
    if "left-behind" not in cfg.rules or rec.uid is None or rec.at == s.here or rec.gone:
        return rec.left
    return tuple(sorted({*rec.left, (rec.uid, rec.at)}))


def is_torn(s: State, rec: Record, r: Run, cfg: Cfg) -> bool:
    """C3: the record names another archive than the manifest: two ages in one mirror."""
    if "torn" not in cfg.rules or r.asked.explicit or rec.aid is None:
        return False
    is_named = rec.state in ("archived", "deleting") or (rec.state in ("restoring", None) and rec.epoch < s.epoch)
    return is_named and (s.man is None or s.man.aid != rec.aid)


def must_prove_again(s: State, rec: Record, cfg: Cfg) -> bool:
    """C2: the archive that stands for the volume may be read, but is not the copy that was read back."""
    o = proven(s)
    if "prove-again" not in cfg.rules or rec.state not in ("archived", "deleting") or o is None:
        return False
    return o.aid == rec.aid and may_stand(s, cfg) is None


def may_stand(s: State, cfg: Cfg) -> Obj | None:
    """C1: what a deletion leans on."""
    return proven(s) if "MUTANT HEAD suffices" in cfg.rules else standing(s)


def giving_up(rec: Record, cfg: Cfg) -> tuple[Uid, ...]:
    """H3: the uids given up once the record's own is replaced or cleared."""
    if "given-up" in cfg.rules and rec.uid:
        return tuple(sorted({*rec.given_up, rec.uid}))
    return rec.given_up
