"""Homes to measure with: of packages from the registries, of what is installed here, and of a seed."""

from __future__ import annotations

import random
import shutil
import sys
import zlib
from pathlib import Path

from examples.demo.project import make_project
from examples.demo.telling import Telling
from worker.cli.output import Output

_KIB, _MIB = 1 << 10, 1 << 20
_PROJECTS = (
    (("express", "eslint", "lodash", "typescript"), ("flask", "pytest", "requests", "rich")),
    (("react", "react-dom", "vite", "vitest"), ("django", "httpx", "pydantic", "sphinx")),
)
"""Packages of npm and of PyPI of each project; of each there are two checkouts, as people have them."""
_SMALL_FILES, _SMALL_BYTES = 500, 10 * _MIB
_OBJECTS, _LOGS, _LOG_BYTES, _BUILD_BYTES = 3000, 20, 16 * _MIB, 1200 * _MIB
_RELINKED_EVERY = 64 * _KIB


def make_small(home: Path) -> None:
    """10 MiB in 500 files of text."""
    source = random.Random(1)
    words = _words(source)
    for number in range(_SMALL_FILES):
        folder = home / f"folder-{number % 20}"
        folder.mkdir(exist_ok=True)
        (folder / f"file-{number}.txt").write_bytes(_text(source, words, _SMALL_BYTES // _SMALL_FILES))


async def make_developer(home: Path) -> None:
    """About 2.5 GB and 60,000 entries: projects with node_modules and a virtual environment, git objects, logs,
    binaries of a build."""
    telling = Telling(Output(as_json=True, stdout=sys.stderr, stderr=sys.stderr))
    for number, (npm_packages, pip_packages) in enumerate(_PROJECTS):
        project = home / f"project-{number}"
        project.mkdir()
        await make_project(project, telling, npm_packages=npm_packages, pip_packages=pip_packages)
        shutil.copytree(project, home / f"project-{number}-copy", symlinks=True)
    source = random.Random(2)
    _make_objects(home / "repository/.git/objects", source)
    _make_logs(home / "logs", source)
    _make_build(home / "build", source)


def size_of(home: Path) -> tuple[int, int]:
    """Entries, and bytes of files, each counted once."""
    entries, seen, total = 0, set(), 0
    for path in home.rglob("*"):
        entries += 1
        status = path.lstat()
        if path.is_file() and not path.is_symlink() and status.st_ino not in seen:
            seen.add(status.st_ino)
            total += status.st_size
    return entries, total


def _make_objects(folder: Path, source: random.Random) -> None:
    """As git keeps them: compressed one by one, most of them small."""
    for number in range(_OBJECTS):
        here = folder / f"{number % 256:02x}"
        here.mkdir(parents=True, exist_ok=True)
        size = min(int(source.paretovariate(0.9) * 2 * _KIB), _MIB)
        (here / f"{number:038x}").write_bytes(zlib.compress(source.randbytes(size)))


def _make_logs(folder: Path, source: random.Random) -> None:
    folder.mkdir()
    words = _words(source)
    for number in range(_LOGS):
        with (folder / f"service-{number}.log").open("wb") as file:
            for _ in range(_LOG_BYTES // _MIB):
                file.write(_text(source, words, _MIB))


def _make_build(folder: Path, source: random.Random) -> None:
    """Shared objects and programs of this environment, as often as it takes. A copy has other addresses here and there,
    as after a change and a build: whole copies would be a gift to tools that store equal blocks once."""
    folder.mkdir()
    found = sorted(path for path in Path(sys.prefix).rglob("*.so*") if path.is_file() and not path.is_symlink())
    found += [path for path in (Path(sys.prefix, "bin", name) for name in ("weed", "temporal")) if path.exists()]
    total, number = 0, 0
    while total < _BUILD_BYTES:
        content = bytearray(found[number % len(found)].read_bytes())
        for offset in range(0, len(content) - 8, _RELINKED_EVERY) if number >= len(found) else ():
            content[offset : offset + 8] = source.randbytes(8)
        (folder / f"{number}-{found[number % len(found)].name}").write_bytes(content)
        total += len(content)
        number += 1


def _words(source: random.Random) -> list[bytes]:
    return [source.randbytes(source.randint(1, 6)).hex().encode() for _ in range(4000)]


def _text(source: random.Random, words: list[bytes], size: int) -> bytes:
    """Lines that compress about as logs do."""
    text = bytearray()
    while len(text) < size:
        text += b" ".join(source.choices(words[: source.choice((50, 400, 4000))], k=12)) + b"\n"
    return bytes(text[:size])
