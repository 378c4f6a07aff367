"""What cannot be read, by a disk's fault or for want of rights: ``VolumeUnreadable``, naming it, whoever reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from activities.dataplane.plan import MIB, PlanLimits
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import make_archive
from tests.harness.faildisk import failing_disk
from tests.harness.trees import IS_ROOT

pytestmark = [
    pytest.mark.skipif(not IS_ROOT, reason="needs root: a disk that fails, rights to give away"),
    pytest.mark.tool("losetup", "mkfs.ext4"),
]

MARK = b"from here on the disk cannot be read"
LIMITS = PlanLimits(large_file_bytes=2 * MIB)
NAME = "folder/victim"


async def refused(root: Path) -> StorageError:
    """What an archive of it ends with; there is none then."""
    store = MemoryStore(min_part_bytes=0)
    with pytest.raises(StorageError) as caught:
        await make_archive(root, store, limits=LIMITS)
    assert caught.value.code is ErrorCode.VOLUME_UNREADABLE
    assert await store.head("ws1/home.tar.gz") is None
    return caught.value


def make_tree(root: Path, victim: bytes) -> None:
    (root / "folder").mkdir(parents=True)
    (root / "a small one").write_bytes(b"can be read")
    (root / NAME).write_bytes(victim)


@pytest.mark.parametrize("megabytes", [1, 3], ids=["among others", "of its own"])
@pytest.mark.parametrize("share", [0, 0.5], ids=["at its start", "in its middle"])
async def test_a_file_on_a_failing_disk(tmp_path: Path, megabytes: int, share: float) -> None:
    """An I/O error of the kernel, wherever it is met."""
    data = os.urandom(megabytes * MIB)
    at = int(share * len(data))
    make_tree(tmp_path / "tree", data[:at] + MARK + data[at:])
    with failing_disk(tmp_path, tmp_path / "tree", MARK) as root:
        error = await refused(root)
    assert error.details["path"] == NAME
    assert "Input/output error" in error.message


async def test_a_folder_on_a_failing_disk(tmp_path: Path) -> None:
    """Its names cannot be read: it is no empty folder."""
    make_tree(tmp_path / "tree", b"")
    (tmp_path / "tree/folder" / MARK.decode()).touch()
    with failing_disk(tmp_path, tmp_path / "tree", MARK) as root:
        error = await refused(root)
    assert error.details["path"] == "folder"
    assert "Input/output error" in error.message


@contextmanager
def as_nobody() -> Iterator[None]:
    """The whole process, its threads and what it starts, without root's rights."""
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize("what", ["a file", "a large file", "a folder", "an attribute"])
async def test_what_we_may_not_read(what: str) -> None:
    """Named, be it met by the walk or by who reads; never left out."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        root = Path(name) / "tree"
        make_tree(root, bytes(3 * MIB if what == "a large file" else 10))
        if what == "an attribute":
            os.setxattr(root / NAME, b"user.secret", b"1")
        closed = root / ("folder" if what == "a folder" else NAME)
        closed.chmod(0o700 if what == "a folder" else 0o600)
        with as_nobody():
            error = await refused(root)
        assert error.details["path"] == str(closed.relative_to(root))
        assert "Permission denied" in error.message
