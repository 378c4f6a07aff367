"""Sites on a real cluster: claims of a namespace of their own, movers of our image, servers reached over a link."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from activities.backends.kubernetes.claims import WORKSPACE
from activities.backends.kubernetes.pods import MOVER, ROLE
from tests.harness.cluster.cluster import Cluster
from tests.harness.cluster.control import API_PORT
from tests.harness.cluster.storage import STORAGE_CLASS
from tests.harness.image import NAME, image_tar
from tests.harness.relay import Relay
from tests.harness.seaweed import Identity
from tests.k8s.places import ClaimPlace, claim
from worker.dev.temporal import TemporalServer
from worker.settings import variable

SECRET = "store"


class ClusterHabitat(ClaimPlace):
    """One site's namespace, with the Secret of its movers."""

    def __init__(self, cluster: Cluster, relays: Relays, keys: Mapping[str, str]) -> None:
        super().__init__(cluster)
        self._relays = relays
        self.create("secrets", {"metadata": {"name": SECRET}, "stringData": dict(keys)})

    def settings(self, s3_endpoint: str) -> Mapping[str, Any]:
        """See ``Habitat``."""
        return {
            "backend": "k8s",
            "k8s_namespace": self.namespace,
            "k8s_kubeconfig": self._relays.kubeconfig,
            "k8s_storage_class": STORAGE_CLASS,
            "k8s_secret": SECRET,
            "k8s_pull_policy": "Never",
            "mover_image": NAME,
            "mover_temporal_address": self._relays.temporal,
            "mover_s3_endpoint": self._relays.store(s3_endpoint),
        }

    def key(self, workspace_id: str) -> str:
        """See ``Habitat``."""
        return f"ws-{workspace_id}-home"

    def folder(self, workspace_id: str) -> Path:
        """See ``Habitat``. A claim that has no storage yet gets it here, by a first Pod."""
        found = self.find("persistentvolumeclaims", self.key(workspace_id))
        if found is None:
            return Path("/nonexistent") / workspace_id
        if not found["spec"].get("volumeName"):
            self.touch(workspace_id)
        folder = self.folder_of(workspace_id)
        assert folder is not None
        return folder

    def make_stranger(self, workspace_id: str) -> None:
        """See ``Habitat``."""
        self.create("persistentvolumeclaims", claim(self.key(workspace_id)))

    def remove_stranger(self, workspace_id: str) -> None:
        """See ``Habitat``."""
        self.remove("persistentvolumeclaims", self.key(workspace_id))

    def lose(self, workspace_id: str) -> None:
        """``kubectl delete pvc``."""
        self.remove("persistentvolumeclaims", self.key(workspace_id))

    @contextlib.contextmanager
    def using(self, workspace_id: str) -> Iterator[str]:
        """A running Pod."""
        name = self.run(f"user-of-{workspace_id}", workspace_id, "sleep 100000")
        self.until_phase(name, "Running")
        try:
            yield name
        finally:
            self.remove("pods", name)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Another cluster at the address that workers know, with a namespace of the same name. Nothing may be made."""
        with self.cluster.control.other_cluster() as (host, port, api):
            api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
            with self._relays.api.led_to(host, port):
                yield
            for kind in ("persistentvolumeclaims", "pods"):
                assert api.get(self.path(kind))["items"] == []

    def movers(self, workspace_id: str) -> list[str]:
        """See ``Habitat``."""
        return [pod["metadata"]["name"] for pod in self._movers(workspace_id, "Running")]

    def _movers(self, workspace_id: str, *phases: str) -> list[dict[str, Any]]:
        selector = f"labelSelector={WORKSPACE}%3D{workspace_id},{ROLE}%3D{MOVER}"
        pods = self.cluster.api.get(f"{self.path('pods')}?{selector}")["items"]
        return [pod for pod in pods if pod["status"].get("phase", "Pending") in phases]

    def kill_mover(self, workspace_id: str) -> None:
        """See ``Habitat``: by its control group, on this machine."""
        for group in self.control_groups(workspace_id):
            for process in filter(str.isdecimal, os.listdir("/proc")):
                if _is_mover(process, group):
                    os.kill(int(process), signal.SIGKILL)

    def control_groups(self, workspace_id: str) -> list[str]:
        """See ``Habitat``: also of Pods that run already and that no kubelet has told of yet."""
        return [f"pod{pod['metadata']['uid']}" for pod in self._movers(workspace_id, "Pending", "Running")]

    def has_trash(self, workspace_id: str) -> bool:
        """Is the claim marked, and not gone."""
        found = self.find("persistentvolumeclaims", self.key(workspace_id))
        return found is not None and "deletionTimestamp" in found["metadata"]


class Relays:
    """The servers of this machine as Pods reach them, and the API server as workers do."""

    def __init__(self, cluster: Cluster, temporal: TemporalServer) -> None:
        self._cluster = cluster
        self._host = cluster.host_address
        self._temporal = Relay(self._host, temporal.ports[0])
        self._stores: dict[str, Relay] = {}
        self.api = Relay("127.0.0.1", API_PORT, cluster.control.api.address)
        """The API server as all workers of the session reach it."""

    @property
    def temporal(self) -> str:
        """host:port."""
        return self._temporal.address

    @property
    def kubeconfig(self) -> Path:
        """An administrator's, whose server is ``api``."""
        return self._cluster.folder / "relayed.kubeconfig"

    def store(self, endpoint: str) -> str:
        """The URL."""
        if endpoint not in self._stores:
            self._stores[endpoint] = Relay(self._host, int(endpoint.rpartition(":")[2])).__enter__()
        return f"http://{self._stores[endpoint].address}"

    def __enter__(self) -> Self:
        self._temporal.__enter__()
        self.api.__enter__()
        config = json.loads(self._cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://{self.api.address}"
        self.kubeconfig.write_text(json.dumps(config))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for relay in (*self._stores.values(), self._temporal, self.api):
            relay.__exit__(None, None, None)


_makers: list[tuple[Cluster, Relays, Mapping[str, str]]] = []


@contextlib.contextmanager
def prepared(cluster: Cluster, temporal: TemporalServer, admin: Identity) -> Iterator[None]:
    """What the habitats of this session's sites share."""
    cluster.import_image(image_tar())
    keys = {variable("s3_access_key"): admin.access_key, variable("s3_secret_key"): admin.secret_key}
    with Relays(cluster, temporal) as relays:
        _makers.append((cluster, relays, keys))
        try:
            yield
        finally:
            _makers.clear()


def new() -> ClusterHabitat:
    """The habitat of one more site."""
    [maker] = _makers
    return ClusterHabitat(*maker)


def _is_mover(process: str, control_group: str) -> bool:
    try:
        group, command = Path("/proc", process, "cgroup").read_text(), Path("/proc", process, "cmdline").read_bytes()
    except OSError:
        return False
    return control_group in group and b"worker.mover" in command
