"""The manifests of deploy/kubernetes, applied as an operator would, with our image; and the rights that they grant."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # published without types

from activities.backends.kubernetes.pods import MOVER, ROLE
from codehub_storage.client import OperationHandle, StorageClient, connect
from tests.fakes.s3_faults import Exchange, Fault, on
from tests.fakes.s3_proxy import S3Proxy
from tests.fakes.steps import LEASE
from tests.harness.cluster.api import wait_for
from tests.harness.cluster.cluster import Cluster
from tests.harness.cluster.storage import STORAGE_CLASS
from tests.harness.image import NAME, image_tar
from tests.harness.relay import Relay
from tests.harness.s3server import S3Server
from tests.harness.seaweed import new_bucket
from tests.harness.stops import repeated_steps
from tests.k8s.places import user_pod
from tests.k8s.rights import HOMES, MANIFESTS, ON_A_LOST_NODE, WORKERS, Kubectl, granted, used, wait_until_gone
from worker.dev.temporal import TemporalServer
from worker.settings import variable

IMAGE, _, TAG = NAME.partition(":")
PLACE = "deployed"


def overlay(folder: Path, base: Path, *patches: dict[str, Any]) -> str:
    """What an operator writes, as the README says."""
    folder.mkdir()
    content = {
        "resources": [os.path.relpath(base, folder)],
        "images": [{"name": "codehub-storage", "newName": IMAGE, "newTag": TAG}],
        "patches": list(patches),
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return str(folder)


def settings_patch(values: dict[str, str]) -> dict[str, Any]:
    operations = [{"op": "add", "path": f"/data/{name}", "value": value} for name, value in values.items()]
    return {"target": {"kind": "ConfigMap", "name": "codehub-storage"}, "patch": json.dumps(operations)}


def image_patch() -> dict[str, Any]:
    path = "/spec/template/spec/containers/0/env/0/value"
    operations = [{"op": "replace", "path": path, "value": NAME}]
    return {"target": {"kind": "Deployment", "name": "codehub-storage"}, "patch": json.dumps(operations)}


@pytest.fixture
def deployed(
    cluster: Cluster, tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server
) -> Iterator[Kubectl]:
    """The service, from the manifests, with two workers ready."""
    with deploying(cluster, tmp_path, temporal_server, site_store, site_store.ports[0], time_scale="0.15") as kubectl:
        yield kubectl


@contextmanager
def deploying(
    cluster: Cluster, tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server, port: int, **settings: str
) -> Iterator[Kubectl]:
    """The same, with other settings; ``port``: where the store is reached."""
    kubectl = Kubectl(cluster)
    cluster.import_image(image_tar())
    host = cluster.host_address
    with Relay(host, temporal_server.ports[0]) as temporal, Relay(host, port) as store:
        values = {
            "TEMPORAL_ADDRESS": temporal.address,
            variable("place"): PLACE,
            variable("bucket"): new_bucket(site_store),
            variable("s3_endpoint"): f"http://{store.address}",
            variable("settle"): "0",
            variable("k8s_storage_class"): STORAGE_CLASS,
            variable("k8s_volume_size"): "1MiB",
            **{variable(name): value for name, value in settings.items()},
        }
        kubectl("apply", "-f", str(MANIFESTS / "namespaces.yaml"))
        admin = site_store.admin
        for namespace in (WORKERS, HOMES):
            keys = {"s3_access_key": admin.access_key, "s3_secret_key": admin.secret_key}
            secret = {"stringData": {variable(name): value for name, value in keys.items()}}
            named = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "codehub-storage"}, **secret}
            kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(named))
        kubectl("apply", "-k", overlay(tmp_path / "overlay", MANIFESTS, settings_patch(values), image_patch()))
        kubectl("apply", "-k", overlay(tmp_path / "init", MANIFESTS / "init"))
        kubectl("-n", WORKERS, "wait", "--for=condition=complete", "job/codehub-storage-init", "--timeout=120s")
        kubectl("-n", WORKERS, "rollout", "status", "deployment/codehub-storage", "--timeout=180s")
        try:
            yield kubectl
        finally:
            kubectl("delete", "-k", str(tmp_path / "overlay"), "--wait=false")
            wait_until_gone(cluster)


async def test_the_whole_cycle(cluster: Cluster, deployed: Kubectl, temporal_server: TemporalServer) -> None:
    """Provision, archive, restore and purge through the manifests, with the rights that they grant and no others."""
    client = await connect(target_host=temporal_server.address, namespace="default")
    storage = StorageClient(client, place=PLACE)
    key = await storage.provision("ws1")
    assert key == "ws-ws1-home"
    await use(cluster, "echo precious > /home/work.txt; chown 1000:1000 /home/work.txt; chmod 640 /home/work.txt")
    archive = await storage.archive(key)
    assert not cluster.api.exists(f"/api/v1/namespaces/{HOMES}/persistentvolumeclaims/{key}")
    assert await storage.restore(archive) == key
    said = await use(cluster, "cat /home/work.txt; stat -c '%u:%g %a' /home/work.txt")
    assert said.split() == ["precious", "1000:1000", "640"]
    await storage.purge(key, archive)
    assert not cluster.api.get(f"/api/v1/namespaces/{HOMES}/persistentvolumeclaims")["items"]
    assert not cluster.api.get(f"/api/v1/namespaces/{HOMES}/pods")["items"]
    assert used(cluster) - granted() == set()
    assert granted() - used(cluster) <= ON_A_LOST_NODE, "granted, and never used"


async def use(cluster: Cluster, script: str) -> str:
    """What a workspace's Pod prints; it is gone afterwards."""
    path = f"/api/v1/namespaces/{HOMES}/pods"
    cluster.api.create(path, user_pod("workspace", "ws1", script))
    path += "/workspace"

    def is_over() -> bool:
        return cluster.api.get(path)["status"].get("phase") in ("Succeeded", "Failed")

    await asyncio.to_thread(wait_for, "the workspace's Pod ends", is_over)
    said = cluster.api.text(f"{path}/log")
    assert cluster.api.get(path)["status"]["phase"] == "Succeeded", said
    cluster.api.delete(path)
    await asyncio.to_thread(wait_for, "it is gone", lambda: not cluster.api.exists(path))
    return said


# ------------------------------------------------------------ rollouts

FILES, FILE_BYTES = 12, 12 << 20
DRIP_SECONDS = 8.0
"""Within the time that a mover waits for an answer. With so many files there is time for a rollout."""


@dataclass
class Dripping(Fault):
    """Lets each request through after a while, and all at once from ``resume`` on."""

    times: int | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    resume: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def request_body(self, exchange: Exchange, body: bytes) -> bytes:
        """See ``Fault``."""
        self.reached.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.resume.wait(), DRIP_SECONDS)
        return body


def roll(cluster: Cluster, kubectl: Kubectl) -> None:
    """Replace all workers, as a new image or setting does, and return when the old ones are gone."""
    before = ready_workers(cluster)
    kubectl("-n", WORKERS, "rollout", "restart", "deployment/codehub-storage")
    kubectl("-n", WORKERS, "rollout", "status", "deployment/codehub-storage", "--timeout=300s")
    wait_for("the old workers are gone", lambda: before.isdisjoint(workers(cluster)), 120)
    assert len(ready_workers(cluster)) == 2


def workers(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """The Pods of the Deployment, by name; also those that are about to end."""
    pods = cluster.api.get(f"/api/v1/namespaces/{WORKERS}/pods")["items"]
    return {pod["metadata"]["name"]: pod for pod in pods if "pod-template-hash" in pod["metadata"]["labels"]}


def ready_workers(cluster: Cluster) -> set[str]:
    """The names of the workers that are ready."""
    return {
        name
        for name, pod in workers(cluster).items()
        if any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions") or ())
    }


def movers(cluster: Cluster) -> list[str]:
    """The uids of the movers' Pods."""
    pods = cluster.api.get(f"/api/v1/namespaces/{HOMES}/pods?labelSelector={ROLE}%3D{MOVER}")["items"]
    return [pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]


@pytest.mark.field("O1")
async def test_a_rolling_update_costs_an_operation_nothing(
    cluster: Cluster, tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server
) -> None:
    """In mid-archive and in mid-restore: the same Pod before and after, and no step taken again nor byte sent twice."""
    one_at_a_time = {"mover_concurrency": "1", "budget_bytes": "16MiB"}  # the least: two of these parts are more
    settings = {**one_at_a_time, "segment_bytes": str(FILE_BYTES), "k8s_volume_size": "1GiB"}
    async with S3Proxy(site_store.ports[0]) as proxy, AsyncExitStack() as exits:
        deployment = deploying(cluster, tmp_path, temporal_server, site_store, proxy.port, **settings)
        kubectl = await asyncio.to_thread(deployment.__enter__)
        exits.push_async_callback(asyncio.to_thread, deployment.__exit__, None, None, None)
        client = await connect(target_host=temporal_server.address, namespace="default")
        storage = StorageClient(client, place=PLACE)
        key = await storage.provision("ws1")
        fill = f"for n in $(seq {FILES}); do head -c {FILE_BYTES - 4096} /dev/urandom >/home/noise-$n; done; "
        digest = "cd /home && cat noise-* | sha256sum"
        expected = await use(cluster, fill + digest)

        async def through_a_rollout(operation: OperationHandle, method: str, query: str | None = None) -> None:
            drip = proxy.add(Dripping(), on(method=method, key="ws1/home.tar.gz", query=query))
            await asyncio.wait_for(drip.reached.wait(), 300)
            [mover] = movers(cluster)
            await asyncio.to_thread(roll, cluster, kubectl)
            assert movers(cluster) == [mover]
            drip.resume.set()
            proxy.clear()
            assert (await operation.result()).sent_again_bytes == 0
            history = (await client.get_workflow_handle("storage/ws1", run_id=operation.run_id).fetch_history()).events
            types = [event.activity_task_scheduled_event_attributes.activity_type.name for event in history]
            assert types.count(LEASE) == 1, "the mover was replaced"
            assert repeated_steps(history) == []

        await through_a_rollout(await storage.start_archive(key), "PUT", "partNumber")
        await through_a_rollout(await storage.start_restore("ws1/home.tar.gz"), "GET")
        assert await use(cluster, digest) == expected
        await storage.purge(key, "ws1/home.tar.gz")


@pytest.mark.field("O2")
async def test_a_rollout_to_a_broken_setting_leaves_the_workers(
    cluster: Cluster, deployed: Kubectl, temporal_server: TemporalServer
) -> None:
    """The new one never serves, the rollout does not call that a success, and the place is served as before."""
    client = await connect(target_host=temporal_server.address, namespace="default")
    storage = StorageClient(client, place=PLACE)
    before = ready_workers(cluster)
    assert len(before) == 2
    name = variable("bucket")
    right = json.loads(deployed("-n", WORKERS, "get", "configmap", "codehub-storage", "-o", "json"))["data"][name]

    def set_bucket(bucket: str) -> None:
        deployed("-n", WORKERS, "patch", "configmap", "codehub-storage", "-p", json.dumps({"data": {name: bucket}}))

    def has_failed() -> bool:
        statuses = [each for pod in workers(cluster).values() for each in pod["status"].get("containerStatuses") or ()]
        return any(each["restartCount"] > 1 for each in statuses)

    set_bucket("misspelled")
    deployed("-n", WORKERS, "rollout", "restart", "deployment/codehub-storage")
    await asyncio.to_thread(wait_for, "a new worker has failed twice", has_failed, 180)
    assert ready_workers(cluster) == before
    with pytest.raises(AssertionError, match="timed out"):
        deployed("-n", WORKERS, "rollout", "status", "deployment/codehub-storage", "--timeout=2s")
    key = await storage.provision("ws2")
    set_bucket(right)
    await asyncio.to_thread(roll, cluster, deployed)
    await storage.purge(key, None)
