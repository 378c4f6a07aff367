"""The removal of a tree: all of it, nothing else, whatever it is like."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.backends.directory.trash import remove_tree
from activities.runtime.linux.syscalls import Inode, inode
from codehub_storage.errors import ErrorCode, StorageError

NOBODY = 65534
SCRIPT = """
import os, resource, sys
from pathlib import Path
from activities.runtime.linux.syscalls import inode
from activities.backends.directory.trash import remove_tree
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
path, user = Path(sys.argv[1]), int(sys.argv[2])
if user != os.geteuid():
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
remove_tree(path, inode(path))
"""


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody asked to remove; it is as it was afterwards."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept").write_text("kept")
    folder.chmod(0o750)
    yield folder
    assert (folder / "kept").read_text() == "kept"
    assert folder.stat().st_mode & 0o777 == 0o750


def known(path: Path) -> Inode:
    """The inode that stands there."""
    found = inode(path)
    assert found is not None
    return found


def make_odd(tree: Path, outside: Path | None = None) -> Path:
    """Links, pipes, names that are no text, folders and files that forbid everything."""
    tree.mkdir()
    raw = os.fsencode(tree)
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b" ", b"*", b"x" * 255):
        with open(raw + b"/" + name, "wb") as file:
            file.write(name)
    os.mkdir(raw + b"/\xffdir")
    os.mkfifo(tree / "pipe")
    (tree / "dangling").symlink_to("nowhere")
    (tree / "loop").symlink_to("loop")
    if outside is not None:
        (tree / "way-out").symlink_to(outside)
        os.link(outside / "kept", tree / "shared")
    closed = tree / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner/file").write_text("x")
    (closed / "inner/file").chmod(0)
    (closed / "inner").chmod(0)
    closed.chmod(0o500)
    return tree


def test_an_odd_tree(tmp_path: Path, outside: Path) -> None:
    """All goes, no link is followed, what is linked elsewhere stays there."""
    tree = make_odd(tmp_path / "tree", outside)
    remove_tree(tree, known(tree))
    assert sorted(os.listdir(tmp_path)) == ["outside"]


def test_missing_is_fine(tmp_path: Path) -> None:
    """Called again after it was done."""
    tree = make_odd(tmp_path / "tree")
    stood = known(tree)
    remove_tree(tree, stood)
    remove_tree(tree, stood)


def test_deeper_than_any_path(tmp_path: Path) -> None:
    """A chain far longer than PATH_MAX goes with a handful of descriptors, and without recursion."""
    tree = tmp_path / "tree"
    tree.mkdir()
    here = os.open(tree, os.O_RDONLY)
    name = "folder" * 20
    for _ in range(400):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    run_script(tree)
    assert not tree.exists()


def test_wide(tmp_path: Path) -> None:
    """Many files and many folders side by side."""
    tree = tmp_path / "tree"
    for number in range(400):
        (tree / f"folder{number}").mkdir(parents=True)
        (tree / f"folder{number}/file").touch()
        (tree / f"file{number}").touch()
    remove_tree(tree, known(tree))
    assert not tree.exists()


def test_as_an_ordinary_user() -> None:
    """Folders of mode 0000 are opened up by their owner; nobody's privilege is needed."""
    folder = Path(tempfile.mkdtemp())
    try:
        tree = make_odd(folder / "tree")
        if os.geteuid() == 0:
            subprocess.run(["chown", "-hR", f"{NOBODY}:{NOBODY}", folder], check=True)
            run_script(tree, user=NOBODY)
        else:
            run_script(tree)
        assert os.listdir(folder) == []
    finally:
        shutil.rmtree(folder)


def test_another_folder_is_kept(tmp_path: Path) -> None:
    """What stands there must be what was meant."""
    tree, other = make_odd(tmp_path / "tree"), tmp_path / "other"
    other.mkdir()
    with pytest.raises(StorageError) as error:
        remove_tree(tree, known(other))
    assert error.value.code is ErrorCode.VOLUME_CONFLICT
    assert (tree / "closed").exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, outside: Path) -> None:
    """The folder was replaced by a link: nothing behind it is touched."""
    stood = known(outside)
    (tmp_path / "tree").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        remove_tree(tmp_path / "tree", stood)


def test_stopped_and_gone_on(tmp_path: Path) -> None:
    """A removal that is told to stop stops between folders, and the next one finishes."""
    tree = make_odd(tmp_path / "tree")
    stood = known(tree)
    answers = iter([False, False, True])
    with pytest.raises(StorageError) as error:
        remove_tree(tree, stood, is_stopped=lambda: next(answers))
    assert error.value.code is ErrorCode.BACKEND_UNAVAILABLE
    assert tree.exists()
    assert len(os.listdir(tree)) < 12
    remove_tree(tree, stood)
    assert not tree.exists()


def test_somebody_keeps_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is never empty ends the removal with an error; it does not go on for ever."""
    tree = tmp_path / "tree"
    (tree / "busy").mkdir(parents=True)
    rmdir = os.rmdir

    def write_and_remove(name: bytes, *, dir_fd: int) -> None:
        (tree / "busy/more").touch()
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", write_and_remove)
    with pytest.raises(StorageError) as error:
        remove_tree(tree, known(tree))
    assert error.value.code is ErrorCode.VOLUME_IN_USE


def run_script(tree: Path, *, user: int | None = None) -> None:
    """The removal in a process with 64 descriptors, perhaps of another user."""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", SCRIPT, str(tree), str(os.geteuid() if user is None else user)]
    subprocess.run(command, env=environment, cwd="/", check=True)
