"""The rules that make the protocol safe, each of which can be dropped alone; and mutants that must be caught.

`mark` is the rule's number in the design; of a mutant, the property that it breaks.  `witness` names a configuration in
which, without the rule, a trace comes back to a violation that begins with `shows`.  Three rules have no witness:
within the bounds nothing was found without them.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """A rule, or a mutant."""

    name: str
    mark: str
    says: str
    witness: str | None = None
    shows: str = ""


RULES = (
    Rule("run-id", "H1", "the record's owner is the run id of the claiming attempt", "cold-reset", "1 "),
    Rule(
        "deleting", "H2", "a final record state before a volume is destroyed that was handed out", "docker-half", "1 "
    ),
    Rule("given-up", "H3", "the record keeps the uids it gave up, and is written first", "undo-k8s", "1 "),
    Rule("tombstone", "H4", "purge leaves a record without a volume", "undo-k8s", "L provision"),
    Rule("wait", "H4", "an unanswered unconditional DELETE is waited out", "foreign", "1 "),
    Rule(
        "placeholder", "H5", "begin writes an empty manifest, so the proof is If-Match", "new", "10 after purge a man"
    ),
    Rule(
        "own-placeholder",
        "H5",
        "each such PUT has a nonce, so its ETag never recurs",
        "first-2late",
        "10 after purge a man",
    ),
    Rule("one-attempt", "H6", "a mover that may still hold a hung attempt is given up", "undo-k8s", "1 "),
    Rule("lock", "H7", "directory: whoever changes folder or trash holds the volume's lock", "new", "6 "),
    Rule("trash", "H7", "directory: the trash is settled before anybody looks", "new", "L archive"),
    Rule("cancel-looks", "H8", "a cancelled archive claims and looks before it answers", "cleanup", "5 "),
    Rule("ready-from", "H9", "`ready` keeps the archive id that restore's shortcut set", "cleanup", "L restore"),
    Rule("evict", "H9", "a restore that returns early stops older movers first", "cleanup", "3 "),
    Rule("leftovers", "", "purge of an archive takes a volume that nobody holds", "purge-row-cold", "L provision"),
    Rule("holder", "", "Docker: something holds the name, so that DELETE refuses; not built", "docker-half", "1 "),
    Rule(
        "prove-again",
        "C2",
        "a deletion leans on the copy that was read back; else it is read back again",
        "mirror",
        "1 ",
    ),
    Rule("fence-epoch", "H12", "a claim is for one bucket: no run goes on in a mirror of it", "mirror", "1 "),
    Rule("epoch", "H12", "a `restoring` volume of an older epoch is not disposable", "rolled-back", "1 "),
    Rule(
        "sealed-epoch",
        "H12",
        "of an older epoch, a volume of which the archive was made may be half removed",
        "rolled-back",
        "1 ",
    ),
    Rule("torn", "C3", "a record that names another archive than the manifest is told", "torn", "3 restore covered"),
    Rule("lost", "H11", "`ready` and absent is told as lost", "pruned", "3 provision covered"),
    Rule(
        "lost-kept",
        "H11",
        "the record keeps what was lost until an archive was answered",
        "pruned",
        "3 restore covered",
    ),
    Rule(
        "detach", "H13", "each path stops the mover, also where no lease holds it", "handover-cold", "3 an older mover"
    ),
    Rule("claim-wait", "H4", "a claim over an owner that never signed off waits", "unserved", "1 "),
    Rule("takes", "H10", "a place takes no `ready` and no `archived` volume of another", "two-places-warm", "3 two"),
    Rule("one-put", "H10", "owner and place in one PUT, If-Match on what was looked at", "two-places-min", "3 two"),
    Rule(
        "left-behind",
        "H10",
        "the record names volumes that it leaves at another place",
        "two-places-warm",
        "10 purge did",
    ),
    Rule("released", "", "a place takes a record only from an owner that signed off, unless told that it is dead"),
    Rule("keep-record", "", "a purge of one key keeps the record"),
    Rule("revision", "", "the record's revision grows with every PUT, so its ETag never recurs"),
)
FINAL = frozenset(rule.name for rule in RULES)

MUTANTS = (
    Rule("MUTANT no verify", "1", "the proof without reading the archive back", "warm", "1 "),
    Rule("MUTANT early delete", "1", "the volume is deleted before the manifest is written", "purge-minio", "1 "),
    Rule("MUTANT no last check", "1", "the deletion compares no fingerprint", "stale-user", "1 "),
    Rule("MUTANT no lineage", "1", "archive takes any volume of that name", "foreign", "1 "),
    Rule("MUTANT revived", "1", "archive takes a volume found `deleting` for a ready one", "docker-half", "1 "),
    Rule("MUTANT no compare", "3", "restore hands out what it has filled so far", "undo-k8s", "3 "),
    Rule("MUTANT no fence", "6", "no step reads the record's owner", "cold-reset", "1 "),
    Rule("MUTANT HEAD suffices", "1", "HEAD by key, size and archive id is enough for a deletion", "mirror-dir", "1 "),
    Rule(
        "MUTANT claim raises the epoch",
        "1",
        "what the record says bears the epoch of its last PUT",
        "rolled-back",
        "1 ",
    ),
    Rule("MUTANT no confirm", "10", "purge does not look again", "undo-k8s", "10 "),
)
