"""A segment of whole files: what is read is what was planned, and what cannot be read is named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.dataplane import pack as packing
from activities.dataplane.gzipmember import MemberWriter
from activities.dataplane.pack import pack_segment
from activities.dataplane.plan import Plan, PlanLimits
from activities.dataplane.threads import Stop, Stopped
from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.archives import plan_of
from tests.harness.trees import IS_ROOT

LIMITS = PlanLimits(segment_bytes=1 << 20)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_bytes(name.encode() * 2000)
    return root


def pack(plan: Plan) -> bytes:
    return b"".join(pack_segment(plan, plan.segment(1), Stop(), min_bytes=0).chunks)


async def test_segments_are_runs_of_one_tar(tree: Path) -> None:
    """No end-of-archive blocks in it: the next segment follows at once."""
    plan = await plan_of(tree, LIMITS)
    member = pack_segment(plan, plan.segment(1), Stop(), min_bytes=0)
    assert member.raw_bytes % 512 == 0
    assert member.raw_bytes < plan.segment(1).weight + 512


def _replace_by_link(root: Path) -> None:
    (root / "b").unlink()
    (root / "b").symlink_to("/etc/passwd")


def _replace_by_fifo(root: Path) -> None:
    (root / "b").unlink()
    os.mkfifo(root / "b")


CHANGES: list[Callable[[Path], object]] = [
    lambda root: (root / "b").write_bytes(b"other"),
    lambda root: (root / "b").unlink(),
    lambda root: (root / "b").chmod(0o600),
    lambda root: os.setxattr(root / "b", b"user.new", b"1"),
    lambda root: os.utime(root / "b"),
    _replace_by_link,
    _replace_by_fifo,
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_changed_since_the_walk(tree: Path, change: Callable[[Path], object]) -> None:
    """Its header is not the planned one, or it is not there: ``VolumeChanged``, naming it."""
    plan = await plan_of(tree, LIMITS)
    change(tree)
    with pytest.raises(StorageError) as caught:
        pack(plan)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert caught.value.details["path"] == "b"


class Meddler(MemberWriter):
    """Does something to the volume once the data of ``b`` are under way."""

    act: Callable[[], object]

    def write_from(self, fd: int, length: int, offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/b"):
            read = super().write_from(fd, 1000, offset)
            self.act()
            return read + super().write_from(fd, length - 1000, offset + 1000)
        return super().write_from(fd, length, offset)


@pytest.mark.parametrize(
    "act",
    [
        lambda root: os.truncate(root / "b", 1500),
        lambda root: (root / "b").write_bytes(b"b" * 3000),
        lambda root: (root / "b").write_bytes(b"c" * 2000),
        lambda root: (root / "b").chmod(0o600),
        lambda root: (root / "b").unlink(),
    ],
    ids=["shrinks", "grows", "other bytes", "other mode", "vanishes"],
)
async def test_a_file_that_changes_while_it_is_read(
    tree: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]
) -> None:
    """Its first bytes were those of the plan; ``VolumeChanged``, naming it."""
    plan = await plan_of(tree, LIMITS)
    monkeypatch.setattr(Meddler, "act", lambda self: act(tree), raising=False)
    monkeypatch.setattr(packing, "MemberWriter", Meddler)
    with pytest.raises(StorageError) as caught:
        pack(plan)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert caught.value.details["path"] == "b"


@pytest.mark.skipif(not IS_ROOT, reason="needs root to give rights away")
async def test_a_file_that_cannot_be_read() -> None:
    """``VolumeUnreadable`` with its name."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # whose parents are open to others
        os.chmod(folder, 0o755)
        root, spool = Path(folder, "tree"), Path(folder, "spool")
        root.mkdir()
        spool.mkdir()
        (root / "b").write_bytes(b"secret")
        (root / "b").chmod(0o600)
        plan = await plan_of(root, LIMITS, spool=spool)
        os.seteuid(65534)
        try:
            with pytest.raises(StorageError) as caught:
                pack(plan)
        finally:
            os.seteuid(0)
    assert caught.value.code is ErrorCode.VOLUME_UNREADABLE
    assert caught.value.details["path"] == "b"
    assert "Permission denied" in caught.value.message


async def test_a_segment_that_is_to_stop(tree: Path) -> None:
    """It ends at the next file."""
    plan = await plan_of(tree, LIMITS)
    stop = Stop()
    stop.stop()
    with pytest.raises(Stopped):
        pack_segment(plan, plan.segment(1), stop, min_bytes=0)
