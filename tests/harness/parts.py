"""Servers that no Python package and no Debian package brings: built from their Go modules, once, into a cache folder.

Each folder of ``tests/parts`` is a Go module of its own, so one server's requirements do not move another's. What was
built is kept under a name that changes with everything it was made from. ``python -m tests.harness.parts minio`` builds
ahead of the tests, outside their timeouts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SOURCES = Path(__file__).parents[1] / "parts"
_CACHE = "STORAGE_TESTS_CACHE"
_FOLDER = "codehub-storage-parts"
_KUBERNETES = "1.34.4"


class PartsError(Exception):
    """A part cannot be built; the message says why."""


@dataclass(frozen=True)
class _Part:
    """``programs``: the Go package of each. ``stamps``: variables that the linker sets, to tell it its version."""

    programs: Mapping[str, str]
    stamps: Mapping[str, str] = field(default_factory=dict)


_PARTS: Mapping[str, _Part] = {
    "compose": _Part(
        {"docker-compose": "github.com/docker/compose/v2/cmd"},
        {"github.com/docker/compose/v2/internal.Version": "v2.40.3"},
    ),
    "kubernetes": _Part(
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
        },
        {
            "k8s.io/component-base/version.gitVersion": f"v{_KUBERNETES}",
            "k8s.io/component-base/version.gitMajor": _KUBERNETES.split(".")[0],
            "k8s.io/component-base/version.gitMinor": _KUBERNETES.split(".")[1],
        },
    ),
    "kopia": _Part({"kopia": "github.com/kopia/kopia"}),
    "local-path": _Part({"local-path-provisioner": "github.com/rancher/local-path-provisioner"}),
    "mc": _Part({"mc": "github.com/minio/mc"}),
    "minio": _Part({"minio": "github.com/minio/minio"}),
    "restic": _Part({"restic": "github.com/restic/restic/cmd/restic"}, {"main.version": "0.18.1"}),
    "temporal": _Part(
        {
            "temporal-server": "go.temporal.io/server/cmd/server",
            "temporal-sql-tool": "go.temporal.io/server/cmd/tools/sql",
        }
    ),
    "ui": _Part({"temporal-ui-server": "github.com/temporalio/ui-server/v2/cmd/server"}),
}


def binary(program: str) -> Path:
    """The program of that name, built first where it is not in the cache. Raises ``PartsError``."""
    for part, what in _PARTS.items():
        if program in what.programs:
            return build(part) / program
    raise PartsError(
        f"no part builds {program!r}; there are {sorted(each for p in _PARTS.values() for each in p.programs)}"
    )


def build(part: str) -> Path:
    """The folder with the part's programs, built first where it is not there; others wait for the one who builds."""
    if part not in _PARTS:
        raise PartsError(f"no part {part!r}; there are {', '.join(_PARTS)}")
    folder = _folder(part)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _build(part, folder)
    return folder


def can_build(part: str) -> bool:
    """Is it in the cache, or is there a Go to build it with."""
    return _folder(part).is_dir() or shutil.which("go") is not None


def cache_folder() -> Path:
    """Where what takes long to make outlives a session: outside the checkout, so that a fresh clone finds it."""
    if named := os.environ.get(_CACHE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / _FOLDER


def pin_cache_folder() -> None:
    """Let all that is started from here use the same cache, whatever becomes of their XDG variables."""
    os.environ[_CACHE] = str(cache_folder())


def _folder(part: str) -> Path:
    """Its name changes with the versions and sums of all modules, and with how they are built."""
    digest = hashlib.sha256(repr(_PARTS[part]).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((_SOURCES / part / name).read_bytes())
    return cache_folder() / f"{part}-{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the kernel lets go of it when that one dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(part: str, folder: Path) -> None:
    """All programs of the part, or none."""
    what = _PARTS[part]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{part}-") as partial:
        result = Path(partial) / "programs"
        result.mkdir()
        _go("build", *_flags(what.stamps), "-o", f"{result}/", *what.programs.values(), cwd=_SOURCES / part)
        for program, package in what.programs.items():
            (result / package.rpartition("/")[2]).rename(result / program)
        result.rename(folder)


def _flags(stamps: Mapping[str, str]) -> Sequence[str]:
    """Small, and the same on every machine; ``-mod=readonly``: a sum that is missing is an error, not an edit."""
    variables = [f"-X={name}={value}" for name, value in stamps.items()]
    return "-mod=readonly", "-buildvcs=false", "-trimpath", f"-ldflags={' '.join(['-s', '-w', *variables])}"


def _go(*arguments: str, cwd: Path) -> None:
    """Without cgo, so that no compiler of C is needed and the programs run on any machine."""
    if shutil.which("go") is None:
        raise PartsError(f"no `go` on the path to build {cwd.name} with: install Go 1.25 or newer (https://go.dev/dl)")
    done = subprocess.run(
        ["go", *arguments],
        cwd=cwd,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise PartsError(f"`go {' '.join(arguments)}` failed in tests/parts/{cwd.name}:\n{done.stdout[-4000:]}")


def main(names: Sequence[str]) -> int:
    """Build these parts and say where they are."""
    try:
        for name in names:
            print(f"{name}: {build(name)}", flush=True)
    except PartsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
