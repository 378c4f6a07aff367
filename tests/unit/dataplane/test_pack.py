"""tar's side of a segment: what it writes is what was planned, and what it cannot read is named."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.dataplane.pack import pack_segment
from activities.dataplane.plan import Plan, PlanLimits
from activities.dataplane.threads import Stop, run_blocking
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


def fake_tar(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in tar's place; within it ``tar`` is the real one."""
    folder.mkdir()
    (folder / "tar").write_text(f"#!/bin/sh\nPATH=${{PATH#*:}}\n{script}\n")
    (folder / "tar").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


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


async def test_a_file_that_changes_while_it_is_read(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header was right, but the file became shorter behind it: tar pads and says so, and is believed."""
    (tree / "b").write_bytes(b"b" * 600_000)
    plan = await plan_of(tree, LIMITS)
    script = f"""exec 3>&1
tar "$@" --checkpoint=1 --checkpoint-action=exec='truncate -s 10 {tree}/b' >&3"""
    fake_tar(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(StorageError) as caught:
        pack(plan)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert caught.value.details["path"] == "b"


@pytest.mark.skipif(not IS_ROOT or not shutil.which("setpriv"), reason="needs root to give rights away")
async def test_a_file_that_cannot_be_read(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``VolumeUnreadable`` with its name, though the next header looks like a change."""
    (tree / "b").chmod(0o600)
    plan = await plan_of(tree, LIMITS)
    fake_tar(tmp_path / "bin", monkeypatch, 'exec setpriv --reuid 65534 --regid 65534 --clear-groups tar "$@"')
    with pytest.raises(StorageError) as caught:
        pack(plan)
    assert caught.value.code is ErrorCode.VOLUME_UNREADABLE
    assert caught.value.details["path"] == "b"
    assert "Permission denied" in caught.value.message


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('tar "$@"; exit 2', ErrorCode.VOLUME_CHANGED),
        ('tar "$@" | head -c 3000', ErrorCode.VOLUME_CHANGED),
        (
            'tar "$@"; echo "tar: b: Read error at byte 0, while reading 10240 bytes: Input/output error" >&2',
            ErrorCode.VOLUME_UNREADABLE,
        ),
        ('tar "$@"; echo "tar: b: File shrank by 3 bytes; padding with zeros" >&2; exit 1', ErrorCode.VOLUME_CHANGED),
        ("exit 0", ErrorCode.VOLUME_CHANGED),
        ("kill -9 $$", ErrorCode.VOLUME_CHANGED),
    ],
)
async def test_what_tar_says_is_not_overheard(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, code: ErrorCode
) -> None:
    """Its exit status, its words and its output must all be right."""
    plan = await plan_of(tree, LIMITS)
    fake_tar(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(StorageError) as caught:
        pack(plan)
    assert caught.value.code is code


async def test_tar_options_of_the_environment_are_not_taken(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user put into the environment does not change the format."""
    plan = await plan_of(tree, LIMITS)
    monkeypatch.setenv("TAR_OPTIONS", "--format=v7 --owner=nobody")
    assert pack(plan)


async def test_no_tar(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without it says what is missing."""
    plan = await plan_of(tree, LIMITS)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError) as caught:
        pack(plan)
    assert caught.value.code is ErrorCode.UNSUPPORTED


async def test_cancelled_with_its_tar(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the task is over, so is the tar that it started: killed and reaped."""
    plan = await plan_of(tree, LIMITS)
    fake_tar(
        tmp_path / "bin",
        monkeypatch,
        f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 600",
    )
    task = asyncio.create_task(run_blocking(lambda stop: pack_segment(plan, plan.segment(1), stop, min_bytes=0)))
    while not (tmp_path / "pid").exists():  # noqa: ASYNC110  # another process makes it
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_lock_that_its_tars_hold(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors that are passed on are open in the child."""
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    plan = Plan(**{**vars(await plan_of(tree, LIMITS)), "pass_fds": (lock,)})
    fake_tar(tmp_path / "bin", monkeypatch, f'readlink /proc/self/fd/{lock} > {tmp_path}/seen; exec tar "$@"')
    pack(plan)
    os.close(lock)
    assert (tmp_path / "seen").read_text().strip() == str(tmp_path / "lock")


def test_gnu_tar_is_the_tar_here() -> None:
    """All of this leans on its options and words."""
    said = subprocess.run(["tar", "--version"], capture_output=True, text=True, check=True).stdout
    assert "GNU tar" in said
