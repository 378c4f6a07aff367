"""An archive of ours, opened by six tools that know nothing of us: the same tree, but for what each says it cannot."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import TINY, make_archive
from tests.harness.trees import IS_ROOT, make_rich_tree, snapshot

Tree = dict[bytes, dict[str, Any]]


@pytest.fixture
async def archive(tmp_path: Path) -> Path:
    """The rich tree stands in ``tree``, its archive beside it."""
    root = tmp_path / "tree"
    root.mkdir()
    make_rich_tree(root)
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(root, store, limits=TINY)
    assert len(made.manifest.segments) > 20  # cuts within files, too
    found = await store.get(made.info.key)
    assert found is not None
    (tmp_path / "home.tar.gz").write_bytes(found[0])
    return tmp_path / "home.tar.gz"


@dataclass(frozen=True)
class Reader:
    """A tool, and what it is known not to bring back (``lose`` takes it out of both sides)."""

    command: tuple[str, ...]
    lose: Callable[[dict[str, Any]], None] = lambda facts: None
    complaint: bytes = b""


def _without_acls(facts: dict[str, Any]) -> None:
    """bsdtar: no ``system.*``; GNU's escapes in names stay as they are; a fraction before 1970 goes the wrong way."""
    facts["xattrs"] = {
        name: value for name, value in facts["xattrs"].items() if not name.startswith("system.") and "%" not in name
    }
    if facts["mtime"] < 0:
        del facts["mtime"]


def _seconds_and_no_attributes(facts: dict[str, Any]) -> None:
    """busybox: whole seconds from 1970 on, none for links and the root; small ids, none for links; modes as root."""
    del facts["xattrs"]
    facts["mode"] = facts.get("mode") if IS_ROOT else None
    is_link = stat.S_ISLNK(facts["type"])
    facts["mtime"] = None if is_link or facts["path"] == b"" or facts["mtime"] < 10**9 else facts["mtime"] // 10**9
    facts["owner"] = None if is_link or facts["path"] == b"a/x" else facts["owner"]


def _times_as_floats(facts: dict[str, Any]) -> None:
    """Python: times go through a float, links get none; no attributes."""
    del facts["xattrs"]
    facts["mtime"] = None if stat.S_ISLNK(facts["type"]) else round(facts["mtime"], -4)


PYTHON = 'import tarfile; tarfile.open("../home.tar.gz").extractall(numeric_owner=True)'
READERS = {
    "tar": Reader(("tar", "-xzpf", "../home.tar.gz", "--xattrs", "--xattrs-include=*", "--numeric-owner")),
    "pigz": Reader(("tar", "-Ipigz", "-xpf", "../home.tar.gz", "--xattrs", "--xattrs-include=*", "--numeric-owner")),
    "bsdtar": Reader(
        ("bsdtar", "-xzpf", "../home.tar.gz", "--numeric-owner"),
        _without_acls,
        b"Pathname can't be converted from UTF-8",  # a name that is none; it is written all the same
    ),
    "busybox": Reader(("busybox", "tar", "xzpf", "../home.tar.gz"), _seconds_and_no_attributes),
    "python": Reader((sys.executable, "-W", "ignore", "-c", PYTHON), _times_as_floats),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.tool(*(() if name in ("tar", "python") else (name,)))) for name in READERS],
)
def test_the_same_tree(archive: Path, tmp_path: Path, name: str) -> None:
    """Paths, kinds, data, modes, link targets and groups always; times, owners and attributes as far as it can."""
    reader, out = READERS[name], tmp_path / "out"
    out.mkdir()
    done = subprocess.run(reader.command, cwd=out, capture_output=True)
    assert done.returncode == 0 or (reader.complaint and reader.complaint in done.stderr), done.stderr
    assert as_read_by(reader, out) == as_read_by(reader, tmp_path / "tree")


def as_read_by(reader: Reader, root: Path) -> Tree:
    tree = snapshot(root, ignore=frozenset({"sparse"} if IS_ROOT else {"sparse", "owners"}))
    for path, facts in tree.items():
        facts["path"] = path
        facts.setdefault("owner", None)
        reader.lose(facts)
    return tree


@pytest.mark.parametrize("tool", ["gzip", pytest.param("pigz", marks=pytest.mark.tool("pigz"))])
def test_one_gzip_file(archive: Path, tool: str) -> None:
    """Many members are whole to those who check nothing but gzip."""
    assert subprocess.run([tool, "-t", archive], capture_output=True).stderr == b""
