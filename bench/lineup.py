"""All who are measured, in the order of the tables, and whether they can run here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping

from bench.contenders import Contender, Ours, search_path
from bench.peers import Kopia, Pipe, Restic
from tests.harness import parts

_AWS = {"put": "aws s3 cp - s3://{bucket}/home.tar.gz", "get": "aws s3 cp s3://{bucket}/home.tar.gz -"}
_RCLONE = {"put": "rclone rcat bench:{bucket}/home.tar.gz", "get": "rclone cat bench:{bucket}/home.tar.gz"}
_VERSIONS = (
    *((name, "--version") for name in ("tar", "gzip", "pigz", "aws", "kopia")),
    *((name, "version") for name in ("rclone", "restic", "weed")),
)
CONTENDERS: Mapping[str, Contender] = {
    each.name: each
    for each in (
        Ours(),
        Pipe("gzip-aws", "gzip", "gzip -d", **_AWS),
        Pipe("pigz-aws", "pigz", "pigz -d", **_AWS),
        Pipe("pigz1-rclone", "pigz -1", "pigz -d", **_RCLONE),
        Restic(),
        Kopia(),
    )
}


def runnable(names: Iterable[str]) -> list[Contender]:
    """Those of ``names`` that can run here; the others are told of."""
    _find_kopia()
    found = []
    for contender in (each for name, each in CONTENDERS.items() if name in names):
        lacking = [name for name in contender.needs if shutil.which(name, path=search_path()) is None]
        if lacking:
            print(f"{contender.name} is left out: {', '.join(lacking)} not installed", file=sys.stderr)
        else:
            found.append(contender)
    return found


def versions() -> dict[str, str]:
    """The first line of what each program says of its version; nothing of those that are not here."""
    _find_kopia()
    found = {}
    for command in _VERSIONS:
        program = shutil.which(command[0], path=search_path())
        if program is not None:
            said = subprocess.run([program, *command[1:]], capture_output=True, check=True, text=True)
            found[command[0]] = (said.stdout or said.stderr).splitlines()[0]
    return found


def _find_kopia() -> None:
    """It is no package, and is built where Go is."""
    if shutil.which("kopia") is None and parts.can_build("kopia"):
        os.environ["PATH"] = os.pathsep.join([str(parts.build("kopia")), os.environ.get("PATH", os.defpath)])
