"""`doctor` on real servers: all well, and each thing that goes wrong made to go wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest

from activities.backends.directory.layout import Layout
from activities.backends.directory.place import write_identity
from tests.harness.commands import Done, cli
from tests.harness.seaweed import Seaweed, free_ports, new_bucket, reader_of
from tests.harness.site import Site, common_ground, common_site, open_site
from worker.cli.exits import Exit
from worker.dev.temporal import TemporalServer

__all__ = ["common_ground", "common_site"]


async def doctor(site: Site, **environment: str) -> tuple[Done, dict[str, dict[str, Any]]]:
    """How it ended, and each check by its name."""
    done = await cli(site, "doctor", "--json", **environment)
    return done, {each["check"]: each for each in done.object()["checks"]}


def failing(checks: dict[str, dict[str, Any]]) -> set[str]:
    """The names of those that fail."""
    return {name for name, each in checks.items() if each["state"] == "fails"}


@pytest.fixture
async def site(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> AsyncIterator[Site]:
    """A site of this test alone, without a worker."""
    async with open_site(tmp_path / "site", temporal_server, seaweed) as opened:
        yield opened


def client_of(site: Site, seaweed: Seaweed) -> Any:
    """The operator's own client, to configure the bucket."""
    return contextlib.closing(seaweed.client())


async def test_all_is_well(common_site: Site) -> None:
    """Nothing fails with a worker that serves; status 0; the probe leaves nothing in the bucket."""
    done, checks = await doctor(common_site)
    assert (done.status, failing(checks)) == (Exit.DONE, set()), done
    assert {"temporal.worker", "store.rights", "place.identity", "machine.kernel"} <= checks.keys()
    assert all(each["hint"] for each in checks.values() if each["state"] == "warning")
    assert await common_site.truth.list_keys(".codehub/probe") == []
    text = await cli(common_site, "doctor")
    assert f"{len(checks)} checks, 0 failing" in text.err
    assert len([line for line in text.out.splitlines() if line.startswith(("ok ", "warning "))]) == len(checks)


async def test_nobody_serves_the_place(site: Site) -> None:
    """Both queues are named, and what to start."""
    done, checks = await doctor(site)
    assert (done.status, failing(checks)) == (Exit.OPERATOR, {"temporal.worker"}), done
    assert f"storage/{site.place} and movers/{site.place}" in checks["temporal.worker"]["text"]
    assert f"CODEHUB_STORAGE_PLACE={site.place}" in checks["temporal.worker"]["hint"]


async def test_temporal_is_gone(common_site: Site) -> None:
    """Status 3: it may come back. What needs it is skipped, all else is looked at."""
    done, checks = await doctor(common_site, TEMPORAL_ADDRESS=f"127.0.0.1:{free_ports(1)[0]}")
    assert (done.status, failing(checks)) == (Exit.RETRY, {"temporal.server"}), done
    assert {name for name, each in checks.items() if each["state"] == "skipped"} == {
        *("temporal.namespace", "temporal.search-attributes", "temporal.worker", "temporal.runs")
    }


async def test_a_namespace_that_is_not_there(common_site: Site) -> None:
    """Status 4: somebody has to make it, or to correct its name."""
    done, checks = await doctor(common_site, TEMPORAL_NAMESPACE="misspelled")
    assert (done.status, failing(checks)) == (Exit.OPERATOR, {"temporal.namespace"}), done
    assert "misspelled" in checks["temporal.namespace"]["hint"]


async def test_a_namespace_without_our_search_attributes(site: Site) -> None:
    """They are named with their types, and who can register them; the worker that is missing there is told apart."""
    name = f"bare-{site.place}"
    retention = Duration(seconds=86_400)
    request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=retention)
    await site.temporal.workflow_service.register_namespace(request)
    async with asyncio.timeout(60):
        while True:  # the server takes a moment to know it
            done, checks = await doctor(site, TEMPORAL_NAMESPACE=name)
            if "temporal.namespace" not in failing(checks):
                break
    assert (done.status, failing(checks)) == (Exit.OPERATOR, {"temporal.search-attributes", "temporal.worker"}), done
    assert "WsPhase (KEYWORD), WsBytes (INT)" in checks["temporal.search-attributes"]["text"]


async def test_the_store_is_gone(common_site: Site) -> None:
    """Status 3, and nothing else is held up."""
    done, checks = await doctor(common_site, CODEHUB_STORAGE_S3_ENDPOINT=f"http://127.0.0.1:{free_ports(1)[0]}")
    assert (done.status, failing(checks)) == (Exit.RETRY, {"store.bucket"}), done
    assert checks["store.lifecycle"]["state"] == checks["place.identity"]["state"] == "skipped"
    assert checks["temporal.worker"]["state"] == "ok"


async def test_another_bucket(common_site: Site, seaweed: Seaweed) -> None:
    """A bucket that nobody marked, or that is not there, is not the right one."""
    buckets = (new_bucket(seaweed), "no-such-bucket")
    found = await asyncio.gather(*(doctor(common_site, CODEHUB_STORAGE_BUCKET=bucket) for bucket in buckets))
    for bucket, (done, checks) in zip(buckets, found, strict=True):
        assert (done.status, failing(checks)) == (Exit.OPERATOR, {"store.bucket"}), done
        assert bucket in checks["store.bucket"]["text"]


async def test_who_may_only_read(common_site: Site, seaweed: Seaweed) -> None:
    """The bucket is found, the probe is refused."""
    done, checks = await doctor(
        common_site,
        CODEHUB_STORAGE_S3_ACCESS_KEY=reader_of(seaweed).access_key,
        CODEHUB_STORAGE_S3_SECRET_KEY=reader_of(seaweed).secret_key,
    )
    assert done.status == Exit.OPERATOR, done
    assert "store.rights" in failing(checks)
    assert "AccessDenied" in checks["store.rights"]["text"]


async def test_no_volume_root(common_site: Site, tmp_path: Path) -> None:
    """Missing, or there without a mark, as an unmounted disk leaves it; or the root of another place."""
    roots = {"there is no folder": tmp_path / "none", "bears no mark": tmp_path}
    found = await asyncio.gather(
        *(doctor(common_site, CODEHUB_STORAGE_VOLUME_ROOT=str(root)) for root in roots.values())
    )
    for words, (done, checks) in zip(roots, found, strict=True):
        assert (done.status, failing(checks)) == (Exit.OPERATOR, {"place.volume-root"}), done
        assert words in checks["place.volume-root"]["text"]
        assert checks["place.identity"]["state"] == checks["place.room"]["state"] == "skipped"


async def test_the_volume_root_of_another_place(common_site: Site, volume_root: Path) -> None:
    """Marked, but not as the one that the bucket knows."""
    write_identity(Layout(volume_root), "another", adopt=False)
    done, checks = await doctor(common_site, CODEHUB_STORAGE_VOLUME_ROOT=str(volume_root))
    assert (done.status, failing(checks)) == (Exit.OPERATOR, {"place.identity"}), done


async def test_a_rule_that_deletes_archives(site: Site, seaweed: Seaweed) -> None:
    """A lifecycle rule on the bucket that expires everything fails; one for keys that are not ours does not."""
    with client_of(site, seaweed) as client:
        put_rule(client, site.bucket, "")
        done, checks = await doctor(site)
        assert "store.lifecycle" in failing(checks), done
        assert "deletes objects of all keys" in checks["store.lifecycle"]["text"]
        put_rule(client, site.bucket, "Not-Ours/")
        _, checks = await doctor(site)
        assert "store.lifecycle" not in failing(checks)


def put_rule(client: Any, bucket: str, prefix: str) -> None:
    """One rule: expire after a day."""
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": 1}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})


async def test_versions_are_suspended(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """With `retention: keep` that is a promise that the bucket does not keep; with none it is fine."""
    async with open_site(
        tmp_path / "site", temporal_server, seaweed, versioned=True, CODEHUB_STORAGE_RETENTION="keep"
    ) as site:
        _, checks = await doctor(site)
        assert checks["store.versioning"]["state"] == "ok"
        with client_of(site, seaweed) as client:
            client.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Suspended"})
        done, checks = await doctor(site)
        assert (done.status, checks["store.versioning"]["state"]) == (Exit.OPERATOR, "fails"), done
        assert "suspended" in checks["store.versioning"]["text"]
        _, checks = await doctor(site, CODEHUB_STORAGE_RETENTION="none")
        assert checks["store.versioning"]["state"] == "ok"


async def test_a_bucket_that_retains_all(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> None:
    """Told as a warning, and nothing is written there by way of trial: it could not be removed."""
    async with open_site(tmp_path / "site", temporal_server, seaweed, object_lock=True) as site:
        _, checks = await doctor(site)
        assert checks["store.object-lock"]["state"] == checks["store.rights"]["state"] == "ok"
        with client_of(site, seaweed) as client:
            client.put_object_lock_configuration(
                Bucket=site.bucket,
                ObjectLockConfiguration={
                    "ObjectLockEnabled": "Enabled",
                    "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 5}},
                },
            )
            before = len(client.list_object_versions(Bucket=site.bucket)["Versions"])
            _, checks = await doctor(site)
            assert len(client.list_object_versions(Bucket=site.bucket)["Versions"]) == before
        assert checks["store.object-lock"]["state"] == checks["store.rights"]["state"] == "warning"
        assert "5 days (GOVERNANCE)" in checks["store.object-lock"]["text"]


async def test_an_engine_and_a_cluster_that_are_not_there(common_site: Site, tmp_path: Path) -> None:
    """Of the other backends the engine, or the way to a cluster, is named."""
    done, checks = await doctor(
        common_site,
        CODEHUB_STORAGE_BACKEND="local-docker",
        CODEHUB_STORAGE_DOCKER_HOST=f"tcp://127.0.0.1:{free_ports(1)[0]}",
    )
    assert (done.status, failing(checks)) == (Exit.RETRY, {"place.docker"}), done
    assert checks["place.mover-image"]["state"] == "skipped"
    done, checks = await doctor(
        common_site, CODEHUB_STORAGE_BACKEND="k8s", CODEHUB_STORAGE_K8S_KUBECONFIG=str(tmp_path / "none")
    )
    assert (done.status, failing(checks)) == (Exit.OPERATOR, {"place.kubernetes"}), done
    assert checks["place.rights"]["state"] == checks["place.admission"]["state"] == "skipped"
