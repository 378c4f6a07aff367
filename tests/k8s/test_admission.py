"""What a worker is told as it starts of a namespace that would not take its movers, by real admission."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.backends.kubernetes.template import PodTemplate
from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.cluster.api import wait_for
from tests.harness.cluster.cluster import Cluster
from tests.harness.s3server import S3Server
from tests.harness.site import open_site
from tests.k8s.habitat import ClusterHabitat
from tests.k8s.places import BASELINE, SHAPE, ClaimPlace
from worker.dev.temporal import TemporalServer
from worker.settings import variable


@pytest.fixture(params=[BASELINE])
async def place(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[ClaimPlace]:
    """A new namespace, at level `baseline` unless the test says otherwise."""
    place = ClaimPlace(cluster, request.param)
    yield place
    await place.aclose()


async def test_a_mover_would_be_admitted(place: ClaimPlace, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said, and nothing is made."""
    assert await place.backend.identity() == await place.other.identity()
    assert caplog.messages == []
    assert place.pods() == []


@pytest.mark.parametrize("place", [{"pod-security.kubernetes.io/enforce": "restricted"}], indirect=True)
async def test_a_restricted_namespace(place: ClaimPlace) -> None:
    """Refused each time, with the level that movers need."""
    for _ in range(2):
        with pytest.raises(StorageError) as error:
            await place.backend.identity()
        assert error.value.code is ErrorCode.ACCESS_DENIED
        assert "violates PodSecurity" in error.value.message
        assert "baseline" in error.value.hint


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"priorityClassName": "none"}, "no PriorityClass with name none"),
        ({"serviceAccountName": "none"}, 'serviceaccount "none" not found'),
    ],
)
async def test_a_template_that_names_what_is_not_there(place: ClaimPlace, template: dict[str, str], words: str) -> None:
    """Refused, and the template is what to correct."""
    with pytest.raises(StorageError, match=words) as error:
        await place.new_backend(SHAPE, template=PodTemplate.model_validate(template)).identity()
    assert error.value.code is ErrorCode.UNSUPPORTED
    assert "template" in error.value.hint


async def test_a_quota_that_is_full(place: ClaimPlace, caplog: pytest.LogCaptureFixture) -> None:
    """Room may come: a warning, once, that names the quota."""
    place.create("resourcequotas", {"metadata": {"name": "tight"}, "spec": {"hard": {"pods": "0"}}})

    def counts() -> bool:
        return bool((place.find("resourcequotas", "tight") or {}).get("status", {}).get("hard"))

    await asyncio.to_thread(wait_for, "the quota counts", counts)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert await place.backend.identity()
    [said] = caplog.messages
    assert "exceeded quota: tight" in said


async def test_a_worker_does_not_start(tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server) -> None:
    """It ends with the error and what to do about it in its log."""
    (tmp_path / "template.yaml").write_text("priorityClassName: none")
    async with open_site(tmp_path / "site", temporal_server, site_store) as site:
        if not isinstance(site.habitat, ClusterHabitat):
            pytest.skip("STORAGE_TESTS_BACKEND is not k8s")
        worker = site.start_worker(**{variable("k8s_pod_template"): str(tmp_path / "template.yaml")})
        worker.wait_until(lambda: "Unsupported" in worker.log.read_text(), 60)
        assert "no PriorityClass with name none" in worker.log.read_text()
        assert "Correct the Pod template" in worker.log.read_text()
