"""What may be in a volume when a restore begins: folders of an earlier attempt, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.dataplane.beneath import Beneath
from activities.dataplane.links import prepare_root
from codehub_storage.errors import ErrorCode, StorageError

IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "file": lambda at: at.write_bytes(b""),
    "FIFO": os.mkfifo,
    "link to nothing": lambda at: at.symlink_to("nothing"),
    "link to a folder inside": lambda at: at.symlink_to("."),
    "link to a folder outside": lambda at: at.symlink_to("/usr"),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_is_no_folder_is_a_conflict(tmp_path: Path, what: str) -> None:
    """A link to a folder too: writers would go through it."""
    (tmp_path / "a/b").mkdir(parents=True)
    IN_THE_WAY[what](tmp_path / "a/b/x")
    with Beneath(tmp_path) as beneath, pytest.raises(StorageError) as caught:
        prepare_root(beneath, "the volume")
    assert caught.value.code is ErrorCode.VOLUME_CONFLICT
    assert "a/b/x" in caught.value.message


def test_folders_of_an_earlier_attempt_may_be_of_any_depth(tmp_path: Path) -> None:
    """1,500 levels, which is more than Python recurses."""
    with Beneath(tmp_path) as beneath:
        beneath.makedirs(b"/".join([b"d"] * 1500))
        prepare_root(beneath, "the volume")
    remove_deep(tmp_path / "d")


def remove_deep(folder: Path) -> None:
    """A chain of folders, which the standard library could not remove."""
    with Beneath(folder.parent) as beneath:
        path = os.fsencode(folder.name)
        names = [path]
        while found := os.listdir(beneath.folder(path)):
            path += b"/" + os.fsencode(found[0])
            names.append(path)
    with Beneath(folder.parent) as beneath:
        for name in reversed(names):
            parent, last = beneath.split(name)
            os.rmdir(last, dir_fd=parent)
