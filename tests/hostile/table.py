"""All hostile archives: one table of name, archive and expected end."""

from __future__ import annotations

from tests.hostile import (
    foreign_framing,
    foreign_headers,
    foreign_links,
    foreign_names,
    foreign_sparse,
    own_manifests,
    own_segments,
    own_tails,
)
from tests.hostile.case import Case

FOREIGN: list[Case] = [
    *foreign_names.CASES,
    *foreign_links.CASES,
    *foreign_headers.CASES,
    *foreign_sparse.CASES,
    *foreign_framing.CASES,
]
OWN: list[Case] = [*own_segments.CASES, *own_tails.CASES, *own_manifests.CASES]
CASES: list[Case] = [*FOREIGN, *OWN]
