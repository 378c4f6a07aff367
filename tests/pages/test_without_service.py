"""Every command of docs/without-the-service.md works where nothing is but the program, an archive, and /proc."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.sources import TOP
from tests.pages.blocks import HERE, blocks, not_executed

PAGE = TOP / "docs/without-the-service.md"
NAMES = ("home", "again")
ARCHIVE = TOP / "tests/golden/format-1/home.tar.gz"
_SHOWN = re.compile(r"```bash\n(.*)\n```\n\n```text\n((?:.*\n)*?)```")
_ENTER = 'set -e; root=$1; shift; mount -t proc proc "$root/proc"; exec /usr/sbin/chroot "$root" "$@"'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with the program, an archive that the service made, and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a root file system of its own")
    made = tmp_path_factory.mktemp("bare")
    quickly = {**os.environ, "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0"}  # compiled in a fifth of the time
    subprocess.run(["make", "--no-print-directory", "archiver-static"], cwd=TOP, env=quickly, check=True)
    shutil.copy(TOP / "dist/codehub-archive", made / "codehub-archive")
    shutil.copy(ARCHIVE, made / "home.tar.gz")
    (made / "proc").mkdir()
    return made


def typed(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    """What it says and how it ends, as the first process of the machine that ``root`` is."""
    program, *arguments = shlex.split(command)
    own = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", _ENTER, "sh")
    run = [*own, str(root), f"/{program}", *arguments]
    return subprocess.run(run, env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_every_command_works(root: Path) -> None:
    """In the page's order. What it extracts is what it then packs again."""
    commands = [command for block in blocks(PAGE, HERE) for command in block.commands]
    said = {}
    for command in commands:
        done = typed(root, command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        said[command] = done.stdout
    assert said["codehub-archive cat home.tar.gz plain.txt"] == (root / "home/plain.txt").read_text()
    listed = said["codehub-archive list home.tar.gz"].splitlines()
    assert {"plain.txt", "."} <= set(listed)
    assert len(listed) == len(said["codehub-archive list --long home.tar.gz"].splitlines())
    first, again = (said[f"codehub-archive check {name}.tar.gz"].partition(" bytes of files")[0] for name in NAMES)
    assert first == again
    shown = dict(_SHOWN.findall(PAGE.read_text()))
    assert len(shown) == 3
    assert {command: said[command] for command in shown} == shown
    assert {each.name for each in root.iterdir()} == {
        "codehub-archive",
        "proc",
        "home",
        *(f"{name}.tar.gz" for name in NAMES),
    }


def test_a_torn_archive_is_refused(root: Path) -> None:
    """Whatever is asked for, and nothing is written."""
    torn = root / "torn.tar.gz"
    torn.write_bytes(ARCHIVE.read_bytes()[:-100])
    try:
        for command in ("check torn.tar.gz", "list torn.tar.gz", "cat torn.tar.gz a", "extract torn.tar.gz never"):
            done = typed(root, f"codehub-archive {command}")
            assert done.returncode == 3
            assert done.stdout == ""
            assert done.stderr.startswith("codehub-archive: ")
        assert list((root / "never").iterdir()) == []
    finally:
        torn.unlink()
        shutil.rmtree(root / "never", ignore_errors=True)


def test_no_command_escapes() -> None:
    """As for the other pages."""
    assert not_executed(PAGE) == []
