"""What a contender is, and the first of them: us. Each has a command for archive and one for restore."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import ours
from bench.measure import Measured, measure, measure_forked
from bench.store import Place

_ROOT = Path(__file__).parents[1]
TOOLS = _ROOT / ".venv-bench" / "bin"
"""Where `make` installs clients whose requirements do not agree with ours."""


@dataclass(frozen=True)
class Step:
    """One operation of one contender. ``measure`` does it, or raises ``CommandFailed``; ``prepare`` comes before it and
    is not measured."""

    measure: Callable[[], Measured]
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Turn:
    """One contender's turn: the tree, an empty folder to restore into, an empty bucket, a folder for its own files."""

    tree: Path
    target: Path
    place: Place
    scratch: Path


class Contender:
    """One way to bring a tree into a bucket and back.

    ``needs``: commands without which it cannot run. ``as_typed``: by operation, as a reader would type it; TREE, TARGET
    and BUCKET stand for ours.
    """

    name: str
    needs: Sequence[str] = ()
    as_typed: Mapping[str, str]

    def prepare(self, turn: Turn) -> None:
        """What is done once for a new store, not measured."""

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """By operation, in the order in which they run: `archive`, perhaps `verify`, `restore`."""
        raise NotImplementedError


class Ours(Contender):
    """The bare data plane, in a process of its own as a mover is."""

    name = "ours"
    as_typed: Mapping[str, str] = {
        operation: f"python -m bench.ours {operation} JOB PROOF" for operation in ("archive", "verify", "restore")
    }

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """See the base."""
        return {
            operation: self._step(operation, turn, folder)
            for operation, folder in (("archive", turn.tree), ("verify", turn.tree), ("restore", turn.target))
        }

    def _step(self, operation: str, turn: Turn, folder: Path) -> Step:
        place = turn.place
        who = place.identity
        path, proof = turn.scratch / f"{operation}.json", turn.scratch / "proof.json"
        ours.Job(str(folder), place.endpoint_url, who.access_key, who.secret_key, place.bucket).write(path)
        return Step(partial(measure_forked, ours.__name__, ours.run_as_mover, operation, str(path), str(proof)))


class SendsOnly(Contender):
    """Another contender, whose archive alone is measured."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self.name = contender.name

    def prepare(self, turn: Turn) -> None:
        """See the base."""
        self._contender.prepare(turn)

    def steps(self, turn: Turn) -> Mapping[str, Step]:
        """See the base."""
        return {"archive": self._contender.steps(turn)["archive"]}


def shell(line: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Step:
    """A pipeline, which fails where one of its programs does. ``environment`` adds to ours."""
    return Step(partial(measure, ["bash", "-c", f"set -o pipefail; {line}"], cwd=cwd, environment=environment))


def search_path() -> str:
    """Our tools first."""
    return os.pathsep.join([str(TOOLS), os.environ.get("PATH", os.defpath)])


def client_environment(place: Place) -> dict[str, str]:
    """Credentials and addresses for all of them, and no configuration of whoever measures."""
    return {
        **place.environment(),
        "PATH": search_path(),
        "S3_ENDPOINT_URL": place.endpoint_url,  # s5cmd's own name for it
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
        "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
        "RCLONE_CONFIG_BENCH_ENDPOINT": place.endpoint_url,
    }


def phases_of(said: str) -> dict[str, float]:
    """What our own command says of its phases; nothing of the others."""
    return dict(json.loads(said)) if said.startswith("{") else {}
