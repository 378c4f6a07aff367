"""`doctor` and `show` on a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.docker.habitat import DockerHabitat
from tests.harness.commands import cli
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from worker.cli.exits import Exit
from worker.dev.temporal import TemporalServer


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> AsyncIterator[Site]:
    """A site on the engine, with one worker."""
    async with open_site(tmp_path / "site", temporal_server, site_store) as site:
        if not isinstance(site.habitat, DockerHabitat):
            pytest.skip("STORAGE_TESTS_BACKEND is not local-docker")
        site.start_worker()
        yield site


async def test_engine_image_and_volume(site: Site) -> None:
    """All is well; an image that the engine lacks is named; a volume is shown as the engine has it."""
    key = await site.storage.provision(workspace := site.workspace_id())
    done = await cli(site, "doctor", "--json")
    checks = {each["check"]: each for each in done.object()["checks"]}
    assert done.status == Exit.DONE, done
    assert {checks[name]["state"] for name in ("place.mover-image", "place.identity")} == {"ok"}
    done = await cli(site, "doctor", "--json", CODEHUB_STORAGE_MOVER_IMAGE="no-such-image:1")
    checks = {each["check"]: each for each in done.object()["checks"]}
    assert (done.status, checks["place.mover-image"]["state"]) == (Exit.OPERATOR, "fails"), done
    shown = (await cli(site, "show", workspace, "--json")).object()
    assert (shown["volume"]["home_store_key"], shown["volume"]["users"]) == (key, [])
    assert shown["volume"]["uid"] == shown["record"]["volume"]["uid"]
