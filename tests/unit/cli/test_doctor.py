"""What `doctor` makes of what it finds: rules of a bucket, mounts, and checks that hang or break."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from activities.dataplane.probing import Probe
from activities.objectstore.bucket import LifecycleRule
from activities.runtime.linux.mounts import mount_of
from codehub_storage.errors import ErrorCode, StorageError
from worker.cli.answers import Verdict
from worker.cli.checks import machine
from worker.cli.checks.bucket import judge_lifecycle, judge_versioning
from worker.cli.checks.machine import machine_checks
from worker.cli.checks.running import Check, Finding, fails, in_thread, ok, run_all, warning
from worker.cli.commands.doctor import exit_for
from worker.cli.exits import Exit
from worker.settings import Retention, Settings

DAYS = {"Days": 30}


def rule(prefix: str = "", *, is_narrowed: bool = False, **actions: Any) -> LifecycleRule:
    """One that is enabled."""
    return LifecycleRule("tidy", prefix, is_narrowed, actions)


@pytest.mark.parametrize(
    ("rules", "used", "keeps", "verdict", "words"),
    [
        ([], [], False, "ok", "no rules"),
        ([rule(Expiration=DAYS)], [], False, "fails", "deletes objects of all keys"),
        ([rule(Expiration={"Date": "2027-01-01"})], [], False, "fails", "deletes objects"),
        ([rule(Expiration={"ExpiredObjectDeleteMarker": True})], [], False, "ok", "none of which"),
        ([rule("Logs/", Expiration=DAYS)], [], False, "ok", "none of which"),
        ([rule("ws1/logs/", Expiration=DAYS)], [], False, "ok", "none of which"),
        ([rule("ws1/", Expiration=DAYS)], ["ws1/"], False, "fails", "below 'ws1/'"),
        ([rule("ws1/home", Expiration=DAYS)], ["ws1/home"], False, "fails", "below 'ws1/home'"),
        ([rule("archives/", Expiration=DAYS)], ["archives/"], False, "fails", "below 'archives/'"),
        ([rule("tmp/", Expiration=DAYS)], [], False, "warning", "if one of that name comes"),
        ([rule(is_narrowed=True, Expiration=DAYS)], [], False, "ok", "none of which"),
        ([rule(NoncurrentVersionExpiration={"NoncurrentDays": 1})], [], True, "fails", "retention keep"),
        ([rule(NoncurrentVersionExpiration={"NoncurrentDays": 1})], [], False, "ok", "none of which"),
        ([rule(Transitions={"StorageClass": "DEEP_ARCHIVE"})], [], False, "fails", "DEEP_ARCHIVE"),
        ([rule(Transitions={"StorageClass": "STANDARD_IA"})], [], False, "ok", "none of which"),
        ([rule(NoncurrentVersionTransitions={"StorageClass": "GLACIER"})], [], True, "fails", "GLACIER"),
        ([rule(NoncurrentVersionTransitions={"StorageClass": "GLACIER"})], [], False, "ok", "none of which"),
        ([rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1})], [], False, "warning", "after 1 day"),
        ([rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7})], [], False, "ok", "none of which"),
    ],
)
def test_lifecycle_rules(rules: list[LifecycleRule], used: list[str], keeps: bool, verdict: str, words: str) -> None:
    """Only what a key of ours does not survive, or an upload, is told."""
    found = judge_lifecycle(rules, used, keeps_versions=keeps, wants_abort=False)
    assert (found.verdict, words in found.text) == (verdict, True), found


def test_uploads_that_nobody_ends() -> None:
    """No rule for them is a warning, unless the store is the embedded one; a worse finding is still told first."""
    assert judge_lifecycle([], [], keeps_versions=False, wants_abort=True).verdict is Verdict.WARNING
    both = judge_lifecycle([rule(Expiration=DAYS)], [], keeps_versions=False, wants_abort=True)
    assert both.verdict is Verdict.FAILS
    assert "nobody completes" in both.text


@pytest.mark.parametrize(
    ("status", "retention", "verdict"),
    [
        ("Enabled", Retention.KEEP, "ok"),
        ("Suspended", Retention.KEEP, "fails"),
        ("", Retention.KEEP, "fails"),
        ("Enabled", Retention.NONE, "ok"),
        ("Suspended", Retention.NONE, "ok"),
        ("", Retention.NONE, "ok"),
    ],
)
def test_versions_and_retention(status: str, retention: Retention, verdict: str) -> None:
    """What is kept needs versions."""
    assert judge_versioning(status, retention).verdict == verdict


def test_mounts() -> None:
    """The innermost mount above a path, with escapes undone; of two on one point the one that hides the other."""
    table = (
        b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        b"30 22 8:2 / /srv/my\\040homes rw,nosuid,nodev - xfs /dev/sdb1 rw\n"
        b"31 22 0:40 / /srv/my\\040homes ro - tmpfs none rw\n"
        b"32 22 0:41 / /srv/my rw - nfs x:/ rw\n"
    )
    assert mount_of(Path("/srv/my homes/volumes"), table) == ("/srv/my homes", "tmpfs", frozenset({"ro"}))
    assert mount_of(Path("/srv/my/x"), table)[:2] == ("/srv/my", "nfs")
    assert mount_of(Path("/srv/myself"), table)[:2] == ("/", "ext4")


async def of_the_kernel(folder: Path) -> Finding:
    """What its check finds where movers run on this machine."""
    checks = machine_checks(Settings.load(folder))
    return await next(check for check in checks if check.name == "machine.kernel").look()


async def test_this_kernel_opens_beneath(tmp_path: Path) -> None:
    """All that this suite restores was written through it."""
    found = await of_the_kernel(tmp_path)
    assert "no openat2" not in found.text
    assert "openat2" in found.text


@pytest.mark.parametrize(
    ("abi", "openat2", "verdict", "words"),
    [
        (4, True, Verdict.OK, "Landlock ABI 4, openat2"),
        (2, True, Verdict.WARNING, "Linux 6.2"),
        (0, True, Verdict.FAILS, "`lsm=`"),
        (4, False, Verdict.FAILS, "Linux 5.6"),
    ],
)
async def test_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abi: int, openat2: bool, verdict: Verdict, words: str
) -> None:
    """Restores on a folder need both walls; what one lacks is said."""

    async def told() -> Probe:
        return Probe(landlock_abi=abi, openat2=openat2)

    monkeypatch.setattr(machine, "probe", told)
    found = await of_the_kernel(tmp_path)
    assert (found.verdict, words in f"{found.text} {found.hint}") == (verdict, True), found


async def test_no_archiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nothing goes without: the check says how to get it."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    checks = machine_checks(Settings.load(tmp_path))
    found = (await run_all([check for check in checks if check.name == "machine.kernel"])).checks[0]
    assert (found.state, found.hint) == (
        Verdict.FAILS,
        "In a clone, run `make install`; elsewhere, pip install 'codehub-storage-service[archiver]'.",
    )


async def test_checks_run_side_by_side_and_each_is_bounded() -> None:
    """One that hangs is ended at its bound, one that blocks its thread too; the rest is told as found, in order."""

    async def hangs() -> Finding:
        await asyncio.sleep(_SLEEP_SECONDS)
        return ok("too late")

    async def breaks() -> Finding:
        raise ValueError("broken")

    async def is_denied() -> Finding:
        raise StorageError(ErrorCode.ACCESS_DENIED, "no")

    async def is_well() -> Finding:
        return ok("fine")

    began = time.monotonic()
    found = await run_all(
        [
            Check("hangs", hangs, seconds=0.2),
            Check("blocks", lambda: in_thread(_sleep), seconds=0.2),
            Check("behind", is_well, needs=("hangs",)),
            Check("behind-that", is_well, needs=("behind",)),
            Check("breaks", breaks),
            Check("is-denied", is_denied),
            Check("is-well", is_well),
        ]
    )
    assert time.monotonic() - began < _SLEEP_SECONDS
    verdicts = {each.check: each.state.value for each in found.checks}
    assert list(verdicts) == ["hangs", "blocks", "behind", "behind-that", "breaks", "is-denied", "is-well"]
    assert list(verdicts.values()) == ["fails", "fails", "skipped", "skipped", "fails", "fails", "ok"]
    assert (found.fails, found.warnings) == (4, 0)
    checks = {each.check: each for each in found.checks}
    assert checks["hangs"].retryable
    assert re.search("ValueError: broken", checks["breaks"].text)
    assert not checks["is-denied"].retryable


_SLEEP_SECONDS = 20.0


def _sleep() -> Finding:
    time.sleep(_SLEEP_SECONDS)
    return ok("too late")


async def test_exit_statuses() -> None:
    """0 with warnings, 3 where all that fails may pass, 4 where a person has to act."""

    async def status(*findings: Finding) -> Exit:
        async def give(finding: Finding) -> Finding:
            return finding

        return exit_for(await run_all([Check(str(at), partial(give, each)) for at, each in enumerate(findings)]))

    passing, lasting = fails("x", "wait", retryable=True), fails("x", "act")
    assert await status(ok("x"), warning("x", "know")) == Exit.DONE
    assert await status(ok("x"), passing) == Exit.RETRY
    assert await status(passing, lasting) == Exit.OPERATOR
