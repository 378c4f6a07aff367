"""Images for docker-compose.yml where there is no registry: under the real names, of Debian packages and our parts.

Their Dockerfiles are in ``tests/compose/images``, and say what differs from the real ones.
``python -m tests.harness.standins`` makes ahead what they are built on, outside the tests' timeouts.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness import baseimage, image, parts
from tests.harness.docker import Engine, EngineError

_IMAGES = Path(__file__).parents[1] / "compose/images"
_BASE = "codehub-storage-tests/debian:1"
_PACKAGES = ("ca-certificates", "curl", "gosu", "postgresql-15")
_OWN = "codehub-storage:0.1.0"
"""Our image's name in docker-compose.yml; it is the real one."""


@dataclass(frozen=True)
class StandIn:
    """``programs``: built of their Go modules, but for the ``temporal`` command, which a Python package brings."""

    name: str
    folder: str
    programs: Sequence[str]
    made_of: str


STAND_INS = (
    StandIn("postgres:16", "postgres", (), "PostgreSQL 15 of Debian, with a short entry script"),
    StandIn("temporalio/server:1.32.0", "temporal-server", ("temporal-server",), "the server 1.32.0, no entry script"),
    StandIn(
        "temporalio/admin-tools:1.32.0",
        "temporal-admin-tools",
        ("temporal", "temporal-sql-tool"),
        "the SQL tool 1.32.0 and the command line",
    ),
    StandIn("temporalio/ui:2.54.1", "temporal-ui", ("temporal-ui-server",), "the UI server 2.54.1"),
    StandIn("minio/minio:RELEASE.2025-09-07T16-13-09Z", "minio", ("minio",), "MinIO, the version of all our tests"),
    StandIn("minio/mc:RELEASE.2025-08-13T08-35-41Z", "mc", ("mc",), "its command line"),
)


def provide(engine: Engine) -> None:
    """Give the engine our image and all stand-ins, under the names in docker-compose.yml."""
    engine.docker("tag", image.provide(engine), _OWN)
    if not engine.has_image(_BASE):
        engine.docker("import", str(baseimage.debian_tar(_PACKAGES)), _BASE)
    for each in STAND_INS:
        if not engine.has_image(each.name):
            _build(engine, each)


def report() -> list[str]:
    """A line for each that says what it is."""
    return [f"{each.name} is {each.made_of}" for each in STAND_INS]


def _build(engine: Engine, stand_in: StandIn) -> None:
    """Modes are set before the copy: a change afterwards would be a second layer of the same size."""
    with tempfile.TemporaryDirectory(prefix="storage-stand-in-") as folder:
        context = Path(folder)
        shutil.copytree(_IMAGES / stand_in.folder, context, dirs_exist_ok=True)
        for program in stand_in.programs:
            _link(_program(program), context / program)
        engine.docker("build", "--build-arg", f"BASE={_BASE}", "--tag", stand_in.name, str(context))


def _program(name: str) -> Path:
    return Path(sys.executable).with_name(name) if name == "temporal" else parts.binary(name)


def _link(source: Path, target: Path) -> None:
    """A second name where that is possible; programs are large."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def main() -> int:
    """Make what takes long, and say where it is."""
    try:
        print(baseimage.debian_tar(_PACKAGES))
        for each in STAND_INS:
            for program in each.programs:
                print(_program(program))
    except (EngineError, parts.PartsError, baseimage.BaseImageError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
