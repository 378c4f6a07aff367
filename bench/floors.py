"""What the machine allows: the reading, the compression, the writing and the copying that nobody can do without.

They take their turns among those who send to the sink.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.contenders import Contender, Step, Turn, shell

_HERE = Path(__file__).parents[1]


class Floor(Contender):
    """One without a store. ``typed`` has TREE, TARGET, and the tree as files in memory: TAR, and TGZ."""

    needs = ("tar",)

    def __init__(self, name: str, operation: str, typed: str) -> None:
        self.name = name
        self.as_typed = {operation: typed}

    def prepare(self, turn: Turn) -> None:
        """Make what is read."""
        (typed,) = self.as_typed.values()
        if "TAR" in typed.split():
            subprocess.run(["tar", "-C", turn.tree, "-cf", turn.scratch / "tree.tar", "."], check=True)
        if "TGZ" in typed.split():
            line = f"tar -C {turn.tree} -cf - . | {sys.executable} -m isal.igzip -1 -c > {turn.scratch}/tree.tar.gz"
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
    Floor("tar, igzip -1", "archive", "tar -C TREE -cf - . | python -m isal.igzip -1 -c > /dev/null"),
    Floor("inflate, SHA-256", "restore", "python -m bench.inflating TGZ"),
    Floor("tar x", "restore", "tar -C TARGET -xf TAR"),
    Floor("memory copy", "copy", "python -m bench.copying TAR"),
)
