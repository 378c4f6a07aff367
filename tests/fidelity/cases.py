"""All rows of docs/fidelity.md, in its order. To add one, add it here: our test and the page's follow."""

from __future__ import annotations

from tests.fidelity.attributes import ATTRIBUTES
from tests.fidelity.kinds import KINDS, LINKS
from tests.fidelity.names import NAMES

CASES = (*ATTRIBUTES, *LINKS, *KINDS, *NAMES)
