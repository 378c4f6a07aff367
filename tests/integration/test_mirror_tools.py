"""[D9] A bucket that was mirrored by the tools that people use goes on on another server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from activities.objectstore.identity import load_identity
from codehub_storage import ErrorCode
from codehub_storage.keys import archive_key, manifest_key, record_key
from tests.harness import parts
from tests.harness.homes import archived, provisioned, read, write
from tests.harness.minio import Minio
from tests.harness.mirrors import adopt_copy, fence_off, mirror_by_mc, mirror_by_rclone, moved_site
from tests.harness.refusals import code_of
from tests.harness.s3server import S3Server
from tests.harness.seaweed import Seaweed, new_bucket
from tests.harness.site import open_site
from worker.cli.verifying import check
from worker.dev.temporal import TemporalServer

pytestmark = pytest.mark.field("D9")


def nothing(seen: int, total: int) -> None:
    """No progress is wanted."""


TO_MINIO, TO_SEAWEED = "seaweed to minio", "minio to seaweed"


@pytest.fixture
def servers(request: pytest.FixtureRequest, seaweed: Seaweed, minio: Minio) -> tuple[S3Server, S3Server]:
    """From where, and where to."""
    return (seaweed, minio) if request.param == TO_MINIO else (minio, seaweed)


@pytest.mark.parametrize(
    ("tool", "versioned", "servers"),
    [
        ("rclone", False, TO_MINIO),
        ("rclone", True, TO_SEAWEED),
        ("rclone -M", False, TO_SEAWEED),
        ("rclone -M", True, TO_MINIO),
        ("mc mirror", False, TO_MINIO),
        ("mc mirror", True, TO_SEAWEED),
    ],
    indirect=["servers"],
)
async def test_all_goes_on_with_a_mirrored_bucket(
    tmp_path: Path,
    temporal_server: TemporalServer,
    servers: tuple[S3Server, S3Server],
    tool: str,
    versioned: bool,
) -> None:
    """Refused until it is adopted; then it restores, verifies, archives again, purges, with records and without."""
    if tool == "mc mirror" and not parts.can_build("mc") and not os.environ.get("CI"):  # CI has what it takes
        pytest.skip("mc is not built, and there is no `go` to build it with")
    source, target = servers
    copy = new_bucket(target, versioned=versioned)
    async with open_site(tmp_path / "site", temporal_server, source, versioned=versioned) as old:
        old.start_worker()
        cold = [await archived(old, text=f"home {number}") for number in range(4)]
        warm, warm_key = await provisioned(old, text="warm")
        await fence_off(old)
        if tool == "mc mirror":
            await asyncio.to_thread(mirror_by_mc, source, old.bucket, target, copy, tmp_path / "mc")
        else:
            with_metadata = tool == "rclone -M"
            await asyncio.to_thread(mirror_by_rclone, source, old.bucket, target, copy, metadata=with_metadata)
        async with moved_site(old, target, copy) as site:
            assert await code_of(load_identity(site.truth)) == ErrorCode.WRONG_STORE
            refused = site.start_worker()
            refused.wait_until(lambda: "init --adopt" in refused.log.read_text(), 60)
            before = await load_identity(old.truth)
            await adopt_copy(site)
            identity = await load_identity(site.truth)
            assert (identity.store_id, identity.epoch) == (before.store_id, before.epoch + 1)
            assert identity.capabilities.conditional_delete == isinstance(target, Seaweed)
            for workspace, _ in cold[2:]:
                await site.truth.delete(record_key(workspace))
            site.start_worker()
            for number, (workspace, key) in enumerate(cold):
                there = await site.truth.get(manifest_key(key))
                verified = await check(site.truth, key, None, nothing)
                assert verified.proven
                volume = await site.storage.restore(key)
                assert read(site, workspace) == f"home {number}"
                if number % 2:
                    write(site, workspace, "later")
                    assert await site.storage.archive(volume) == key
                    await site.storage.restore(key)
                    assert read(site, workspace) == "later"
                elif number:
                    assert await site.truth.get(manifest_key(key)) == there  # a restore writes no proof
                await site.storage.purge(volume, key)
                assert await site.truth.head(key) is None
                assert await site.truth.list_versions(key) == []
                assert await site.truth.list_keys(f"{workspace}/") == [record_key(workspace)]
            assert await site.storage.archive(warm_key) == archive_key(warm)
            await site.storage.restore(archive_key(warm))
            assert read(site, warm) == "warm"
