"""The world that the protocol acts on, as plain values: record, objects, volume, movers, and what is still in flight.

States are hashed by the million, so all of this is tuples and frozensets.
"""

from typing import Any, NamedTuple

Uid = tuple[str, int, int]  # ("V", run, serial): the random uid of a volume, unique by construction
ArchiveId = tuple[str, int]
UploadId = tuple[str, int, int]
Mover = tuple[Uid | None, int]  # the volume that it serves, the run that started it

HALF_FILLED = -1  # content of a volume that is being restored or removed


class Record(NamedTuple):
    """`home.state`.  Its revision is modelled by `effects.with_record`, not as a number that would never recur."""

    owner: int
    uid: Uid | None = None
    state: str | None = None  # restoring | ready | archived | deleting
    aid: ArchiveId | None = None
    fp: int | None = None  # the change fingerprint: here simply the content
    given_up: tuple[Uid, ...] = ()
    epoch: int = 1  # of the bucket when uid, state, aid or fp were written last; a claim does not touch it
    lost: Uid | None = None  # it vanished while `ready`; kept until the next proof, or purge, or until accepted
    place: str = "A"  # whose runs may claim without taking it over
    at: str = "A"  # where the volume of `uid` is
    signed: bool = True  # the owner signed off (where `Cfg.signs`)
    gone: bool = False  # said at sign-off: the volume of `uid` is known to be gone
    left: tuple[tuple[Uid, str], ...] = ()  # may still stand at a place that the record left


class Obj(NamedTuple):
    """One version of `home.tar.gz`."""

    aid: ArchiveId
    content: int
    good: bool
    copy: int = 0  # ETag and version id: 0 as it was written, 1 in a bucket mirrored since


class Manifest(NamedTuple):
    """`home.tar.gz.meta`; compared by content, as its ETag is."""

    aid: ArchiveId | None
    source: Uid | None
    content: int | None
    nonce: tuple[int, int] | None = None  # of a placeholder: see the rule own-placeholder
    copy: int = 0  # ETag and version id of the object that was read back whole


class Upload(NamedTuple):
    """An open multipart upload of the key."""

    id: UploadId
    aid: ArchiveId
    content: int | None


class Vol(NamedTuple):
    """What stands under the volume's name.  A stranger's volume has no uid."""

    uid: Uid | None
    content: int
    origin: ArchiveId | None


class Asked(NamedTuple):
    """What the caller says besides the keys."""

    accept: Uid | None = None  # accept_loss of this volume
    dead: bool = False  # the old place is dead
    explicit: bool = False  # restore exactly the archive that the manifest names


class Run(NamedTuple):
    """The open workflow run: its next step and its local variables."""

    op: str
    rid: int
    owner: int
    pc: str
    serial: int = 1
    aid: ArchiveId | None = None
    uid: Uid | None = None
    upload: UploadId | None = None
    fp: int | None = None
    base: Manifest | None = None  # archive: what the proof will replace, as it was when the upload began
    cancel: bool = False  # cancelled before it claimed, or compensated and only looking now
    scope: tuple[bool, bool] | None = None  # purge: (volume, archive)
    resume: str | None = None  # archive: the step to go on with behind a new mover
    err: str | None = None
    adopted: bool = True
    asked: Asked = Asked()
    tells: bool = False  # its result names what was lost
    loose: bool = False  # its lease is between two attempts: nobody holds the mover
    result: str | None = None  # while it signs off
    epoch: int = 1  # of the bucket when it claimed


class Eff(NamedTuple):
    """One external write as sent to the server; what the operands are depends on the kind (`effects`)."""

    kind: str
    rid: int
    a: Any = None
    b: Any = None
    at: str = "A"


class Budget(NamedTuple):
    """How often each fault or event may still happen: the bounds of the search."""

    runs: int = 0
    late: int = 0  # an attempt times out and its write lands at any later time, or never
    lost: int = 0  # the write is done, its answer lost
    term: int = 0
    cancel: int = 0
    reset: int = 0
    die: int = 0  # a mover dies
    lie: int = 0  # the store flips a bit of an object, or loses it
    write: int = 0
    stale: int = 0  # the reconciler calls an operation that its row does not ask for
    foreign: int = 0  # somebody creates an empty volume of that name
    cleanup: int = 0  # the volume cannot be deleted: cleanup_required
    half: int = 0  # a removal stops half-way
    mirror: int = 0  # the bucket is mirrored object by object, and the mirror is used from now on
    prune: int = 0  # a volume that nothing mounts vanishes
    handover: int = 0  # the worker that holds a lease stops in order
    dead: int = 0  # a caller says that the old place is dead, whether it is or not
    accept: int = 0  # a place is lost for good, and a caller accepts the loss of its volume


class Cfg(NamedTuple):
    """One configuration: where it starts, what kind of world it is, what may go wrong, which rules hold."""

    name: str
    budget: Budget
    versioned: bool = False
    cond_delete: bool = False  # the store obeys If-Match on DELETE
    backend: str = "dir"
    stale_user: bool = False  # somebody writes to a volume that nobody handed out
    purge_keys: str = "both"  # row: purge gets only the keys that the reconciler's row has
    start: str = "new"
    mirrors: str = ""  # what the mirror may bring: rot | record (rolled back) | archive (rolled back, torn)
    signs: bool = False  # signing off and waiting are modelled, not assumed
    places: bool = False  # two, each with runs of its own
    rules: frozenset[str] = frozenset()


class State(NamedTuple):
    """Everything.  The first six fields are what servers and disks hold (`stored`)."""

    rec: Record | None = None
    obj: tuple[Obj, ...] = ()  # the last is current; at most one on an unversioned bucket
    man: Manifest | None = None
    ups: frozenset[Upload] = frozenset()
    vol: Vol | None = None
    trash: Vol | None = None  # directory backend: renamed away, not yet removed
    movers: frozenset[Mover] = frozenset()
    run: Run | None = None
    late: tuple[Eff, ...] = ()  # captured behind their checks; each lands once at any later time, or never
    row: str = "NEW"  # the reconciler's
    keys: frozenset[str] = frozenset()
    need: int = 0  # the newest content that a user wrote: what must never be lost
    tag: str = ""
    purging: bool = False
    hist: tuple[Run, ...] = ()  # run 1 before each of its steps: where a reset may go
    budget: Budget = Budget()
    runs: int = 0
    epoch: int = 1  # the bucket's: `init --adopt` raises it at a mirror
    past: frozenset[Any] = frozenset()  # what a mirror may roll back to
    untold: bool = False  # content vanished, and nobody has told yet
    here: str = "A"  # the place whose volume, movers, run and row stand above
    away: "Site | None" = None  # those of the other place


class Site(NamedTuple):
    """What one of two places has for itself."""

    vol: Vol | None = None
    trash: Vol | None = None
    movers: frozenset[Mover] = frozenset()
    run: Run | None = None
    row: str = "COLD"
    keys: frozenset[str] = frozenset({"arc"})


def stored(s: State) -> tuple[object, ...]:
    """What outlives every process; two states that differ only elsewhere have seen no write."""
    return s[:6]


def current(s: State) -> Obj | None:
    return s.obj[-1] if s.obj else None


def proven(s: State) -> Obj | None:
    """The object that the manifest names, if it is stored."""
    if s.man is None or s.man.aid is None:
        return None
    return next((o for o in s.obj if o.aid == s.man.aid), None)


def standing(s: State) -> Obj | None:
    """C1: the object that may stand for a volume: the very copy that was read back whole."""
    o = proven(s)
    return o if o and s.man and o.copy == s.man.copy else None


def focus(s: State, place: str) -> State:
    """The same state, seen from `place`."""
    if s.away is None or s.here == place:
        return s
    own = Site(s.vol, s.trash, s.movers, s.run, s.row, s.keys)
    return s._replace(**s.away._asdict(), here=place, away=own)


def elsewhere(s: State) -> State:
    return focus(s, "B" if s.here == "A" else "A")


def without_movers_of(s: State, uid: Uid | None) -> frozenset[Mover]:
    return frozenset(m for m in s.movers if m[0] != uid)
