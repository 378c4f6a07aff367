"""docs/disaster-recovery.md works as it stands: every command typed in its order, between two real stores."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from codehub_storage.keys import manifest_key, record_key
from tests.harness.homes import read, write
from tests.harness.minio import Minio
from tests.harness.mirrors import fence_off, moved_site, rclone_remotes
from tests.harness.seaweed import Seaweed, new_bucket
from tests.harness.site import Site, open_site
from tests.harness.sources import TOP
from tests.harness.temporal import temporal_in
from tests.pages.blocks import HERE, blocks, not_executed
from tests.pages.shell import Shell
from worker.dev.temporal import TemporalServer

pytestmark = pytest.mark.field("D9")

PAGE = TOP / "docs/disaster-recovery.md"
HOMES = ("ws1", "ws2", "ws3")


@pytest.fixture
def own_temporal(tmp_path: Path) -> Iterator[TemporalServer]:
    """A server that has never seen anything."""
    with temporal_in(tmp_path) as server:
        yield server


def headings() -> list[str]:
    """Under which commands stand, in order."""
    return list(dict.fromkeys(block.heading for block in blocks(PAGE, HERE)))


def test_no_command_escapes() -> None:
    """What a reader would type is typed below."""
    assert not_executed(PAGE) == []


async def test_every_command_works(
    tmp_path: Path, temporal_server: TemporalServer, own_temporal: TemporalServer, seaweed: Seaweed, minio: Minio
) -> None:
    """Two homes COLD and one WARM; after the page all three are restored, from the copy, by the new Temporal."""
    copy = new_bucket(minio)
    async with open_site(tmp_path / "site", temporal_server, seaweed) as old, moved_site(old, minio, copy) as new:
        old.start_worker()
        for workspace in HOMES:
            await make(old, workspace)
        await fence_off(old)
        environment = {
            **old.environment,
            **rclone_remotes(old=seaweed, new=minio),
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "OLD_BUCKET": old.bucket,
            "NEW_BUCKET": copy,
            "NEW_ENDPOINT": minio.endpoint_url,
            "NEW_ACCESS_KEY": minio.admin.access_key,
            "NEW_SECRET_KEY": minio.admin.secret_key,
            "NEW_TEMPORAL": own_temporal.address,
        }
        with Shell((), environment) as shell:
            for heading in headings():
                await before(heading, new, tmp_path, own_temporal)
                for block in blocks(PAGE, HERE):
                    for command in block.commands if block.heading == heading else ():
                        await asyncio.to_thread(shell.run, command)
        for workspace in HOMES[1:]:
            assert read(new, workspace) == workspace
        assert new.workers


async def make(site: Site, workspace: str) -> None:
    """A home of that name, COLD."""
    volume = await site.storage.provision(workspace)
    write(site, workspace, workspace)
    await site.storage.archive(volume)


async def before(heading: str, site: Site, folder: Path, own_temporal: TemporalServer) -> None:
    """What the page says happened, or is done beside its commands, before those under ``heading``."""
    if heading == "Look, and go on":
        site.start_worker()
    elif heading == "Temporal's database is lost":
        await cut_off(site, folder)
        site.environment["TEMPORAL_ADDRESS"] = own_temporal.address
        site.start_worker()
    elif heading == "Records are lost":
        await site.truth.delete(record_key("ws2"))
    elif heading == "A manifest is lost":
        await site.truth.delete(manifest_key("ws3/home.tar.gz"))


async def cut_off(site: Site, folder: Path) -> None:
    """ws3 is being archived when workers and database go."""
    await site.storage.restore("ws3/home.tar.gz")
    await fence_off(site)
    marker = folder / f"killed-{secrets.token_hex(4)}"
    worker = site.start_worker(CODEHUB_STORAGE_FAILPOINT=f"control.store.complete_upload.after:once={marker}")
    run = await site.storage.start_archive(site.key("ws3"))
    await asyncio.to_thread(worker.wait_until, marker.exists, 120.0)
    await fence_off(site)
    await site.temporal.get_workflow_handle("storage/ws3", run_id=run.run_id).terminate()
