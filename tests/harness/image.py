"""Our image, built of the Dockerfile as it is, and kept for later sessions until its sources change.

``python -m tests.harness.image`` builds it ahead of the tests, outside their timeouts.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from tests.harness import baseimage
from tests.harness.docker import Engine, EngineError, running_engine, their_engine
from tests.harness.keep import forget_all_but, kept
from tests.harness.sources import TOP, copy_sources, sources

NAME = "codehub-storage:test"

_ALWAYS = ("Dockerfile", ".dockerignore")
_EXTRAS = ("docker", "kubernetes")
_CRATES_ARE_HERE = """
[net]
offline = true
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "vendor"
"""
_KEPT = 3
"""So many of one kind: a change that is taken back costs nothing."""


class ImageError(Exception):
    """It could not be built; the message shows the end of what was said."""


def image_tar() -> Path:
    """The image as ``docker save`` writes it, under ``NAME``."""
    return kept(f"image-{digest()}.tar", _make)


def provide(engine: Engine) -> str:
    """The image's name, once the engine has it. An engine of others builds it, and pulls what it is built on."""
    if not engine.is_own:
        _build(engine, has_network=True)
    elif not engine.has_image(NAME):
        engine.docker("load", "--input", str(image_tar()))
    return NAME


@pytest.fixture(scope="session")
def docker_image(docker_engine: Engine) -> str:
    """Our image in the engine of the session; its name."""
    return provide(docker_engine)


def _make(target: Path) -> None:
    with running_engine() as engine:
        if engine.is_own:
            baseimage.import_base(engine)
            baseimage.import_compiler(engine)
        _build(engine, has_network=not engine.is_own)
        engine.docker("save", "--output", str(target), NAME)
    forget_all_but(_KEPT - 1, "image-*.tar")


@functools.cache
def digest() -> str:
    """It changes with everything that the image is made of."""
    bases = () if their_engine() else (baseimage.base_tar(), baseimage.compiler_tar())
    made_of = hashlib.sha256("".join(each.name for each in bases).encode())
    names = tuple(line[1:].strip() for line in (TOP / ".dockerignore").read_text().splitlines() if line[:1] == "!")
    for path in sources():
        if {path.parts[0], str(path)} & {*names, *_ALWAYS}:
            made_of.update(f"{path}\0{(TOP / path).stat().st_mode:o}\0".encode())
            made_of.update(hashlib.sha256((TOP / path).read_bytes()).digest())
    return made_of.hexdigest()[:16]


def _build(engine: Engine, *, has_network: bool) -> None:
    """The Dockerfile on a context of the repository's files."""
    with tempfile.TemporaryDirectory(prefix="storage-image-") as folder:
        context = Path(folder) / "context"
        copy_sources(sources(), context)
        if not has_network:
            bring_along(context)
        engine.docker("build", "--tag", NAME, str(context))


def bring_along(context: Path) -> None:
    """What a build without network needs: wheels, and the archiver's crates."""
    shutil.copytree(image_wheels(), context / "wheels", copy_function=shutil.copyfile)
    bring_crates(context / "archiver")


def bring_crates(archiver: Path) -> None:
    """All that the archiver is built of, into its folder, where cargo is told to look."""
    shutil.copytree(image_crates(), archiver / "vendor", copy_function=shutil.copyfile)
    (archiver / ".cargo").mkdir()
    (archiver / ".cargo/config.toml").write_text(_CRATES_ARE_HERE)


def image_crates() -> Path:
    """The sources of all that the archiver is built of: fetched again when its lock changes."""
    lock = (TOP / "archiver/Cargo.lock").read_bytes()
    return kept(f"crates-{hashlib.sha256(lock).hexdigest()[:16]}", _fetch_crates)


def _fetch_crates(target: Path) -> None:
    manifest = str(TOP / "archiver/Cargo.toml")
    command = ["cargo", "vendor", "--quiet", "--locked", "--manifest-path", manifest, str(target)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise ImageError(f"cargo vendor:\n{done.stdout[-2000:]}")
    forget_all_but(_KEPT - 1, "crates-*")


def image_wheels() -> Path:
    """Wheels of all that the image needs from elsewhere: fetched again when that changes, not with every setting."""
    made_of = hashlib.sha256(sys.version.encode() + (TOP / "constraints.txt").read_bytes())
    for name in ("pyproject.toml", "client/pyproject.toml"):
        project = tomllib.loads((TOP / name).read_text())
        extras = project["project"].get("optional-dependencies", {})
        needed = [project["build-system"]["requires"], project["project"]["dependencies"], *map(extras.get, _EXTRAS)]
        made_of.update(repr(needed).encode())
    return kept(f"wheels-{made_of.hexdigest()[:16]}", _fetch)


def _fetch(target: Path) -> None:
    """By pip, for this Python: it must be the image's, 3.11."""
    if sys.version_info[:2] != (3, 11):
        raise ImageError("wheels for the image are fetched by Python 3.11; set DOCKER_HOST to build it with network")
    with tempfile.TemporaryDirectory(prefix="storage-wheels-") as folder:
        source = Path(folder)
        copy_sources(sources(), source)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(target)]
        done = subprocess.run(
            [*command, "--constraint", "constraints.txt", "./client", f".[{','.join(_EXTRAS)}]", "hatchling"],
            cwd=source,
            env={**os.environ, "PIP_CONSTRAINT": str(source / "constraints.txt")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise ImageError(f"pip wheel:\n{done.stdout[-2000:]}")
    for own in target.glob("codehub_storage*.whl"):  # they are built in the image, from the sources
        own.unlink()
    forget_all_but(_KEPT - 1, "wheels-*")


def main() -> int:
    """Build the image and say where it is."""
    try:
        print(image_tar())
    except (EngineError, ImageError, baseimage.BaseImageError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
