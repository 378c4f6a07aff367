"""The file by which a worker tells that it serves: there when it does, and at no other time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.objectstore.identity import load_identity
from activities.runtime import failpoints
from codehub_storage import ErrorCode, StorageError
from codehub_storage.client import connect
from tests.fakes.s3_faults import Reply
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.stops import paused_at, until
from worker.dev.temporal import TemporalServer
from worker.readiness import ReadyFile, new_identity, until_polled
from worker.settings import variable

pytestmark = pytest.mark.field("O2")


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> AsyncIterator[Site]:
    """A site without a worker."""
    async with open_site(tmp_path / "site", temporal_server, seaweed) as site:
        yield site


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One that a worker left that was killed."""
    file = tmp_path / "ready"
    file.touch()
    return file


async def appears(file: Path) -> None:
    async def is_there() -> bool:
        return file.exists()

    await until(is_there, "the worker is never ready")


async def disappears(file: Path) -> None:
    async def is_gone() -> bool:
        return not file.exists()

    await until(is_gone, "the file stays")


async def test_ready_is_who_serves_and_unready_who_begins_to_stop(site: Site, file: Path, tmp_path: Path) -> None:
    """Not what was left before; and no longer while the last step is waited for."""
    gate = tmp_path / "gate"
    armed = {failpoints.VARIABLE: f"control.backend.create.before:pause={gate}"}
    worker = site.start_worker(**{variable("ready_file"): str(file)}, **armed)
    await disappears(file)
    await appears(file)
    making = asyncio.create_task(site.storage.provision(site.workspace_id()))
    await paused_at(gate)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGTERM)
    await disappears(file)
    assert worker.pid is not None, "it had ended by then, so this proves nothing"
    gate.touch()
    site.start_worker()
    await making


async def test_a_wrong_bucket_is_never_ready(site: Site, file: Path) -> None:
    """It ends, and the file of before is gone."""
    worker = site.start_worker(**{variable("ready_file"): str(file), variable("bucket"): "another-bucket"})

    async def has_ended() -> bool:
        return worker.pid is None

    await until(has_ended, "it goes on")
    assert not file.exists()


@pytest.mark.field("D9")
async def test_a_store_that_deletes_anyway_is_never_served(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed, file: Path
) -> None:
    """`init` saw If-Match obeyed on DELETE; the server that answers now does not obey it, and deletions lean on it."""
    async with (
        S3Proxy(seaweed.ports[0]) as proxy,
        open_site(tmp_path / "site", temporal_server, seaweed, endpoint_url=proxy.endpoint_url) as site,
    ):
        assert (await load_identity(site.truth)).capabilities.conditional_delete
        deletes = proxy.add(
            Reply(times=None, status=204, code=None),
            lambda exchange: exchange.method == "DELETE" and "If-Match" in exchange.headers,
        )
        worker = site.start_worker(**{variable("ready_file"): str(file)})

        async def has_decided() -> bool:
            return worker.pid is None or "serving place" in worker.log.read_text()

        await until(has_decided, "it neither ends nor serves")
        said = worker.log.read_text()
        assert worker.pid is None, said
        assert deletes.met
        assert "WrongStore" in said
        assert "init --adopt" in said
        assert not file.exists()


async def test_all_queues_are_waited_for(temporal_server: TemporalServer, common_site: Site) -> None:
    """Somebody else's polling is not ours: a client that serves nothing never counts as ready."""
    client = await connect(target_host=temporal_server.address, namespace="default", identity=new_identity())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(until_polled(client, common_site.place), 2)


@pytest.mark.parametrize("path", ["/nowhere/ready", "/dev/null/ready"])
def test_a_file_that_cannot_be_made_is_told_at_once(path: str) -> None:
    """Such a worker would never be ready, without a word."""
    with pytest.raises(StorageError) as refused:
        ReadyFile(Path(path)).withdraw()
    assert refused.value.code is ErrorCode.INVALID_INPUT
    assert "CODEHUB_STORAGE_READY_FILE" in refused.value.hint
