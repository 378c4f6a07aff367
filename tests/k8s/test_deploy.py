"""The manifests of deploy/kubernetes, applied as an operator would, with our image; and the rights that they grant."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # published without types

from codehub_storage.client import StorageClient, connect
from tests.harness.cluster.api import wait_for
from tests.harness.cluster.cluster import Cluster
from tests.harness.cluster.storage import STORAGE_CLASS
from tests.harness.image import NAME, image_tar
from tests.harness.relay import Relay
from tests.harness.s3server import S3Server
from tests.harness.seaweed import new_bucket
from tests.k8s.places import user_pod
from tests.k8s.rights import HOMES, MANIFESTS, ON_A_LOST_NODE, WORKERS, Kubectl, granted, used, wait_until_gone
from worker.dev.temporal import TemporalServer
from worker.settings import variable

pytestmark = [pytest.mark.k8s, pytest.mark.slow]

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
    kubectl = Kubectl(cluster)
    cluster.import_image(image_tar())
    host = cluster.host_address
    with Relay(host, temporal_server.ports[0]) as temporal, Relay(host, site_store.ports[0]) as store:
        values = {
            "TEMPORAL_ADDRESS": temporal.address,
            variable("place"): PLACE,
            variable("bucket"): new_bucket(site_store),
            variable("s3_endpoint"): f"http://{store.address}",
            variable("settle"): "0",
            variable("time_scale"): "0.15",
            variable("k8s_storage_class"): STORAGE_CLASS,
            variable("k8s_volume_size"): "1MiB",
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
        yield kubectl
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
