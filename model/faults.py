"""Everything that may happen next: the run's own step, what can go wrong with it, users, movers, the reconciler."""

from collections.abc import Iterator
from typing import NamedTuple

from model.effects import GOES_ON_WITH, UNDER_THE_LOCK, is_unconditional_delete, land
from model.operations import is_cancellable, step
from model.properties import unfenced
from model.reconciler import NEXT_OPERATION, bad_evidence, finish, start
from model.steps import Do, End, Go
from model.world import HALF_FILLED, Cfg, Eff, Run, State, Vol, current, proven, stored, without_movers_of


class Next(NamedTuple):
    """One thing that may happen, and the properties that it breaks by happening."""

    label: str
    state: State
    bad: list[str]


def successors(s: State, cfg: Cfg) -> Iterator[Next]:
    has_lock_out = "lock" in cfg.rules and cfg.backend == "dir" and any(e.kind in UNDER_THE_LOCK for e in s.late)
    if has_lock_out:  # a late process holds the volume's lock until it dies
        yield Next("the late process dies", _without_late(s, UNDER_THE_LOCK), [])
    if s.run and not (has_lock_out and s.run.pc != "claim"):
        yield from _step(s, s.run, cfg)
        yield from _interruptions(s, s.run, cfg)
    yield from _late_effects(s, cfg)
    yield from _movers(s)
    yield from _users(s, cfg)
    if not s.run and s.budget.runs:
        yield from _calls(s, cfg)
    if s.budget.reset:
        yield from _resets(s, cfg)


def _spend(s: State, what: str) -> State:
    return s._replace(budget=s.budget._replace(**{what: getattr(s.budget, what) - 1}))


def _without_late(s: State, kinds: tuple[str, ...]) -> State:
    return s._replace(late=tuple(e for e in s.late if e.kind not in kinds))


def _captured(late: tuple[Eff, ...], e: Eff) -> tuple[Eff, ...]:
    return tuple(sorted((*late, e), key=repr))  # a canonical order: which was sent first does not matter


def _moved(s: State, run: Run) -> State:
    if s.budget.reset and run.rid == 1 and run.pc not in [h.pc for h in s.hist]:
        s = s._replace(hist=(*s.hist, run))
    return s._replace(run=run)


def _step(s: State, r: Run, cfg: Cfg) -> Iterator[Next]:
    who = f"{r.op}#{r.rid}"
    match step(s, r, cfg):
        case End(result):
            yield Next(f"{who} ends: {result}", *finish(s, result))
        case Go(run):
            is_confirmed = run.op == "purge" and run.pc == "record"
            yield Next(f"{who} {r.pc} -> {run.pc}", _moved(s, run), bad_evidence(s) if is_confirmed else [])
        case Do() as act:
            after, answer = land(s, act.effect, cfg)
            label = f"{who} {r.pc}: {act.effect.kind}"
            yield Next(label + ("" if answer else " refused"), _moved(after, act.done if answer else act.refused), [])
            yield from _faults_of(s, act, after, answer, label, cfg)


def _faults_of(s: State, act: Do, after: State, answer: bool, label: str, cfg: Cfg) -> Iterator[Next]:
    b, e = s.budget, act.effect
    if b.half and answer and cfg.backend != "k8s":
        if e.kind == "vol.del" and s.vol:
            broken = s._replace(vol=s.vol._replace(content=HALF_FILLED), run=act.retry)
            yield Next(label + " stops HALF-WAY", _spend(broken, "half"), [])
        if e.kind == "vol.rm" and s.trash:
            broken = s._replace(trash=s.trash._replace(content=HALF_FILLED), run=act.retry)
            yield Next(label + " stops HALF-WAY", _spend(broken, "half"), [])
    if b.lost and stored(after) != stored(s):
        yield Next(label + " done, answer lost", _spend(after._replace(run=act.retry), "lost"), [])
    if b.late and not ("wait" in cfg.rules and is_unconditional_delete(e)):  # H4: waited out before anything goes on
        late = s._replace(late=_captured(s.late, e), run=act.retry)
        if e.kind == "vol.fill" and "one-attempt" in cfg.rules:  # H6: a mover that hangs is given up
            late = late._replace(movers=without_movers_of(s, e.a))
        yield Next(label + " HANGS (may land later)", _spend(late, "late"), [])


def _interruptions(s: State, r: Run, cfg: Cfg) -> Iterator[Next]:
    b, who = s.budget, f"{r.op}#{r.rid}"
    if b.cancel and is_cancellable(r):
        spent = _spend(s, "cancel")
        if r.pc != "claim":
            yield Next("cancel " + who, spent._replace(run=r._replace(pc="undo", err="Cancelled")), [])
        elif "cancel-looks" in cfg.rules:
            yield Next("cancel " + who, spent._replace(run=r._replace(cancel=True)), [])
        else:
            yield Next("cancel " + who, *finish(spent, "Cancelled"))
    if b.term:
        yield Next("terminate " + who, _spend(s._replace(run=None), "term"), [])
    if b.cleanup and r.op == "archive" and r.pc == "delete":
        yield Next(who + " cannot delete: cleanup_required", *finish(_spend(s, "cleanup"), "ok"))
    new = current(s)
    if b.lie and r.pc == "verify" and new and new.aid == r.aid and proven(s) != new:
        spent = _spend(s, "lie")
        flipped = spent._replace(obj=(*s.obj[:-1], new._replace(good=False)))
        yield Next("the store flips a bit of the new object", flipped, [])
        yield Next("the store loses the new object", spent._replace(obj=s.obj[:-1]), [])


def _late_effects(s: State, cfg: Cfg) -> Iterator[Next]:
    for i, e in enumerate(s.late):
        rest = s.late[:i] + s.late[i + 1 :]
        after, answer = land(s._replace(late=rest), e, cfg)
        follow = GOES_ON_WITH.get(e.kind) if answer else None
        if follow:
            after = after._replace(late=_captured(after.late, e._replace(kind=follow)))
        if follow or stored(after) != stored(s):
            is_own = s.run is not None and s.run.rid == e.rid
            yield Next(f"LATE {e.kind} of #{e.rid} lands", after, [] if is_own else unfenced(s, after, e))


def _movers(s: State) -> Iterator[Next]:
    for m in s.movers:
        without = s._replace(movers=s.movers - {m})
        if not s.run or m[1] != s.run.rid:
            yield Next(f"orphan mover of #{m[1]} stops", without, [])
        elif s.budget.die:
            yield Next(f"mover of #{m[1]} dies", _spend(without, "die"), [])


def _users(s: State, cfg: Cfg) -> Iterator[Next]:
    """Users are never noticed as "in use": the worst case."""
    b, v = s.budget, s.vol
    may_write = s.row == "WARM" or (cfg.stale_user and not s.purging)
    if b.write and may_write and v and v.content == s.need and v.uid and s.rec and s.rec.state != "restoring":
        yield Next(*_write(s, v), [])
    if b.foreign and v is None and not s.run and s.row in ("WARM", "COLD", "RESTORING", "NEW"):
        yield Next("a stranger makes an empty volume", _spend(s._replace(vol=Vol(None, 0, None)), "foreign"), [])


def _write(s: State, v: Vol) -> tuple[str, State]:
    label, tag = "user writes", s.tag
    if s.row != "WARM":
        label += " though not WARM"
        is_past_check = any(e.kind in ("vol.del", "vol.trash", "vol.check") for e in s.late)
        is_past_check = is_past_check or (s.rec is not None and s.rec.state == "deleting")
        tag = " (stale write%s)" % (" after the last check" if is_past_check else "")
    need = s.need + 1
    return label, _spend(s._replace(vol=v._replace(content=need), need=need, tag=tag), "write")


def _calls(s: State, cfg: Cfg) -> Iterator[Next]:
    right = NEXT_OPERATION[s.row]
    spent = _spend(s, "runs")
    yield Next("call " + right, start(spent, right, cfg), [])
    if s.row not in ("DELETING", "DELETED"):
        yield Next("call purge", start(spent, "purge", cfg), [])
    if s.budget.stale and s.row in ("WARM", "COLD"):
        for op in ("provision", "archive", "restore"):
            if op != right:
                yield Next("stale call " + op, start(_spend(spent, "stale"), op, cfg, adopted=False), [])


def _resets(s: State, cfg: Cfg) -> Iterator[Next]:
    """Temporal starts the reset run with the locals of run 1, and terminates whichever run is open."""
    for h in s.hist:
        if s.run and s.run.rid == 1 and h.pc == s.run.pc:
            continue
        rid = s.runs + 1
        owner = rid if "run-id" in cfg.rules else h.owner  # H1
        run = h._replace(rid=rid, owner=owner, serial=h.serial + 10)
        yield Next(f"RESET #1 to before {h.pc}: runs as #{rid}", _spend(s._replace(run=run, runs=rid), "reset"), [])
