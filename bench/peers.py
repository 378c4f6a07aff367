"""What a user would pick instead of us."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.contenders import Command, Step, Turn, client_environment


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

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """See the Protocol."""
        tree, target = shlex.quote(str(turn.tree)), shlex.quote(str(turn.target))
        return {
            operation: Command(
                ["bash", "-c", "set -o pipefail; " + typed.replace("BUCKET", turn.place.bucket).replace("TREE", tree)
                 .replace("TARGET", target)],
                environment=client_environment(turn.place),
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

    def steps(self, turn: Turn) -> Mapping[str, Step]:
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
            **client_environment(turn.place),
            "RESTIC_REPOSITORY": f"s3:{turn.place.endpoint_url}/{turn.place.bucket}/restic",
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(turn.scratch / "cache"),
        }


class Kopia:
    """Like restic. It does not compress unless told to; its documentation advises zstd."""

    name = "kopia"
    needs: Sequence[str] = ("kopia",)
    as_typed: Mapping[str, str] = {
        "archive": "kopia snapshot create TREE  # after: kopia policy set --global --compression=zstd",
        "restore": "kopia restore TREE TARGET",
    }

    def prepare(self, turn: Turn) -> None:
        """Make the repository."""
        self._connect(turn, "create", "archive")
        _run(["kopia", "policy", "set", "--global", "--compression=zstd"], self._environment(turn, "archive"))

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """See the Protocol. The restore has an empty cache: it is on another machine, which is connected by then."""
        tree, target = str(turn.tree), str(turn.target)
        return {
            "archive": Command(
                ["kopia", "snapshot", "create", "--no-progress", "--no-auto-maintenance", tree],
                environment=self._environment(turn, "archive"),
            ),
            "restore": Command(
                ["kopia", "restore", "--no-progress", tree, target],
                environment=self._environment(turn, "restore"),
                before=lambda: self._connect(turn, "connect", "restore"),
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


def _run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What it says; for what is not measured."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.stdout
