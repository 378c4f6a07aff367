"""What takes away, or puts back, things that are not ours to keep: a mirrored bucket, a volume that vanishes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from model.effects import with_loss_admitted
from model.properties import is_lost
from model.world import Cfg, Manifest, Obj, State, proven


class Next(NamedTuple):
    """One thing that may happen, and the properties that it breaks by happening."""

    label: str
    state: State
    bad: list[str]


def spend(s: State, what: str) -> State:
    return s._replace(budget=s.budget._replace(**{what: getattr(s.budget, what) - 1}))


def is_prunable(s: State) -> bool:
    """Nothing mounts it, nothing is under way, and no object that replaced the proven one waits for its proof."""
    is_held = s.vol is None or s.vol.uid is None or any(m[0] == s.vol.uid for m in s.movers)
    is_answering = s.run is not None and s.run.pc == "handout"
    return not (is_held or is_answering or s.late or (s.obj and proven(s) is None))


def vanished(s: State) -> State:
    """Content that nobody of ours deleted is gone: what is left is what counts, and somebody must tell."""
    return with_loss_admitted(s)._replace(untold=True, purging=s.purging) if is_lost(s) else s


def remembered(before: State, after: State, cfg: Cfg) -> State:
    """What a mirror may bring back."""
    was = _age(before, cfg)
    if after.purging:
        return after._replace(past=frozenset())  # what was purged is not brought back here
    return after if _age(after, cfg) == was else after._replace(past=after.past | {was})


def _age(s: State, cfg: Cfg) -> Any:
    return s.rec if cfg.mirrors == "record" else (s.obj, s.man) if cfg.mirrors == "archive" else None


def mirrors(s: State, cfg: Cfg) -> Iterator[Next]:
    """H12, C1 to C3, C5: the bucket copied object by object, `init --adopt`, and the copy used from now on.

    Uploads are not copied.  Workers stand still meanwhile: what was under way has landed, or never will.
    """
    s = spend(s, "mirror")._replace(obj=_copied(s.obj), ups=frozenset(), late=(), epoch=s.epoch + 1)
    past, s = s.past, s._replace(past=frozenset())
    yield Next("the bucket is MIRRORED", s, [])
    if cfg.mirrors == "rot" and (rotten := _rotten(s)):
        yield Next("the bucket is MIRRORED, a block rots", rotten, [])
    if cfg.mirrors == "record":
        for then in past | {None}:
            yield Next("the bucket is MIRRORED, the record of an earlier day", s._replace(rec=then), [])
    if cfg.mirrors == "archive" and not s.purging:
        for obj, man in past:
            if torn := _torn(s, _copied(obj), man):
                yield Next("the bucket is MIRRORED, the archive of an earlier day", torn, [])


def _copied(objects: tuple[Obj, ...]) -> tuple[Obj, ...]:
    return tuple(o._replace(copy=1) for o in objects)


def _rotten(s: State) -> State | None:
    """Only where the volume stands: the only copy is the store's to keep."""
    o = proven(s)
    rotten = s._replace(obj=tuple(x._replace(good=x.good and x != o) for x in s.obj))
    return rotten if o and _is_a_copy(s) and not is_lost(rotten) else None


def _is_a_copy(s: State) -> bool:
    """What a restore has filled so far is none."""
    return s.rec is not None and s.rec.state in ("ready", "archived", "deleting")


def _torn(s: State, obj: tuple[Obj, ...], man: Manifest | None) -> State | None:
    """Object and manifest are of one age; else it is ArchiveUnproven, and the manifest is made anew."""
    torn = s._replace(obj=obj, man=man)
    if obj and proven(torn) is None:
        return None
    if not _is_a_copy(s):
        torn = vanished(torn._replace(vol=None, trash=None))._replace(vol=s.vol, trash=s.trash)
    return vanished(torn)
