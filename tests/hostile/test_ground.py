"""What the file system under a restore does to it: a volume that hands ACLs down, one that fills up.

The pre-flight asks the manifest, and a manifest can lie; then the volume's own limit is what ends it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.dataplane.archiver import Wall
from activities.dataplane.foreign import ForeignLimits
from activities.dataplane.manifest import Totals
from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.archives import ignore
from tests.harness.canary import Canary
from tests.harness.trees import ACL, IS_ROOT
from tests.hostile.case import Foreign, Hostile, Own, tar
from tests.hostile.forging import block, file, honest, pax, tail
from tests.oracle.entries import Entry, FileType

MANY = 3000
FOLDER = Entry(b"d", FileType.DIRECTORY, 0o700, mtime_ns=10**9)


@pytest.mark.parametrize(
    "archive",
    [
        tar(block(b"d", b"5", mode=b"0000700\0") + file(b"d/f") + file(b"e/f")),
        Own((honest(b"d/f"), tail(FOLDER))),
    ],
    ids=["foreign", "own"],
)
async def test_no_acl_of_the_volume_leaks_into_what_is_made_below(tmp_path: Path, archive: Hostile) -> None:
    """A default ACL that the root got from its own parent would let others read what the archive closed."""
    canary = Canary(tmp_path)
    os.setxattr(canary.volume, "system.posix_acl_default", ACL)
    await archive.restore(canary, Wall.DEMANDED, ignore)
    found = [
        path for path in (canary.volume, *canary.volume.rglob("*")) if any("acl" in name for name in os.listxattr(path))
    ]
    assert not found
    assert not canary.changes()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Canary]:
    """A volume of 1 MB and 200 inodes."""
    canary = Canary(tmp_path)
    options = "size=1m,nr_inodes=200,mode=0700"
    if not IS_ROOT or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", canary.volume]).returncode:
        pytest.skip("needs root to mount")
    canary.settle()
    try:
        yield canary
    finally:
        subprocess.run(["umount", canary.volume], check=True)


def many(kind: bytes, **changes: bytes) -> bytes:
    """More entries of a kind than the volume has inodes."""
    return b"".join(block(b"%d" % number, kind, **changes) for number in range(MANY))


LOOSE = ForeignLimits(max_bytes=1 << 40)
LYING = Totals()
BOMBS: dict[str, Hostile] = {
    "foreign, bytes": Foreign(tar(file(b"f", bytes(3 << 20))).stored, LOOSE),
    "foreign, files": Foreign(tar(many(b"0")).stored, LOOSE),
    "foreign, folders": Foreign(tar(many(b"5")).stored, LOOSE),
    "foreign, folders that none announced": Foreign(
        tar(pax((b"path", b"n/" * 2000 + b"n")) + file(b"f")).stored, LOOSE
    ),
    "foreign, links": Foreign(tar(many(b"2", link=b"x")).stored, LOOSE),
    "foreign, FIFOs": Foreign(tar(many(b"6")).stored, LOOSE),
    "own, bytes": Own((honest(b"a", content=b"\xff" * (3 << 20)), tail()), totals=LYING),
    "own, files": Own((honest(*(b"%04d" % number for number in range(MANY))), tail()), totals=LYING),
    "own, folders": Own((tail(raw=many(b"5")),), totals=LYING),
    "own, links": Own((tail(raw=many(b"2", link=b"x")),), totals=LYING),
    "own, pre-flight of bytes": Own((tail(),), totals=Totals(file_bytes=3 << 20)),
    "own, pre-flight of inodes": Own((tail(),), totals=Totals(directories=100, symlinks=100, files=100)),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_volume_that_fills_up_ends_the_restore(small: Canary, bomb: str) -> None:
    """NoSpace, whatever ran out, and whatever the archive said of itself."""
    with pytest.raises(StorageError) as caught:
        await BOMBS[bomb].restore(small, Wall.DEMANDED, ignore)
    assert caught.value.code is ErrorCode.NO_SPACE, caught.value
    assert not small.changes()
