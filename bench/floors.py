"""What the machine allows: the reading, the compression, the writing and the copying that nobody can do without.

They take their turns among those who send to the sink.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import Command, Step, Turn

_HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Floor:
    """A ``Contender`` without a store. ``typed`` has TREE, TARGET, and the tree as files in memory: TAR, and TGZ."""

    name: str
    operation: str
    typed: str
    needs: Sequence[str] = ("tar",)

    @property
    def as_typed(self) -> Mapping[str, str]:
        """See the Protocol."""
        return {self.operation: self.typed}

    def prepare(self, turn: Turn) -> None:
        """Make what is read."""
        words = self.typed.split()
        if "TAR" in words:
            subprocess.run(["tar", "-C", turn.tree, "-cf", turn.scratch / "tree.tar", "."], check=True)
        if "TGZ" in words:
            line = f"tar -C {turn.tree} -cf - . | {sys.executable} -m isal.igzip -1 -c > {turn.scratch}/tree.tar.gz"
            subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], check=True)

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """See the Protocol."""
        values = {
            "TREE": turn.tree,
            "TARGET": turn.target,
            "TAR": turn.scratch / "tree.tar",
            "TGZ": turn.scratch / "tree.tar.gz",
            "python": sys.executable,
        }
        line = " ".join(str(values.get(word, word)) for word in self.typed.split())
        return {self.operation: Command(["bash", "-c", f"set -o pipefail; {line}"], _HERE)}


FLOORS: Sequence[Floor] = (
    Floor("tar, read", "archive", "tar -C TREE -cf - . | cat > /dev/null"),  # tar itself reads nothing for /dev/null
    Floor("tar, igzip -1", "archive", "tar -C TREE -cf - . | python -m isal.igzip -1 -c > /dev/null"),
    Floor("inflate, SHA-256", "restore", "python -m bench.inflating TGZ"),
    Floor("tar x", "restore", "tar -C TARGET -xf TAR"),
    Floor("memory copy", "copy", "python -m bench.copying TAR"),
)
