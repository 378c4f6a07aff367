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


class Obj(NamedTuple):
    """One version of `home.tar.gz`."""

    aid: ArchiveId
    content: int
    good: bool


class Manifest(NamedTuple):
    """`home.tar.gz.meta`; compared by content, as its ETag is."""

    aid: ArchiveId | None
    source: Uid | None
    content: int | None
    nonce: tuple[int, int] | None = None  # of a placeholder: see the rule own-placeholder


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


class Eff(NamedTuple):
    """One external write as sent to the server; what the operands are depends on the kind (`effects`)."""

    kind: str
    rid: int
    a: Any = None
    b: Any = None


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


def without_movers_of(s: State, uid: Uid | None) -> frozenset[Mover]:
    return frozenset(m for m in s.movers if m[0] != uid)
