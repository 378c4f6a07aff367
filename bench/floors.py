"""What the machine allows: the reading, the compression, the writing and the copying that nobody can do without.

They take their turns among those who send to the sink.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.contenders import Contender, Step, Turn, shell
from bench.figures import FLOOR_OF

_HERE = Path(__file__).parents[1]
_PROGRAMS = ("tar", "igzip")


class Floor(Contender):
    """One without a store. ``typed`` has TREE, TARGET, and the tree as files in memory: TAR, and TGZ."""

    def __init__(self, name: str, operation: str, typed: str) -> None:
        self.name = name
        self.needs = tuple(dict.fromkeys(word for word in typed.split() if word in _PROGRAMS))
        self.as_typed = {operation: typed}

    def prepare(self, turn: Turn) -> None:
        """Make what is read."""
        (typed,) = self.as_typed.values()
        if "TAR" in typed.split():
            subprocess.run(["tar", "-C", turn.tree, "-cf", turn.scratch / "tree.tar", "."], check=True)
        if "TGZ" in typed.split():
            line = f"tar -C {turn.tree} -cf - . | igzip -1 > {turn.scratch}/tree.tar.gz"
            subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], check=True)

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """See the base."""
        values = {
            "TREE": turn.tree,
            "TARGET": turn.target,
            "TAR": turn.scratch / "tree.tar",
            "TGZ": turn.scratch / "tree.tar.gz",
            "python": sys.executable,
        }
        return {
            operation: shell(" ".join(str(values.get(word, word)) for word in typed.split()), _HERE)
            for operation, typed in self.as_typed.items()
        }


FLOORS: Sequence[Floor] = (
    Floor("tar, read", "archive", "tar -C TREE -cf - . | cat > /dev/null"),  # tar itself reads nothing for /dev/null
    Floor(FLOOR_OF["archive"], "archive", "tar -C TREE -cf - . | igzip -1 > /dev/null"),
    Floor(FLOOR_OF["restore"], "restore", "igzip -d -c TGZ | tar -C TARGET -xf -"),
    Floor("tar x", "restore", "tar -C TARGET -xf TAR"),
    Floor("memory copy", "copy", "python -m bench.copying TAR"),
)
