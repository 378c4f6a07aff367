"""What others bring back of each row of docs/fidelity.md: `make fidelity` runs them and writes their cells.

Our own cells are tests (tests/fidelity). Needs root, restic and Docker: what they lose depends on their versions.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.fidelity.case import NO, YES, Case
from tests.fidelity.cases import CASES
from tests.fidelity.looking import differences, look_at, without
from tests.fidelity.page import OTHERS, PAGE, replaced
from tests.harness.docker import OwnEngine

FAILS = "fails"
Trip = Callable[[Path, Path, Path], None]
"""From a folder into an empty one; a third is empty, for what lies between. ``CalledProcessError`` where it fails."""

_IMAGE = "codehub-fidelity"
_PASSWORD = "fidelity"


def main() -> int:
    """Run all, or the rows whose titles contain one of the arguments, which are then printed only."""
    rows = [case for case in CASES if not sys.argv[1:] or any(word in case.title for word in sys.argv[1:])]
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="codehub-fidelity-")))
        trips = dict(zip(OTHERS, _trips(scratch, stack), strict=True))
        cells = {case.title: [_judge(case, name, trip, scratch) for name, trip in trips.items()] for case in rows}
        versions = _versions()
    if len(rows) < len(CASES):
        print(cells)
        return 0
    PAGE.write_text(replaced(PAGE.read_text(), cells, versions))
    return 0


def _judge(case: Case, name: str, trip: Trip, scratch: Path) -> str:
    """The cell, and on stderr why it is not `yes`."""
    folders = [scratch / part for part in ("source", "target", "between")]
    for folder in folders:
        folder.mkdir()
    source, target, between = folders
    try:
        case.make(os.fsencode(source))
        before = without(look_at(source), "")
        try:
            trip(source, target, between)
        except subprocess.CalledProcessError as error:
            _tell(case, name, FAILS, [(error.stderr or b"").decode(errors="replace").strip()[-300:]])
            return FAILS
        found = differences(before, without(look_at(target), ""), case.aspects)
        _tell(case, name, NO if found else YES, found)
        return NO if found else YES
    finally:
        for folder in folders:
            _run("rm", "-rf", str(folder))


def _tell(case: Case, name: str, cell: str, why: Sequence[str]) -> None:
    print(f"{case.title} | {name} | {cell}", *(f"    {line[:200]}" for line in why[:4]), sep="\n", file=sys.stderr)


def _trips(scratch: Path, stack: contextlib.ExitStack) -> Iterator[Trip]:
    """In the order of the page."""
    yield _tar(("-czf",), ("-xzf",))
    attributes = ("--xattrs", "--acls")
    yield _tar((*attributes, "-czf"), (*attributes, "-xpzf"))
    everything = (*attributes, "--xattrs-include=*", "--numeric-owner")
    yield _tar(("--format=posix", "--sparse", *everything, "-czf"), (*everything, "-xpzf"))
    yield _restic(scratch / "repository")
    yield _docker(stack.enter_context(OwnEngine()))


def _tar(create: Sequence[str], extract: Sequence[str]) -> Trip:
    def trip(source: Path, target: Path, between: Path) -> None:
        archive = str(between / "home.tar.gz")
        _run("tar", *create, archive, "-C", str(source), ".")
        _run("tar", *extract, archive, "-C", str(target))

    return trip


def _restic(repository: Path) -> Trip:
    def restic(*arguments: str, at: Path) -> None:
        command = ["restic", "--quiet", "--no-cache", "--repo", str(repository), *arguments]
        _run(*command, cwd=at, env={**os.environ, "RESTIC_PASSWORD": _PASSWORD})

    def trip(source: Path, target: Path, between: Path) -> None:
        if not repository.exists():
            restic("init", at=between)
        restic("backup", ".", at=source)
        restic("restore", "latest", "--target", str(target), at=between)

    return trip


def _docker(engine: OwnEngine) -> Trip:
    """Out of one container's volume as a stream, and into another's."""
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("nothing"))
    engine.docker("import", "-", _IMAGE, input=empty.getvalue())

    def run(script: str) -> None:
        _run("sh", "-c", script, env={**engine.environment(), "PATH": f"/usr/bin:{os.environ['PATH']}"})

    def trip(source: Path, target: Path, between: Path) -> None:
        for name, folder, command in (
            ("one", source, f"docker cp -a one:/home - > {between}/home.tar"),
            ("other", target, f"docker cp -a - other:/ < {between}/home.tar"),
        ):
            mount = ["--opt", "type=none", "--opt", "o=bind", "--opt", f"device={folder}"]
            engine.docker("volume", "create", *mount, name)
            engine.docker("create", "--name", name, "--volume", f"{name}:/home", _IMAGE, "/nothing")
            try:
                run(command)
            finally:
                engine.docker("rm", name)
                engine.docker("volume", "rm", name)

    return trip


def _run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)


def _versions() -> str:
    """Which programs and kernel."""
    said = [_first_line("tar", "--version"), _first_line("restic", "version"), _first_line("/usr/bin/docker", "-v")]
    return f"{'; '.join(said)}; Linux {platform.release().partition('-')[0]}"


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return done.stdout.splitlines()[0].partition(" compiled")[0].partition(", build")[0]


if __name__ == "__main__":
    missing = [
        name for name in ("tar", "restic", "dockerd", "getfattr", "setfacl", "filefrag") if not shutil.which(name)
    ]
    if missing or os.geteuid() != 0:
        sys.exit(f"this needs root, and: apt-get install acl attr docker.io e2fsprogs restic ({missing} missing)")
    sys.exit(main())
