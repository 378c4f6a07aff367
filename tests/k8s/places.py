"""A namespace of a real cluster as a place with volumes, for the tests of the Kubernetes backend.

Movers and walks are busybox scripts here: what they do is the data plane's matter, what becomes of them the backend's.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from activities.backends.base import MoverSpec
from activities.backends.containers import VOLUME, MoverImage
from activities.backends.kubernetes.backend import KubernetesBackend
from activities.backends.kubernetes.claims import UID, WORKSPACE, ClaimDefaults
from activities.backends.kubernetes.client import Api, Cluster
from activities.backends.kubernetes.lifecycle import Waits
from activities.backends.kubernetes.pods import PodShape
from activities.backends.kubernetes.template import PodTemplate
from activities.backends.wait_policy import WaitPolicy
from tests.harness.cluster import cluster as real
from tests.harness.cluster.api import ApiError, Json, wait_for
from tests.harness.cluster.images import TINY
from tests.harness.cluster.storage import STORAGE_CLASS, VOLUMES

BASELINE = {"pod-security.kubernetes.io/enforce": "baseline"}
LABEL = "codehub.workspace"
_SERVE = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
_LOOK = f"find {VOLUME} -exec stat -c '%n %s %i %Y %Z' {{}} + | sort | sha256sum | cut -c1-64"
_WALK = f"echo b3:$({_LOOK}); {_SERVE}"
IMAGE = MoverImage(
    TINY,
    mover_command=("sh", "-c", f"echo serving; {_SERVE}", "mover"),
    walk_command=("sh", "-c", _WALK, "walk"),
    memory_bytes=32 << 20,
)
SHAPE = PodShape(IMAGE, pull_policy="Never", scratch_bytes=16 << 20, grace_seconds=5)
PATIENCE = WaitPolicy(lock_seconds=15, grace_seconds=5)
WAITS = Waits(ready_seconds=60, obstacle_seconds=6, look_seconds=0.2)


class ClaimPlace:
    """A new namespace with two backends on it, as two workers have them. See ``tests.contract``'s ``Place``."""

    def __init__(self, cluster: real.Cluster, labels: dict[str, str] | None = None) -> None:
        self.cluster = cluster
        self.namespace = f"t{secrets.token_hex(4)}"
        cluster.new_namespace(self.namespace, BASELINE if labels is None else labels)
        self._backends: list[KubernetesBackend] = []
        self.backend, self.other = self.new_backend(), self.new_backend()

    def new_backend(
        self,
        shape: PodShape = SHAPE,
        *,
        template: PodTemplate | None = None,
        access_mode: str = "ReadWriteOnce",
        storage_class: str = STORAGE_CLASS,
        wait_policy: WaitPolicy = PATIENCE,
        kubeconfig: Path | None = None,
    ) -> KubernetesBackend:
        """One more worker's backend."""
        where = Cluster(self.namespace, kubeconfig=str(kubeconfig or self.cluster.kubeconfig), timeout_seconds=10)
        if template is not None:
            shape = PodShape(shape.image, shape.secret, shape.pull_policy, shape.scratch_bytes, 5, template)
        backend = KubernetesBackend(
            Api(where),
            shape,
            defaults=ClaimDefaults(1 << 20, storage_class, access_mode),
            workspace_label=LABEL,
            wait_policy=wait_policy,
            waits=WAITS,
        )
        self._backends.append(backend)
        return backend

    async def aclose(self) -> None:
        """End all connections, and the namespace; what is in it goes meanwhile."""
        for backend in self._backends:
            await backend.aclose()
        self.cluster.api.delete(f"/api/v1/namespaces/{self.namespace}")

    # ------------------------------------------------------------ a user's file

    def write(self, workspace_id: str, text: str) -> None:
        """A user's file, written on the node; a claim that has no storage yet gets it by a first Pod."""
        if self.folder_of(workspace_id) is None:
            self.touch(workspace_id)
        folder = self.folder_of(workspace_id)
        assert folder is not None
        (folder / "work.txt").write_text(text)

    def read(self, workspace_id: str) -> str | None:
        """What it says; ``None`` if there is no such file or no volume."""
        folder = self.folder_of(workspace_id)
        return (folder / "work.txt").read_text() if folder is not None and (folder / "work.txt").exists() else None

    def folder_of(self, workspace_id: str) -> Path | None:
        """Where the claim's bytes are on this machine; ``None`` as long as it has none."""
        claim = self.find("persistentvolumeclaims", f"ws-{workspace_id}-home")
        if claim is None or not claim["spec"].get("volumeName"):
            return None
        volume = self.cluster.api.get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
        path = (volume["spec"].get("hostPath") or volume["spec"].get("local"))["path"]
        [term] = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        node = term["matchExpressions"][0]["values"][0]
        return self.cluster.nodes[node].disk / Path(path).relative_to(Path(VOLUMES).parent)

    def touch(self, workspace_id: str) -> None:
        """Run a Pod on the claim, and remove it."""
        name = self.run(f"first-{workspace_id}", workspace_id, "true")
        self.until_phase(name, "Succeeded")
        self.remove("pods", name)

    def make_foreign(self, workspace_id: str) -> None:
        """A claim of the right name that is not ours, with the user's file ``foreign``."""
        self.create("persistentvolumeclaims", claim(f"ws-{workspace_id}-home"))
        self.write(workspace_id, "foreign")

    def make_of_another(self, workspace_id: str, uid: str, says: str) -> None:
        """See ``Place``."""
        named = claim(f"ws-{workspace_id}-home")
        named["metadata"]["labels"] = {UID: uid, WORKSPACE: says}
        self.create("persistentvolumeclaims", named)
        self.write(workspace_id, "theirs")

    def mover(self, workspace_id: str, uid: str, run_id: str, number: int = 1, *, writable: bool = True) -> MoverSpec:
        """A mover to start."""
        return MoverSpec(workspace_id, uid, run_id, f"mover/token-{run_id}/{number}", writable=writable)

    # ------------------------------------------------------------ the cluster

    def path(self, kind: str, name: str = "") -> str:
        """Where a thing of this namespace is."""
        return f"/api/v1/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def find(self, kind: str, name: str) -> Json | None:
        """The thing; ``None`` if there is none."""
        try:
            return self.cluster.api.get(self.path(kind, name))
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def create(self, kind: str, body: Json) -> str:
        """Its name."""
        self.cluster.api.create(self.path(kind), body)
        return str(body["metadata"]["name"])

    def remove(self, kind: str, name: str) -> None:
        """Delete it, and return when it is gone."""
        self.cluster.api.delete(self.path(kind, name))
        wait_for(f"{name} is gone", lambda: self.find(kind, name) is None)

    def run(self, name: str, workspace_id: str, script: str, **spec: Any) -> str:
        """A user's Pod on the workspace's claim. Its name."""
        return self.create("pods", user_pod(name, workspace_id, script, **spec))

    def run_urgently(self, name: str, workspace_id: str, priority_class: str) -> None:
        """A user's Pod of a new priority class. Admission reads classes from a copy, which is a little behind."""

        def is_admitted() -> bool:
            try:
                self.run(name, workspace_id, "sleep 1000", priorityClassName=priority_class)
            except ApiError as error:
                if error.status == 403 and f"no PriorityClass with name {priority_class}" in str(error):
                    return False
                raise
            return True

        wait_for(f"{name} is admitted", is_admitted)

    def until_phase(self, name: str, *phases: str) -> None:
        """Wait until the Pod is there."""
        wait_for(
            f"{name} is {phases}",
            lambda: ((self.find("pods", name) or {}).get("status") or {}).get("phase") in phases,
        )

    def pods(self) -> list[str]:
        """The names of all Pods."""
        return [pod["metadata"]["name"] for pod in self.cluster.api.get(self.path("pods"))["items"]]


def claim(name: str, **spec: Any) -> Json:
    """A claim as the platform would make it, without labels of ours."""
    return {
        "metadata": {"name": name},
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
            **spec,
        },
    }


def user_pod(name: str, workspace_id: str, script: str, **spec: Any) -> Json:
    """A Pod of the platform that mounts the home at /home."""
    return {
        "metadata": {"name": name, "labels": {LABEL: workspace_id}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "main",
                    "image": TINY,
                    "imagePullPolicy": "Never",
                    "command": ["sh", "-c", script],
                    "volumeMounts": [{"name": "home", "mountPath": "/home"}],
                }
            ],
            "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": f"ws-{workspace_id}-home"}}],
            **spec,
        },
    }
