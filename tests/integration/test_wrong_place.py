"""[8] Absent is believed only in the right place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from tests.harness.habitats import new_habitat
from tests.harness.homes import archived, provisioned, read
from tests.harness.s3server import S3Server
from tests.harness.seaweed import new_bucket
from tests.harness.site import Site, mark_place, open_site
from worker.dev.temporal import TemporalServer
from worker.settings import variable


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A site of this test alone: it takes the place apart."""
    async with open_site(tmp_path / "site", temporal_server, site_store) as opened:
        opened.start_worker()
        yield opened


async def test_another_place_under_its_address_certifies_nothing(site: Site) -> None:
    """A root that is not mounted, an engine with another id: WrongStore for all operations, nothing lost."""
    warm, volume = await provisioned(site)
    cold, key = await archived(site, text="cold")
    with site.habitat.elsewhere():
        calls = [
            site.storage.archive(volume),
            site.storage.restore(key),
            site.storage.purge(volume, None),
            site.storage.provision(site.workspace_id()),
        ]
        for call in calls:
            with pytest.raises(StorageError) as wrong:
                await call
            assert wrong.value.code == ErrorCode.WRONG_STORE
    assert read(site, warm) == "first"
    await site.storage.restore(key)
    assert read(site, cold) == "cold"


async def test_a_worker_refuses_a_bucket_that_was_never_marked(site: Site, site_store: S3Server) -> None:
    """Another bucket: the worker does not even start, and says which command marks one."""
    worker = site.start_worker(CODEHUB_STORAGE_BUCKET=new_bucket(site_store))
    worker.wait_until(lambda: "WrongStore" in worker.log.read_text(), 60)
    assert "init" in worker.log.read_text()


async def test_a_workspace_of_another_place_is_refused(site: Site, tmp_path: Path, site_store: S3Server) -> None:
    """The record keeps the place; a worker of another one in the same bucket answers WrongStore and touches nothing."""
    workspace, volume = await provisioned(site)
    elsewhere = new_habitat(tmp_path / "elsewhere")
    await mark_place(site, "elsewhere", elsewhere)
    settings = {variable(name): str(value) for name, value in elsewhere.settings(site_store.endpoint_url).items()}
    site.start_worker(**{**settings, "CODEHUB_STORAGE_PLACE": "elsewhere"})
    with pytest.raises(StorageError) as wrong:
        await site.storage.archive(volume, place="elsewhere")
    assert wrong.value.code == ErrorCode.WRONG_STORE
    assert read(site, workspace) == "first"
