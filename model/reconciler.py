"""The reconciler: it owns the row, starts runs, and believes what they return.  Results are judged here."""

from model.world import Asked, Cfg, Run, State, proven

# What the row calls next, and the row that an operation sets.
NEXT_OPERATION = {
    "NEW": "provision",
    "WARM": "archive",
    "ARCHIVING": "archive",
    "COLD": "restore",
    "RESTORING": "restore",
    "DELETING": "purge",
    "DELETED": "provision",
}
NOTHING = Asked()
ROW_DURING = {"provision": "NEW", "archive": "ARCHIVING", "restore": "RESTORING", "purge": "DELETING"}


def start(s: State, op: str, cfg: Cfg, adopted: bool = True, asked: Asked = NOTHING) -> State:
    """Open a run.  One that is not adopted was called by mistake: its result changes no row."""
    rid = s.runs + 1
    scope = None
    if op == "purge":
        scope = (True, True) if cfg.purge_keys == "both" else ("vol" in s.keys, "arc" in s.keys)
        if scope == (False, False):
            return s._replace(row="DELETED", purging=True, keys=frozenset())
    s = s._replace(run=Run(op, rid, rid, "claim", scope=scope, adopted=adopted, asked=asked), runs=rid)
    if not adopted:
        return s
    s = s._replace(row=ROW_DURING[op], purging=s.purging or (op == "purge" and not cfg.places))
    return s._replace(purging=False, need=0, tag="") if op == "provision" else s


def finish(s: State, result: str) -> tuple[State, list[str]]:
    """The run closes; its lease stops its mover; the row follows the result."""
    r = s.run
    assert r is not None
    s = s._replace(run=None, movers=frozenset(m for m in s.movers if m[1] != r.rid or r.loose))
    bad = left_under_a_mover(s, r, result)
    if s.away and s.rec and s.rec.owner != r.owner and result == "ok":
        result = "superseded"  # by another place, between its last write and its end
    if result == "Cancelled" and r.op == "archive" and s.row == "ARCHIVING":
        return s._replace(row="WARM"), bad + false_cancel(s)
    if result == "WrongStore" and s.row == ROW_DURING[r.op] and r.op != "provision":
        return s._replace(row="COLD"), bad  # it is not here
    if result == "VolumeLost" and s.row == "ARCHIVING":
        return s._replace(row="COLD" if s.obj else "NEW"), bad
    if result == "ok":
        bad += covered_up(s, r)
        s = s._replace(untold=False)
    if result != "ok" or s.row != ROW_DURING[r.op]:
        return s, bad
    if r.op in ("restore", "provision"):
        keys = s.keys | {"vol"} if r.op == "restore" else frozenset({"vol"})
        return s._replace(row="WARM", keys=keys, purging=s.purging and not s.away), bad + bad_handout(s)
    if r.op == "archive":
        o = proven(s)
        is_proof = o is not None and o.good and (o.content == s.need or s.need <= 0)
        complaints = [] if is_proof else ["3 archive returned without proof" + s.tag]
        return s._replace(row="COLD", keys=frozenset({"arc"})), bad + complaints
    return s._replace(row="DELETED", keys=frozenset(), need=0), bad + left_unnamed(s)


def left_under_a_mover(s: State, r: Run, result: str) -> list[str]:
    """Whoever lost the record may not stop anything; the new owner does."""
    is_left = result != "NotYours" and any(m[1] == r.rid for m in s.movers)
    return [f"3 {r.op} left a mover behind"] if is_left else []


def covered_up(s: State, r: Run) -> list[str]:
    """H11, H12, C3: content that vanished is told before anything stands in for it."""
    is_told = r.tells or r.asked.accept is not None or r.asked.explicit or r.op == "purge"
    return [f"3 {r.op} covered a loss up"] if s.untold and not is_told else []


def left_unnamed(s: State) -> list[str]:
    """H10: what a purge leaves at another place it names."""
    v = s.away.vol if s.away else None
    named = [uid for uid, _ in s.rec.left] if s.rec else []
    return ["10 purge did not name what it left"] if v is not None and v.uid and v.uid not in named else []


def false_cancel(s: State) -> list[str]:
    if s.vol is None:
        return ["5 cancel said cancelled, the volume is gone"]
    if s.vol.uid and s.rec and s.rec.uid == s.vol.uid and s.rec.state != "ready":
        return [f"5 cancel said cancelled, the volume is {s.rec.state}"]
    return []


def bad_handout(s: State) -> list[str]:
    if s.away and s.away.row == "WARM" and s.away.vol:
        return ["3 two volumes are handed out"]
    if s.vol is None:
        return ["3 handed out nothing"]
    if s.vol.content != s.need:
        return ["3 handed out wrong content"]
    return ["3 an older mover still writes"] if any(m[0] == s.vol.uid for m in s.movers) else []


def bad_evidence(s: State) -> list[str]:
    """Purge believes its last look; what lands after that look is judged by `properties.at_rest`."""
    left = [name for name in ("obj", "man", "ups", "vol", "trash") if getattr(s, name)]
    return ["10 purge left " + "+".join(left)] if left else []
