"""What a user would pick instead of us; and all who are measured, and whether they can run here."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from bench.contenders import Contender, Ours, Step, Turn, client_environment, search_path, shell
from tests.harness import parts

_ROOT = Path(__file__).parents[1]


class Pipe(Contender):
    """``tar``, a compressor and a client, each a process, in a pipeline of the shell."""

    def __init__(self, name: str, compress: str, decompress: str, put: str, get: str) -> None:
        self.name = name
        self.needs = ["tar", compress.split()[0], put.split()[0]]
        self.as_typed = {
            "archive": f"tar -C TREE -cf - . | {compress} | {put}",
            "restore": f"{get} | {decompress} | tar -C TARGET -xf -",
        }

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """See the base."""
        values = {"BUCKET": turn.place.bucket, "TREE": str(turn.tree), "TARGET": str(turn.target)}
        return {
            operation: shell(
                re.sub("|".join(values), lambda found: shlex.quote(values[found[0]]), typed),
                _ROOT,
                client_environment(turn.place),
            )
            for operation, typed in self.as_typed.items()
        }


class Restic(Contender):
    """A tool that stores equal blocks once, so it may send less than the others."""

    as_typed: Mapping[str, str] = {
        "archive": "restic backup .",
        "restore": "restic restore latest --target TARGET",
    }

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self.needs = (program,)
        self._program = program

    def prepare(self, turn: Turn) -> None:
        """Make the repository."""
        _run([self._program, "init"], self._environment(turn))

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """See the base. The restore has an empty cache: it is on another machine."""
        environment = self._environment(turn)
        return {
            "archive": shell(f"{self._program} backup --quiet .", turn.tree, environment),
            "restore": shell(
                f"{self._program} restore latest --quiet --target {shlex.quote(str(turn.target))}",
                turn.tree,
                {**environment, "RESTIC_CACHE_DIR": str(turn.scratch / "cache-of-restore")},
            ),
        }

    def _environment(self, turn: Turn) -> Mapping[str, str]:
        return {
            **client_environment(turn.place),
            "RESTIC_REPOSITORY": f"s3:{turn.place.endpoint_url}/{turn.place.bucket}/restic",
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(turn.scratch / "cache"),
        }


class Kopia(Contender):
    """Like restic. It does not compress unless told to; its documentation advises zstd."""

    name = "kopia"
    needs = ("kopia",)
    as_typed: Mapping[str, str] = {
        "archive": "kopia snapshot create TREE  # after: kopia policy set --global --compression=zstd",
        "restore": "kopia restore TREE TARGET",
    }

    def prepare(self, turn: Turn) -> None:
        """Make the repository."""
        self._connect(turn, "create", "archive")
        _run(["kopia", "policy", "set", "--global", "--compression=zstd"], self._environment(turn, "archive"))

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """See the base. The restore has an empty cache: it is on another machine, which is connected by then."""
        tree, target = shlex.quote(str(turn.tree)), shlex.quote(str(turn.target))
        archive = f"kopia snapshot create --no-progress --no-auto-maintenance {tree}"
        restore = f"kopia restore --no-progress {tree} {target}"
        return {
            "archive": shell(archive, environment=self._environment(turn, "archive")),
            "restore": replace(
                shell(restore, environment=self._environment(turn, "restore")),
                prepare=lambda: self._connect(turn, "connect", "restore"),
            ),
        }

    def _connect(self, turn: Turn, verb: str, operation: str) -> None:
        place = turn.place
        address = f"--endpoint={urlsplit(place.endpoint_url).netloc}"
        where = [f"--bucket={place.bucket}", address, "--disable-tls", "--prefix=kopia/"]
        who = [f"--access-key={place.identity.access_key}", f"--secret-access-key={place.identity.secret_key}"]
        _run(["kopia", "repository", verb, "s3", *where, *who], self._environment(turn, operation))

    def _environment(self, turn: Turn, operation: str) -> Mapping[str, str]:
        own = turn.scratch / operation
        return {
            **client_environment(turn.place),
            "KOPIA_CONFIG_PATH": str(own / "kopia.config"),
            "KOPIA_CACHE_DIRECTORY": str(own / "cache"),
            "KOPIA_LOG_DIR": str(own / "logs"),
            "KOPIA_PASSWORD": "bench",
            "KOPIA_CHECK_FOR_UPDATES": "false",
        }


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """For what is not measured."""
    subprocess.run(
        command, env={**os.environ, **environment}, check=True, stdin=subprocess.DEVNULL, capture_output=True
    )


_AWS = {"put": "aws s3 cp - s3://BUCKET/home.tar.gz", "get": "aws s3 cp s3://BUCKET/home.tar.gz -"}
_CRT = {operation: f"python bench/crt.py {operation} BUCKET home.tar.gz" for operation in ("put", "get")}
_S5CMD = {"put": "s5cmd pipe s3://BUCKET/home.tar.gz", "get": "s5cmd cat s3://BUCKET/home.tar.gz"}
_RCLONE = {"put": "rclone rcat bench:BUCKET/home.tar.gz", "get": "rclone cat bench:BUCKET/home.tar.gz"}
_DEBIANS_RESTIC = "/usr/bin/restic"
_VERSIONS = {
    **{name: (name, "--version") for name in ("tar", "gzip", "pigz", "zstd", "igzip", "aws", "kopia")},
    **{name: (name, "version") for name in ("rclone", "s5cmd", "restic", "weed")},
    "restic-debian": (_DEBIANS_RESTIC, "version"),
    "boto3": ("python", "-c", "import awscrt, boto3; print('boto3', boto3.__version__, 'awscrt', awscrt.__version__)"),
}
CONTENDERS: Mapping[str, Contender] = {
    each.name: each
    for each in (
        Ours(),
        Pipe("gzip-aws", "gzip", "gzip -d", **_AWS),
        Pipe("pigz-aws", "pigz", "pigz -d", **_AWS),
        Pipe("pigz1-rclone", "pigz -1", "pigz -d", **_RCLONE),
        Pipe("pigz1-s5cmd", "pigz -1", "pigz -d", **_S5CMD),
        Pipe("pigz1-boto3-crt", "pigz -1", "pigz -d", **_CRT),
        Pipe("zstd1-rclone", "zstd -1", "zstd -d", **_RCLONE),
        Restic("restic", "restic"),
        Restic("restic-debian", _DEBIANS_RESTIC),
        Kopia(),
    )
}


def runnable(names: Iterable[str]) -> list[Contender]:
    """Those of ``names`` that can run here; the others are told of."""
    return able(each for name, each in CONTENDERS.items() if name in names)


def able(contenders: Iterable[Contender]) -> list[Contender]:
    """Those that can run here; the others are told of."""
    _find_built()
    found = []
    for contender in contenders:
        lacking = [name for name in contender.needs if shutil.which(name, path=search_path()) is None]
        if lacking:
            print(f"{contender.name} is left out: {', '.join(lacking)} not installed", file=sys.stderr)
        else:
            found.append(contender)
    return found


def versions() -> dict[str, str]:
    """The first line of what each program says of its version; nothing of those that are not here."""
    _find_built()
    found = {}
    for name, command in _VERSIONS.items():
        program = shutil.which(command[0], path=search_path())
        if program is not None:
            said = subprocess.run([program, *command[1:]], capture_output=True, check=True, text=True)
            found[name] = (said.stdout or said.stderr).splitlines()[0]
    return found


@functools.cache
def _find_built() -> None:
    """Those that are no package, or an old one, come first on the path where they can be built."""
    for part in ("kopia", "restic"):
        if parts.can_build(part):
            os.environ["PATH"] = os.pathsep.join([str(parts.build(part)), os.environ.get("PATH", os.defpath)])
