"""What must hold in every reachable state, numbered as section 2 of the design numbers it; L is no lock-out."""

from model.effects import land
from model.operations import step
from model.reconciler import finish, start
from model.steps import Do, End, Go
from model.ways_out import way_out
from model.world import Asked, Budget, Cfg, Eff, State, elsewhere, focus, proven

CALLS_AT_MOST = 8  # of ways out, and again of the operation
STEPS_AT_MOST = 80  # a fault-free run is far shorter: whoever is longer goes round in circles

# Called without faults from a state where no run is open, all of these must end well.
CHAIN = {
    "NEW": ("provision", "archive", "restore"),
    "WARM": ("archive", "restore"),
    "ARCHIVING": ("archive", "restore"),
    "COLD": ("restore", "archive"),
    "RESTORING": ("restore", "archive"),
    "DELETING": ("purge", "provision"),
    "DELETED": ("provision",),
}

VOLUME = "an empty volume"
Memo = dict[tuple[object, ...], str | None]


def is_lost(s: State) -> bool:
    """1: the newest content is on the volume, in the trash, or in a good object that the manifest names."""
    if s.need <= 0 or s.purging:
        return False
    o = proven(s)
    in_archive = o is not None and o.good and o.content == s.need
    volumes = (s.vol, s.trash) if s.away is None else (s.vol, s.trash, s.away.vol, s.away.trash)
    return not (in_archive or any(v is not None and v.content == s.need for v in volumes))


def unfenced(before: State, after: State, e: Eff) -> list[str]:
    """6: what a late effect of an older run did to the work of a newer one, or to a handed-out volume."""
    hit = []
    is_claim = e.kind == "rec.put" and e.a is not None and e.a.owner != e.rid
    if before.rec and after.rec != before.rec and before.rec.owner > e.rid and not is_claim:
        hit.append("newer record")
    if before.man and after.man != before.man and before.man.aid and before.man.aid[1] > e.rid:
        hit.append("newer manifest")
    if any(o.aid[1] > e.rid and o not in after.obj for o in before.obj):
        hit.append("newer archive")
    v = before.vol
    if v and after.vol != v and v.uid and not before.purging:
        if before.row == "WARM":
            hit.append("handed-out volume")
        elif v.uid[1] > e.rid:
            hit.append("newer volume")
    return [f"6 late {e.kind} hit a {what}" for what in hit]


def at_rest(s: State, cfg: Cfg, memo: Memo) -> list[str]:
    """Where no run is open: 10 after purge nothing is there, and L."""
    s = _at_home(s)
    bad: list[str] = []
    is_strangers = s.vol is not None and s.vol.uid is None
    if s.row == "DELETED":
        bad = [f"10 after purge {what}" for what in _appeared(s) if not (what == VOLUME and is_strangers)]
    complaint = None if is_strangers else locked_out(s, cfg, memo)
    return [*bad, complaint + s.tag] if complaint else bad


def _at_home(s: State) -> State:
    """Seen from the place that the record names; where nothing is left, or that place is lost, from the other."""
    if s.away is None or s.rec is None:
        return s
    state = s.rec.state
    s = focus(s, s.rec.place)
    has_nothing = not s.obj and state not in ("ready", "archived")
    is_nowhere = s.row == "LOST" or (has_nothing and s.row not in ("NEW", "DELETING", "DELETED"))
    return elsewhere(s) if is_nowhere else s


def _appeared(s: State) -> list[str]:
    """What a late create can leave is empty: an upload, a placeholder, a volume."""
    there = []
    if s.obj:
        there.append("an archive")
    if s.man:
        there.append("a manifest" if s.man.aid else "an empty manifest")
    if s.ups:
        there.append("an upload with parts" if any(u.content is not None for u in s.ups) else "an empty upload")
    if s.vol:
        there.append(VOLUME if not s.vol.content else "a volume with content")
    return [*there, "something in the trash"] if s.trash else there


def locked_out(s: State, cfg: Cfg, memo: Memo) -> str | None:
    """L: does calling the right operations, without faults, end well from here?"""
    key = (s.rec, s.obj, s.man, s.ups, s.vol, s.trash, s.row, s.keys, s.need, s.purging, s.epoch, s.untold, s.away)
    if key not in memo:
        memo[key] = _locked_out(s, cfg)
    return memo[key]


def _locked_out(s: State, cfg: Cfg) -> str | None:
    quiet = s.away._replace(movers=frozenset()) if s.away else None
    s = s._replace(late=(), movers=frozenset(), budget=Budget(), hist=(), runs=s.runs + 20, away=quiet)
    if _may_be_taken(s) and (complaint := _chain(elsewhere(s), ("restore",), cfg)):
        return complaint + " at the other place"
    is_superseded = s.away is not None and s.purging  # what a purge of another place has left is purged
    return _chain(s, CHAIN["DELETING" if is_superseded else s.row], cfg)


def _may_be_taken(s: State) -> bool:
    """H10: what is only in the archive belongs to no place."""
    is_kept = s.rec is None or s.rec.state in ("ready", "archived")
    is_asked = s.away is not None and s.away.row in ("COLD", "RESTORING")
    return is_asked and not is_kept and not s.purging and proven(s) is not None


def _chain(s: State, ops: tuple[str, ...], cfg: Cfg) -> str | None:
    for op in ops:
        s, result, bad = _with_ways_out(s, op, cfg)
        if s.run is not None:
            return f"L {op} never ends at {s.run.pc}"
        if bad:
            return f"L {op}, then: {bad[0]}"
        if result != "ok":
            return f"L {op} answers {result} for ever"
    return None


def _with_ways_out(s: State, op: str, cfg: Cfg) -> tuple[State, str, list[str]]:
    """Call; where the answer names a way out, take it, and call again."""
    asked, result, bad = Asked(), "", list[str]()
    s = start(s, op, cfg)
    for _ in range(CALLS_AT_MOST):
        called = s.run.op if s.run else op
        s, result, bad = _run_without_faults(s, cfg)
        if s.run is not None or bad or (result == "ok" and called == op):
            break
        out = (s, asked) if result == "ok" else way_out(s, op, result, asked, cfg)
        if out is None:
            break
        s, asked = out
        s = s if s.run else start(s, op, cfg)
    return s, result, bad


def _run_without_faults(s: State, cfg: Cfg) -> tuple[State, str, list[str]]:
    for _ in range(STEPS_AT_MOST):
        if s.run is None:
            break
        match step(s, s.run, cfg):
            case End(result):
                s, bad = finish(s, result)
                return s, result, bad
            case Go(run):
                s = s._replace(run=run)
            case Do(effect, done, refused, _):
                s, answer = land(s, effect, cfg)
                s = s._replace(run=done if answer else refused)
    return s, "ok", []
