"""The images that our Dockerfile is built on, made of Debian packages where there is no registry to pull them from."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.harness.docker import Engine
from tests.harness.keep import kept

NAME = "python:3.11-slim-bookworm"
"""Its name in the Dockerfile. The official one has Python in /usr/local; both have `python3` on the path."""

COMPILER = "debian:bookworm"
"""What the archiver is built on. The official one gets these packages by apt-get; here there is no network to do so."""

_PACKAGES = ("ca-certificates", "gzip", "python3", "python3-venv", "tar")
_COMPILER_PACKAGES = ("ca-certificates", "cargo-web", "gcc", "libc6-dev", "libisal-dev", "pkg-config")
_NOT_NEEDED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)


class BaseImageError(Exception):
    """It could not be made; the message shows the end of what was said."""


def base_tar() -> Path:
    """Its file system as a tar, made once."""
    return debian_tar(_PACKAGES)


def compiler_tar() -> Path:
    """The same of what the archiver is built on."""
    return debian_tar(_COMPILER_PACKAGES)


def debian_tar(packages: Sequence[str], suite: str = "bookworm") -> Path:
    """The file system of a bare Debian with these packages as a tar, made once."""
    digest = hashlib.sha256(repr((suite, tuple(packages), _NOT_NEEDED)).encode()).hexdigest()[:16]
    return kept(f"debian-{digest}.tar", functools.partial(_make, packages, suite))


def import_base(engine: Engine) -> None:
    """Give the engine the image, unless it has one of that name."""
    _import(engine, NAME, base_tar)


def import_compiler(engine: Engine) -> None:
    """The same, of what the archiver is built on: only a build of our image needs it."""
    _import(engine, COMPILER, compiler_tar)


def _import(engine: Engine, name: str, tar: Callable[[], Path]) -> None:
    if not engine.has_image(name):
        engine.docker("import", "--change", 'CMD ["bash"]', str(tar()), name)


def _make(packages: Sequence[str], suite: str, target: Path) -> None:
    """In namespaces of its own: what it mounts and starts is gone with it, even if it is killed."""
    with tempfile.TemporaryDirectory(prefix="storage-base-") as folder:
        root = Path(folder) / "root"
        _run(
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
            *("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(root)),
        )
        for each in _NOT_NEEDED:
            shutil.rmtree(root / each, ignore_errors=True)
            (root / each).mkdir(parents=True)
        _run("tar", "--numeric-owner", "--one-file-system", "-C", str(root), "-cf", str(target), ".")


def _run(*command: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise BaseImageError(f"{' '.join(command)}:\n{done.stdout[-2000:]}")
