"""What the final protocol is known to leave open: the admitted windows, by configuration.

Anything else that a search finds is a defect of the protocol.  `*` stands for "after a stale write": somebody wrote to
a volume that nobody had handed out.
"""

import re

from model.world import Cfg

# A create that was sent before purge and lands after its last look.  Empty, and the next run clears it.
AFTER_PURGE = frozenset({"10 after purge an empty upload", "10 after purge an empty manifest"})
# On a directory the lock keeps it out.
AFTER_PURGE_BY_SERVER = AFTER_PURGE | {"10 after purge an empty volume"}

BY_CONFIG = {
    # A volume left by cleanup_required was written to: archive again cures it.
    "stale-user": {
        "3 archive returned without proof*",
        "L provision, then: 3 handed out wrong content*",
        "L restore answers VolumeConflict for ever*",
    },
    # A write after the last check is lost.  The kinds without `*` are the model's: such a writer before any hand-out.
    "stale-k8s": {
        "1 NO COMPLETE COPY*",
        "3 archive returned without proof*",
        "3 handed out wrong content",
        "L archive, then: 3 archive returned without proof*",
        "L provision, then: 3 handed out wrong content*",
        "L restore answers VolumeConflict for ever*",
        "L restore, then: 3 handed out wrong content",
        "L restore, then: 3 handed out wrong content*",
    },
    # The mirror has rotted, and what stands is sealed: told, and left as it is.  The files can be copied out of it.
    "mirror": {"L archive answers ArchiveCorrupt for ever"},
    "mirror-dir": {"L archive answers ArchiveCorrupt for ever", "L restore answers ArchiveCorrupt for ever"},
    # The mirror has no archive of that age, or a home stands beside an older archive: told; purge is the way on.
    "torn": {
        "L archive answers ArchiveNotFound for ever",
        "L restore answers ArchiveNotFound for ever",
        "L restore answers VolumeConflict for ever",
    },
    # Purge with the keys of a row only: what the row does not know stays.  Hence the rule "pass both keys".
    "purge-row-new": {
        "10 after purge a manifest",
        "10 after purge an archive",
        "10 after purge an empty volume",
        "10 after purge an upload with parts",
        "10 after purge something in the trash",
        "10 purge left man",
        "10 purge left man+ups",
        "10 purge left obj+man",
        "L provision answers LineageConflict for ever",
    },
    "purge-row-cold": {
        "10 after purge a volume with content",
        "10 after purge an empty volume",
        "10 after purge something in the trash",
        "10 purge left vol",
        "3 handed out wrong content",
        "L provision, then: 3 handed out wrong content",
        "L restore, then: 3 handed out wrong content",
    },
}


def is_expected(kind: str, cfg: Cfg) -> bool:
    anywhere = AFTER_PURGE if cfg.backend == "dir" else AFTER_PURGE_BY_SERVER
    return without_tags(kind) in anywhere | BY_CONFIG.get(cfg.name, set())


def without_tags(kind: str) -> str:
    """A complaint may bear the tag of its state and that of the result within."""
    return re.sub(r"( \(stale write[^)]*\))+", "*", kind)
