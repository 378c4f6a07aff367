"""Who is measured: us, and what a user would pick instead. Each is a command for archive and one for restore."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.ours import Job
from bench.store import Place

_ROOT = Path(__file__).parents[1]
_KEY = "home.tar.gz"
TOOLS = _ROOT / ".venv-bench" / "bin"
"""Where `make` installs clients whose requirements do not agree with ours."""


@dataclass(frozen=True)
class Command:
    """``environment`` adds to ours."""

    arguments: Sequence[str]
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """One contender's turn: the tree, an empty folder to restore into, an empty bucket, a folder for its own files."""

    tree: Path
    target: Path
    place: Place
    scratch: Path


class Contender(Protocol):
    """One way to bring a tree into a bucket and back."""

    @property
    def name(self) -> str:
        """In tables and on the command line."""
        ...

    @property
    def needs(self) -> Sequence[str]:
        """Commands without which it cannot run."""
        ...

    @property
    def as_typed(self) -> Mapping[str, str]:
        """By operation, as a reader would type it: TREE, TARGET and BUCKET stand for ours."""
        ...

    def prepare(self, turn: Turn) -> None:
        """What is done once for a new store, not measured."""
        ...

    def commands(self, turn: Turn) -> Mapping[str, Command]:
        """By operation, in the order in which they run: `archive`, perhaps `verify`, `restore`."""
        ...


class Ours:
    """The bare data plane, in a process of its own as a mover is."""

    name = "ours"
    needs: Sequence[str] = ()
    as_typed: Mapping[str, str] = {
        operation: f"python -m bench.ours {operation} JOB PROOF" for operation in ("archive", "verify", "restore")
    }

    def prepare(self, turn: Turn) -> None:
        """Nothing."""

    def commands(self, turn: Turn) -> Mapping[str, Command]:
        """See the Protocol."""
        return {
            operation: self._command(operation, turn, folder)
            for operation, folder in (("archive", turn.tree), ("verify", turn.tree), ("restore", turn.target))
        }

    def _command(self, operation: str, turn: Turn, folder: Path) -> Command:
        place = turn.place
        who = place.identity
        path, proof = turn.scratch / f"{operation}.json", turn.scratch / "proof.json"
        Job(str(folder), place.endpoint_url, who.access_key, who.secret_key, place.bucket).write(path)
        return Command([sys.executable, "-m", "bench.ours", operation, str(path), str(proof)], _ROOT)


@dataclass(frozen=True)
class Pipe:
    """``tar``, a compressor and a client, each a process, in a pipeline of the shell."""

    name: str
    compress: str
    decompress: str
    put: str
    get: str

    @property
    def needs(self) -> Sequence[str]:
        """See the Protocol."""
        return ["tar", *(each.split()[0] for each in (self.compress, self.put))]

    @property
    def as_typed(self) -> Mapping[str, str]:
        """See the Protocol."""
        return {
            "archive": f"tar -C TREE -cf - . | {self.compress} | {self.put.format(bucket='BUCKET')}",
            "restore": f"{self.get.format(bucket='BUCKET')} | {self.decompress} | tar -C TARGET -xf -",
        }

    def prepare(self, turn: Turn) -> None:
        """Nothing."""

    def commands(self, turn: Turn) -> Mapping[str, Command]:
        """See the Protocol."""
        tree, target = shlex.quote(str(turn.tree)), shlex.quote(str(turn.target))
        return {
            operation: Command(
                ["bash", "-c", "set -o pipefail; " + typed.replace("BUCKET", turn.place.bucket).replace("TREE", tree)
                 .replace("TARGET", target)],
                environment=_environment(turn.place),
            )
            for operation, typed in self.as_typed.items()
        }  # fmt: skip


class Restic:
    """A tool that stores equal blocks once, so it may send less than the others."""

    name = "restic"
    needs: Sequence[str] = ("restic",)
    as_typed: Mapping[str, str] = {
        "archive": "restic backup .",
        "restore": "restic restore latest --target TARGET",
    }

    def prepare(self, turn: Turn) -> None:
        """Make the repository."""
        _run(["restic", "init"], self._environment(turn))

    def commands(self, turn: Turn) -> Mapping[str, Command]:
        """See the Protocol. The restore has an empty cache: it is on another machine."""
        environment = self._environment(turn)
        return {
            "archive": Command(["restic", "backup", "--quiet", "."], turn.tree, environment),
            "restore": Command(
                ["restic", "restore", "latest", "--quiet", "--target", str(turn.target)],
                turn.tree,
                {**environment, "RESTIC_CACHE_DIR": str(turn.scratch / "cache-of-restore")},
            ),
        }

    def _environment(self, turn: Turn) -> Mapping[str, str]:
        return {
            **_environment(turn.place),
            "RESTIC_REPOSITORY": f"s3:{turn.place.endpoint_url}/{turn.place.bucket}/restic",
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(turn.scratch / "cache"),
        }


_AWS = {"put": "aws s3 cp - s3://{bucket}/" + _KEY, "get": "aws s3 cp s3://{bucket}/" + _KEY + " -"}
_RCLONE = {"put": "rclone rcat bench:{bucket}/" + _KEY, "get": "rclone cat bench:{bucket}/" + _KEY}
CONTENDERS: Mapping[str, Contender] = {
    each.name: each
    for each in (
        Ours(),
        Pipe("gzip-aws", "gzip", "gzip -d", **_AWS),
        Pipe("pigz-aws", "pigz", "pigz -d", **_AWS),
        Pipe("pigz1-rclone", "pigz -1", "pigz -d", **_RCLONE),
        Restic(),
    )
}
"""In the order of the tables. A contender is a peer unless it is `ours`."""


def missing(contender: Contender) -> list[str]:
    """The commands that it needs and that are not here."""
    return [name for name in contender.needs if shutil.which(name, path=search_path()) is None]


def search_path() -> str:
    """Our tools first."""
    return os.pathsep.join([str(TOOLS), os.environ.get("PATH", os.defpath)])


def _environment(place: Place) -> dict[str, str]:
    """Credentials and addresses for all of them, and no configuration of whoever measures."""
    return {
        **place.environment(),
        "PATH": search_path(),
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
        "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
        "RCLONE_CONFIG_BENCH_ENDPOINT": place.endpoint_url,
    }


def _run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What it says; for what is not measured."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.stdout


def phases_of(said: str) -> dict[str, float]:
    """What our own command says of its phases; nothing of the others."""
    return dict(json.loads(said)) if said.startswith("{") else {}
