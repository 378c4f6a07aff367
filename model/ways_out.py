"""What a person does where an operation refuses and names a way out: adopt, accept a loss, name the archive.

Asked only where everything is at rest; a person looks first, so a home is told from a half.
"""

from model.reconciler import start
from model.world import Asked, Cfg, Manifest, Record, State, proven

Way = tuple[State, Asked]


def way_out(s: State, op: str, result: str, asked: Asked, cfg: Cfg) -> Way | None:
    """Behind the command, or with its run open; and all that was said so far.  ``None``: the answer names no way."""
    maker = "restore" if proven(s) else "provision"
    if result == "OperationInProgress":
        return _called(s, op, asked._replace(dead=True), cfg)
    if result == "WrongStore" and s.rec and s.away and s.away.row == "LOST":
        return _called(s, "restore", asked._replace(accept=s.rec.uid, dead=True), cfg)
    if result == "VolumeLost" and s.rec:
        return _called(s, maker, asked._replace(accept=s.rec.uid or s.rec.lost), cfg)
    if result == "VolumeConflict" and s.rec and s.rec.lost and s.rec.state == "restoring":
        return _called(s, maker, asked, cfg)
    if s.epoch == 1:
        return None
    if result in ("VolumeConflict", "ArchiveNotFound", "PurgeIncomplete") and s.vol and s.vol.uid:
        if s.vol.content == s.need or result == "PurgeIncomplete":
            is_known = s.rec is not None and (s.rec.uid, s.rec.state, s.rec.epoch) == (s.vol.uid, "ready", s.epoch)
            return None if is_known else (_adopted(s), asked)
        if result == "VolumeConflict":
            return _called(s, maker, asked._replace(accept=s.vol.uid), cfg)
    if result == "ArchiveNotFound":
        if s.obj:
            return _called(s, "restore", asked._replace(explicit=True), cfg)
        return _called(s, "purge", asked, cfg) if op == "provision" else None
    if result == "VolumeNotFound":
        return _called(s, "restore", asked, cfg)
    if result == "ArchiveUnproven":  # verify --write-manifest
        o = s.obj[-1]
        return s._replace(man=Manifest(o.aid, None, o.content, copy=o.copy)), asked
    if result == "LineageConflict" and op == "archive":  # purge with the archive's key only
        return s._replace(obj=(), man=None), asked
    return None


def _called(s: State, op: str, asked: Asked, cfg: Cfg) -> Way:
    return start(s, op, cfg, asked=asked), asked


def _adopted(s: State) -> State:
    """`adopt`: one conditional PUT by nobody's run; the volume that stands here is the workspace's."""
    assert s.vol is not None
    before = s.rec or Record(-1)
    adopted = before._replace(owner=-1, uid=s.vol.uid, state="ready", aid=None, fp=None, epoch=s.epoch, lost=None)
    return s._replace(rec=adopted._replace(place=s.here, at=s.here, signed=True, gone=False))
