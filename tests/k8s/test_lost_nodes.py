"""A mover whose object went while its node was away, and whose disk is then detached: by hand, for there is no driver.

The worker's account of deploy/kubernetes looks, so that what it may not see would show.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from activities.backends.base import MoverSpec
from activities.backends.kubernetes.claims import UID, WORKSPACE
from activities.backends.kubernetes.client import Api, Json
from activities.backends.kubernetes.client import Cluster as Where
from activities.backends.kubernetes.lifecycle import PodLifecycle
from activities.backends.kubernetes.movers import PodMover
from activities.backends.kubernetes.pods import mover_pod
from activities.backends.wait_policy import WaitPolicy
from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.cluster.api import wait_for
from tests.harness.cluster.cluster import Cluster
from tests.k8s.places import SHAPE, WAITS
from tests.k8s.rights import HOMES, ON_A_LOST_NODE, WORKERS, Kubectl, accounts, kubeconfig_of, may, used

NAMESPACED = f"/api/v1/namespaces/{HOMES}"
STORAGE = "/apis/storage.k8s.io/v1"
HASTY = WaitPolicy(lock_seconds=3, grace_seconds=1)


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    """The manifests' accounts are there."""
    with accounts(cluster) as kubectl:
        yield kubectl


class Disk:
    """A persistent volume of a CSI driver, the claim that has it, and their attachment to a node that is none."""

    def __init__(self, cluster: Cluster, *, attachable: bool) -> None:
        self.name = f"disk-{secrets.token_hex(4)}"
        self.claim, self.node, self.uid = f"ws-{self.name}-home", f"node-of-{self.name}", f"{self.name}-uid"
        self._api = cluster.api
        self._api.create(
            f"{STORAGE}/csidrivers", {"metadata": {"name": self.name}, "spec": {"attachRequired": attachable}}
        )
        size = {"storage": "1Mi"}
        common = {"storageClassName": "", "accessModes": ["ReadWriteOnce"]}
        csi = {"driver": self.name, "volumeHandle": self.name}
        self._api.create(
            "/api/v1/persistentvolumes",
            {"metadata": {"name": self.name}, "spec": {**common, "capacity": size, "csi": csi}},
        )
        labels = {UID: self.uid, WORKSPACE: self.name}
        self._api.create(
            f"{NAMESPACED}/persistentvolumeclaims",
            {
                "metadata": {"name": self.claim, "labels": labels},
                "spec": {**common, "volumeName": self.name, "resources": {"requests": size}},
            },
        )
        source = {"persistentVolumeName": self.name}
        attachment = {"attacher": self.name, "nodeName": self.node, "source": source}
        self._api.create(f"{STORAGE}/volumeattachments", {"metadata": {"name": self.name}, "spec": attachment})

    def lost_pod(self) -> Json:
        """A mover that ran on the node, as it was last seen. Its object is gone."""
        spec = MoverSpec(self.name, self.uid, "run-1", "mover/token/1", writable=True)
        pod = mover_pod(SHAPE, spec, self.claim)
        pod["spec"]["nodeName"] = self.node
        self._api.create(f"{NAMESPACED}/pods", pod)
        path = f"{NAMESPACED}/pods/{pod['metadata']['name']}"
        found = self._api.get(path)
        state = {"running": {"startedAt": found["metadata"]["creationTimestamp"]}}
        container = {"name": "mover", "image": "i", "imageID": "i", "ready": True, "restartCount": 0, "state": state}
        found["status"] = {"phase": "Running", "containerStatuses": [{**container, "containerID": "containerd://1"}]}
        last = self._api.call("PUT", f"{path}/status", found)
        self._api.delete(path, gracePeriodSeconds=0)
        return last

    def detach(self) -> None:
        """As the cluster does some minutes later."""
        self._api.delete(f"{STORAGE}/volumeattachments/{self.name}")

    def remove(self) -> None:
        """All of it."""
        self._api.delete(f"{NAMESPACED}/persistentvolumeclaims/{self.claim}")
        self._api.delete(f"/api/v1/persistentvolumes/{self.name}")
        self._api.delete(f"{STORAGE}/csidrivers/{self.name}")


@pytest.fixture(params=[True])
def disk(cluster: Cluster, kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """Of a driver that attaches its volumes, unless the test says otherwise."""
    disk = Disk(cluster, attachable=request.param)
    yield disk
    disk.remove()


async def looking(kubeconfig: Path) -> AsyncIterator[PodLifecycle]:
    api = Api(Where(HOMES, kubeconfig=str(kubeconfig), timeout_seconds=10))
    yield PodLifecycle(api, HASTY, WAITS)
    await api.aclose()


@pytest.fixture
async def pods(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[PodLifecycle]:
    """As the worker's own account."""

    def has_all() -> bool:
        return all(may(cluster, "codehub-storage", right) for right in ON_A_LOST_NODE)

    await asyncio.to_thread(wait_for, "its rights", has_all)
    async for each in looking(kubeconfig_of(cluster, kubectl, "codehub-storage", tmp_path)):
        yield each


@pytest.fixture
async def confined(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[PodLifecycle]:
    """As an account with the Role and without the ClusterRole."""
    given = ("--role=codehub-storage", f"--serviceaccount={WORKERS}:default")
    kubectl("-n", HOMES, "create", "rolebinding", "confined", *given)
    await asyncio.to_thread(wait_for, "its rights", lambda: may(cluster, "default", ("", "pods", "get")))
    assert not any(may(cluster, "default", right) for right in ON_A_LOST_NODE)
    async for each in looking(kubeconfig_of(cluster, kubectl, "default", tmp_path)):
        yield each


async def check_waits(mover: PodMover, node: str) -> None:
    """Neither dead nor replaced."""
    for call in (mover.wait(1), mover.stop()):
        with pytest.raises(StorageError) as error:
            await call
        assert (error.value.code, f"waiting for node {node}" in error.value.message) == (
            ErrorCode.BACKEND_UNAVAILABLE,
            True,
        )


async def test_a_detached_disk_ends_the_wait(cluster: Cluster, disk: Disk, pods: PodLifecycle) -> None:
    """While it is attached to the lost node nothing is believed; then the mover counts as dead, and is stopped."""
    mover = PodMover(pods, disk.lost_pod())
    await check_waits(mover, disk.node)
    disk.detach()
    assert "was deleted" in str(await mover.wait(30))
    await mover.stop()
    assert used(cluster) >= ON_A_LOST_NODE


@pytest.mark.parametrize("disk", [False], indirect=True)
async def test_a_driver_that_attaches_nothing(disk: Disk, pods: PodLifecycle) -> None:
    """No attachment is no evidence where there never is one."""
    mover = PodMover(pods, disk.lost_pod())
    disk.detach()
    await check_waits(mover, disk.node)


async def test_who_may_not_look_waits(disk: Disk, confined: PodLifecycle) -> None:
    """Without the ClusterRole there is no evidence, and no error but the wait."""
    mover = PodMover(confined, disk.lost_pod())
    disk.detach()
    await check_waits(mover, disk.node)
