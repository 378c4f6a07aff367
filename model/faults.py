"""Everything that may happen next: the run's own step, what can go wrong with it, users, movers, the reconciler."""

from collections.abc import Iterator

from model.claiming import TAKES, is_waiting
from model.effects import GOES_ON_WITH, UNDER_THE_LOCK, is_unconditional_delete, land
from model.losses import Next, is_prunable, mirrors, remembered, spend, vanished
from model.operations import is_cancellable, step
from model.properties import unfenced
from model.reconciler import NEXT_OPERATION, bad_evidence, finish, start
from model.steps import Do, End, Go
from model.world import (
    HALF_FILLED,
    Asked,
    Cfg,
    Eff,
    Run,
    State,
    Vol,
    current,
    focus,
    proven,
    stored,
    without_movers_of,
)


def successors(s: State, cfg: Cfg) -> Iterator[Next]:
    if cfg.places:
        yield from at_both_places(s, cfg)
    elif cfg.mirrors and s.budget.mirror:
        yield from mirrors(s, cfg)
        yield from (n._replace(state=remembered(s, n.state, cfg)) for n in _here(s, cfg))
    else:
        yield from _here(s, cfg)


def at_both_places(s: State, cfg: Cfg) -> Iterator[Next]:
    """The runs of two places take steps in any order."""
    for place in ("A", "B"):
        for n in _here(focus(s, place), cfg):
            yield Next(f"{n.label} at {place}", focus(n.state, "A"), n.bad)


def _here(s: State, cfg: Cfg) -> Iterator[Next]:
    has_lock_out = "lock" in cfg.rules and cfg.backend == "dir" and any(e.kind in UNDER_THE_LOCK for e in s.late)
    if has_lock_out:  # a late process holds the volume's lock until it dies
        yield Next("the late process dies", _without_late(s, UNDER_THE_LOCK), [])
    if s.run and is_waiting(s, s.run, cfg):
        rest = tuple(e for e in s.late if not is_unconditional_delete(e))
        yield Next("the late DELETE never arrives", s._replace(late=rest), [])
        if s.budget.term:
            yield Next("terminate the waiting run", spend(s._replace(run=None), "term"), [])
    elif s.run and not (has_lock_out and s.run.pc != "claim"):
        yield from _step(s, s.run, cfg)
        yield from _interruptions(s, s.run, cfg)
    yield from _late_effects(s, cfg)
    yield from _movers(s)
    yield from _users(s, cfg)
    if s.budget.prune and is_prunable(s):
        yield Next("the engine prunes the volume", vanished(spend(s, "prune")._replace(vol=None)), [])
    if not s.run and s.budget.runs:
        yield from _calls(s, cfg)
    if s.budget.reset:
        yield from _resets(s, cfg)


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
    if cfg.places and r.op == "purge" and r.pc == "inspect":
        s = s._replace(purging=True)  # not before it has the record
    match step(s, r, cfg):
        case End(result):
            yield Next(f"{who} ends: {result}", *finish(s, result))
        case Go(run):
            is_confirmed = run.op == "purge" and run.pc == "record"
            yield Next(f"{who} {r.pc} -> {run.pc}", _moved(s, run), bad_evidence(s) if is_confirmed else [])
        case Do() as act:
            after, answer = land(s, act.effect, cfg)
            label = f"{who} {r.pc}: {act.effect.kind}"
            if answer and act.done.pc == "ended":
                yield Next(f"{label}, ends: {act.done.result}", *finish(after, act.done.result or "ok"))
            else:
                run = act.done if answer else act.refused
                yield Next(label + ("" if answer else " refused"), _moved(after, run), [])
            yield from _faults_of(s, act, after, answer, label, cfg)


def _faults_of(s: State, act: Do, after: State, answer: bool, label: str, cfg: Cfg) -> Iterator[Next]:
    b, e = s.budget, act.effect
    if b.half and answer and cfg.backend != "k8s":
        if e.kind == "vol.del" and s.vol:
            broken = s._replace(vol=s.vol._replace(content=HALF_FILLED), run=act.retry)
            yield Next(label + " stops HALF-WAY", spend(broken, "half"), [])
        if e.kind == "vol.rm" and s.trash:
            broken = s._replace(trash=s.trash._replace(content=HALF_FILLED), run=act.retry)
            yield Next(label + " stops HALF-WAY", spend(broken, "half"), [])
    if b.lost and stored(after) != stored(s):
        yield Next(label + " done, answer lost", spend(after._replace(run=act.retry), "lost"), [])
    is_assumed = not cfg.signs and "wait" in cfg.rules
    if b.late and not (is_assumed and is_unconditional_delete(e)):  # H4: waited out before anything goes on
        late = s._replace(late=_captured(s.late, e._replace(at=s.here)), run=act.retry)
        if e.kind == "vol.fill" and "one-attempt" in cfg.rules:  # H6: a mover that hangs is given up
            late = late._replace(movers=without_movers_of(s, e.a))
        yield Next(label + " HANGS (may land later)", spend(late, "late"), [])


def _interruptions(s: State, r: Run, cfg: Cfg) -> Iterator[Next]:
    b, who = s.budget, f"{r.op}#{r.rid}"
    if b.cancel and is_cancellable(r):
        spent = spend(s, "cancel")
        if r.pc != "claim":
            yield Next("cancel " + who, spent._replace(run=r._replace(pc="undo", err="Cancelled")), [])
        elif "cancel-looks" in cfg.rules:
            yield Next("cancel " + who, spent._replace(run=r._replace(cancel=True)), [])
        else:
            yield Next("cancel " + who, *finish(spent, "Cancelled"))
    if b.term:
        yield Next("terminate " + who, spend(s._replace(run=None), "term"), [])
    if b.handover and cfg.backend != "dir" and (r.uid, r.rid) in s.movers and not r.loose:
        yield Next(
            f"the worker that holds the lease of {who} stops",
            spend(s._replace(run=r._replace(loose=True)), "handover"),
            [],
        )
    if r.loose and (r.uid, r.rid) in s.movers and r.pc != "undo":
        yield Next(f"the next lease of {who} adopts", s._replace(run=r._replace(loose=False)), [])
    if b.cleanup and r.op == "archive" and r.pc == "delete" and r.epoch == s.epoch:
        yield Next(who + " cannot delete: cleanup_required", *finish(spend(s, "cleanup"), "ok"))
    new = current(s)
    if b.lie and r.pc == "verify" and new and new.aid == r.aid and proven(s) != new:
        spent = spend(s, "lie")
        flipped = spent._replace(obj=(*s.obj[:-1], new._replace(good=False)))
        yield Next("the store flips a bit of the new object", flipped, [])
        yield Next("the store loses the new object", spent._replace(obj=s.obj[:-1]), [])


def _late_effects(s: State, cfg: Cfg) -> Iterator[Next]:
    for i, e in enumerate(s.late):
        if e.at != s.here:
            continue
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
            yield Next(f"mover of #{m[1]} dies", spend(without, "die"), [])


def _users(s: State, cfg: Cfg) -> Iterator[Next]:
    """Users are never noticed as "in use": the worst case."""
    b, v = s.budget, s.vol
    may_write = s.row == "WARM" or (cfg.stale_user and not s.purging)
    is_home = v is not None and v.content == s.need and v.uid and s.rec and s.rec.state != "restoring"
    if b.write and may_write and v and s.rec and is_home and (cfg.stale_user or v.uid not in s.rec.given_up):
        yield Next(*_write(s, v), [])
    if b.foreign and v is None and not s.run and s.row in ("WARM", "COLD", "RESTORING", "NEW"):
        yield Next("a stranger makes an empty volume", spend(s._replace(vol=Vol(None, 0, None)), "foreign"), [])


def _write(s: State, v: Vol) -> tuple[str, State]:
    label, tag = "user writes", s.tag
    if s.row != "WARM":
        label += " though not WARM"
        is_past_check = any(e.kind in ("vol.del", "vol.trash", "vol.check") for e in s.late)
        is_past_check = is_past_check or (s.rec is not None and s.rec.state == "deleting")
        tag = " (stale write%s)" % (" after the last check" if is_past_check else "")
    need = s.need + 1
    return label, spend(s._replace(vol=v._replace(content=need), need=need, tag=tag), "write")


def _calls(s: State, cfg: Cfg) -> Iterator[Next]:
    if s.row not in NEXT_OPERATION:
        return
    right = NEXT_OPERATION[s.row]
    spent = spend(s, "runs")
    yield Next("call " + right, start(spent, right, cfg), [])
    if cfg.places:
        yield from _calls_over_places(spent, right, cfg)
    if s.row not in ("DELETING", "DELETED"):
        yield Next("call purge", start(spent, "purge", cfg), [])
    if s.budget.stale and s.row in ("WARM", "COLD"):
        for op in ("provision", "archive", "restore"):
            if op != right:
                yield Next("stale call " + op, start(spend(spent, "stale"), op, cfg, adopted=False), [])


def _calls_over_places(s: State, right: str, cfg: Cfg) -> Iterator[Next]:
    """H10: the caller says that the old place is dead, which may be a lie; or accepts a loss, which is not one."""
    if s.budget.dead and right in TAKES:
        told = start(spend(s, "dead"), right, cfg, asked=Asked(dead=True))
        yield Next(f"call {right}, the old place is dead", told, [])
    has_somewhere = s.rec is not None and s.rec.uid and s.rec.at != s.here and proven(s) and not s.purging
    if s.budget.accept and right == "restore" and s.away and s.rec and has_somewhere:
        gone = s.away._replace(vol=None, trash=None, movers=frozenset(), run=None, row="LOST")
        late = tuple(e for e in s.late if e.at == s.here or not e.kind.startswith(("vol.", "mover.")))
        told = vanished(spend(s, "accept")._replace(away=gone, late=late))
        told = start(told, right, cfg, asked=Asked(accept=s.rec.uid, dead=True))
        yield Next("the other place is lost; call restore, accept the loss", told, [])


def _resets(s: State, cfg: Cfg) -> Iterator[Next]:
    """Temporal starts the reset run with the locals of run 1, and terminates whichever run is open."""
    for h in s.hist:
        if s.run and s.run.rid == 1 and h.pc == s.run.pc:
            continue
        rid = s.runs + 1
        owner = rid if "run-id" in cfg.rules else h.owner  # H1
        run = h._replace(rid=rid, owner=owner, serial=h.serial + 10)
        yield Next(f"RESET #1 to before {h.pc}: runs as #{rid}", spend(s._replace(run=run, runs=rid), "reset"), [])
