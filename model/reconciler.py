"""The reconciler: it owns the row, starts runs, and believes what they return.  Results are judged here."""

from model.world import Cfg, Run, State, proven

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
ROW_DURING = {"provision": "NEW", "archive": "ARCHIVING", "restore": "RESTORING", "purge": "DELETING"}


def start(s: State, op: str, cfg: Cfg, adopted: bool = True) -> State:
    """Open a run.  One that is not adopted was called by mistake: its result changes no row."""
    rid = s.runs + 1
    scope = None
    if op == "purge":
        scope = (True, True) if cfg.purge_keys == "both" else ("vol" in s.keys, "arc" in s.keys)
        if scope == (False, False):
            return s._replace(row="DELETED", purging=True, keys=frozenset())
    s = s._replace(run=Run(op, rid, rid, "claim", scope=scope, adopted=adopted), runs=rid)
    if not adopted:
        return s
    s = s._replace(row=ROW_DURING[op], purging=s.purging or op == "purge")
    return s._replace(purging=False, need=0, tag="") if op == "provision" else s


def finish(s: State, result: str) -> tuple[State, list[str]]:
    """The run closes; its lease stops its mover; the row follows the result."""
    r = s.run
    assert r is not None
    s = s._replace(run=None, movers=frozenset(m for m in s.movers if m[1] != r.rid))
    if result == "Cancelled" and r.op == "archive" and s.row == "ARCHIVING":
        return s._replace(row="WARM"), false_cancel(s)
    if result != "ok" or s.row != ROW_DURING[r.op]:
        return s, []
    if r.op in ("restore", "provision"):
        keys = s.keys | {"vol"} if r.op == "restore" else frozenset({"vol"})
        return s._replace(row="WARM", keys=keys), bad_handout(s)
    if r.op == "archive":
        o = proven(s)
        is_proof = o is not None and o.good and (o.content == s.need or s.need <= 0)
        complaints = [] if is_proof else ["3 archive returned without proof" + s.tag]
        return s._replace(row="COLD", keys=frozenset({"arc"})), complaints
    return s._replace(row="DELETED", keys=frozenset(), need=0), []


def false_cancel(s: State) -> list[str]:
    if s.vol is None:
        return ["5 cancel said cancelled, the volume is gone"]
    if s.vol.uid and s.rec and s.rec.uid == s.vol.uid and s.rec.state != "ready":
        return [f"5 cancel said cancelled, the volume is {s.rec.state}"]
    return []


def bad_handout(s: State) -> list[str]:
    if s.vol is None:
        return ["3 handed out nothing"]
    if s.vol.content != s.need:
        return ["3 handed out wrong content"]
    return ["3 an older mover still writes"] if any(m[0] == s.vol.uid for m in s.movers) else []


def bad_evidence(s: State) -> list[str]:
    """Purge believes its last look; what lands after that look is judged by `properties.at_rest`."""
    left = [name for name in ("obj", "man", "ups", "vol", "trash") if getattr(s, name)]
    return ["10 purge left " + "+".join(left)] if left else []
