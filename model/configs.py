"""The configurations: from where the search starts, on what kind of world, with how many faults of which kind."""

from model.world import Budget, Cfg, Manifest, Obj, Record, Site, State, Vol


def _two(name: str, budget: Budget, start: str) -> Cfg:
    return Cfg(name, budget, backend="k8s", start=start, signs=True, places=True)


CONFIGS = (
    # from nothing, and from a first volume that was never archived
    Cfg("new", Budget(runs=3, late=1, lost=1, term=1, cancel=1, write=1)),
    Cfg("new-docker", Budget(runs=3, late=1, lost=1, term=1, cancel=1, write=1), backend="docker"),
    Cfg("first", Budget(runs=4, late=1, term=1, cancel=1, write=1), start="first"),
    Cfg("first-2late", Budget(runs=2, late=2, term=1), start="first"),
    # from a restored volume with newer content than its archive
    Cfg("warm", Budget(runs=3, late=1, term=1, cancel=1, write=1, lie=1), start="warm"),
    Cfg("warm-2late", Budget(runs=3, late=2, term=1, write=1), start="warm"),
    Cfg("warm-die", Budget(runs=3, late=1, lost=1, cancel=1, die=2, write=1), start="warm"),
    Cfg("warm-half", Budget(runs=3, late=1, lost=1, term=1, half=1, write=1), start="warm"),
    Cfg("warm-versioned", Budget(runs=3, late=1, term=1, cancel=1, write=1, lie=1), versioned=True, start="warm"),
    Cfg("warm-k8s", Budget(runs=3, late=1, term=1, cancel=1, write=1, lie=1), backend="k8s", start="warm"),
    Cfg("docker-half", Budget(runs=3, late=1, term=1, half=1, write=1), backend="docker", start="warm"),
    Cfg("docker-cancel", Budget(runs=4, late=1, cancel=2, write=1, cleanup=1), backend="docker", start="warm"),
    Cfg("cleanup", Budget(runs=3, late=1, term=1, cancel=1, write=1, cleanup=1), start="warm"),
    # from an archive whose volume is gone
    Cfg("cold", Budget(runs=3, late=1, term=1, cancel=1, die=1, write=1), start="cold"),
    Cfg("cold-2late", Budget(runs=3, late=2, term=1, write=1), start="cold"),
    Cfg("cold-half", Budget(runs=3, late=1, lost=1, cancel=1, half=1, write=1), start="cold"),
    Cfg("cold-docker", Budget(runs=3, late=2, term=1, write=1), backend="docker", start="cold"),
    Cfg("cold-k8s", Budget(runs=3, late=2, term=1, write=1), backend="k8s", start="cold"),
    Cfg("undo-k8s", Budget(runs=2, late=2, cancel=1, write=1), backend="k8s", start="cold"),
    # a reset of run 1
    Cfg("warm-reset", Budget(runs=2, late=1, term=1, write=1, lie=1, reset=1), start="warm"),
    Cfg("versioned-reset", Budget(runs=2, late=1, write=1, lie=1, reset=1), versioned=True, start="warm"),
    Cfg("docker-reset", Budget(runs=2, late=1, term=1, write=1, reset=1), backend="docker", start="warm"),
    Cfg("cancel-reset", Budget(runs=2, lost=1, cancel=2, write=1, reset=1), start="warm"),
    Cfg("cold-reset", Budget(runs=2, late=1, term=1, write=1, reset=1), start="cold"),
    # somebody does what nobody should
    Cfg("stale-user", Budget(runs=2, late=1, term=1, write=2, cleanup=1), start="warm", stale_user=True),
    Cfg("stale-k8s", Budget(runs=3, late=1, term=1, write=2, cleanup=1), backend="k8s", start="warm", stale_user=True),
    Cfg("stale-call", Budget(runs=4, late=1, term=1, stale=1, write=1), start="warm"),
    Cfg("stale-cancel", Budget(runs=4, late=1, cancel=1, stale=1, write=1), start="cold"),
    Cfg("foreign", Budget(runs=3, late=1, term=1, write=1, foreign=1, stale=1), start="cold"),
    # purge: with the keys of a row only; on a store that ignores If-Match on DELETE, and on one that obeys
    Cfg("purge-row-new", Budget(runs=3, term=1, cancel=1, write=1, cleanup=1), purge_keys="row"),
    Cfg("purge-row-cold", Budget(runs=3, late=1, term=1, cancel=1, write=1, cleanup=1), purge_keys="row", start="cold"),
    Cfg("purge-minio", Budget(runs=4, late=1, term=1, write=1), start="warm"),
    Cfg("purge-cond", Budget(runs=4, late=1, term=1, write=1), start="warm", cond_delete=True),
    # the bucket is mirrored object by object, and the mirror is used from now on: [H12], [C1] to [C3], [C5]
    Cfg(
        "mirror",
        Budget(runs=2, late=1, term=1, cancel=1, half=1, mirror=1, stale=1),
        backend="docker",
        start="warm",
        mirrors="rot",
    ),
    Cfg("mirror-dir", Budget(runs=2, late=1, term=1, half=1, mirror=1, cleanup=1), start="warm", mirrors="rot"),
    Cfg(
        "rolled-back",
        Budget(runs=3, term=1, write=1, mirror=1, stale=1, half=1),
        backend="docker",
        start="cold",
        mirrors="record",
    ),
    Cfg("rolled-back-dir", Budget(runs=3, term=1, cancel=1, mirror=1, half=1), start="warm", mirrors="record"),
    Cfg(
        "torn",
        Budget(runs=3, term=1, cancel=1, write=1, mirror=1, stale=1),
        backend="docker",
        start="warm",
        mirrors="archive",
    ),
    # a volume vanishes by itself: [H11]
    Cfg("pruned", Budget(runs=3, term=1, cancel=1, write=1, prune=1, stale=1), backend="docker", start="warm"),
    Cfg("pruned-late", Budget(runs=3, late=1, term=1, cancel=1, prune=1), start="warm"),
    Cfg("pruned-new", Budget(runs=3, term=1, cancel=1, write=1, prune=1), backend="docker"),
    # a worker stops in order, and leaves its mover to the next lease: [H13]
    Cfg("handover", Budget(runs=2, late=1, cancel=1, die=1, write=1, handover=1), backend="docker", start="warm"),
    Cfg("handover-cold", Budget(runs=2, late=1, cancel=1, die=1, term=1, handover=1), backend="k8s", start="cold"),
    # signing off and waiting are steps: [H4]
    Cfg("unserved", Budget(runs=4, late=1, term=1, write=1), backend="k8s", start="gone", signs=True),
    # two places, each with runs of its own: [H10]
    _two("two-places", Budget(runs=2, late=1, term=1, write=1, dead=1), "gone"),
    _two("two-places-min", Budget(runs=2, dead=1), "gone"),
    _two("two-places-3", Budget(runs=3, term=1, write=1, dead=1), "gone"),
    _two("two-places-warm", Budget(runs=3, term=1, write=1, dead=1), "warm"),
    _two("two-places-lost", Budget(runs=3, term=1, write=1, accept=1), "warm"),
    Cfg("deep", Budget(runs=4, late=2, term=2, cancel=1, write=1), start="warm"),
)
BY_NAME = {cfg.name: cfg for cfg in CONFIGS}
NOT_EXHAUSTED = ("deep",)  # more than memory holds: searched as far as the limit, and no part of any claim


def first_state(cfg: Cfg) -> State:
    """Run 0 has brought the workspace here, long ago."""
    aid, old_uid, uid = ("A", 0), ("V", 0, 0), ("V", 0, 1)
    away = Site() if cfg.places else None
    obj, man, both = (Obj(aid, 1, True),), Manifest(aid, old_uid, 1), frozenset({"vol", "arc"})
    if cfg.start == "first":  # provisioned, written to, never archived
        vol = Vol(old_uid, 1, None)
        rec = Record(0, old_uid, "ready")
        return State(rec, vol=vol, row="WARM", keys=frozenset({"vol"}), need=1, budget=cfg.budget)
    if cfg.start == "warm":  # restored from archive A0, and written to
        rec, vol = Record(0, uid, "ready"), Vol(uid, 2, aid)
        return State(rec, obj, man, vol=vol, row="WARM", keys=both, need=2, budget=cfg.budget, away=away)
    if cfg.start == "cold":  # archived, the volume gone
        rec = Record(0, old_uid, "archived", aid, 1)
        return State(rec, obj, man, row="COLD", keys=frozenset({"arc"}), need=1, budget=cfg.budget)
    if cfg.start == "gone":  # archived, the deletion sealed and finished
        rec = Record(0, old_uid, "deleting", aid, 1)
        return State(rec, obj, man, row="COLD", keys=frozenset({"arc"}), need=1, budget=cfg.budget, away=away)
    assert cfg.start == "new", cfg.start
    return State(budget=cfg.budget)
