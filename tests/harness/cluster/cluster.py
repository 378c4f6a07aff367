"""The whole cluster, as a test holds it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness.cluster.api import Api, Json, wait_for
from tests.harness.cluster.control import ControlPlane
from tests.harness.cluster.images import write_tiny_image
from tests.harness.cluster.network import Addresses, Network
from tests.harness.cluster.node import Node
from tests.harness.cluster.pki import Authority
from tests.harness.cluster.storage import Provisioner
from tests.harness.enclosure import Enclosure
from tests.harness.parts import build

NODES = ("node-1", "node-2")
_READY_SECONDS = 120.0


class Cluster:
    """Two nodes and a control plane. ``start`` once, ``stop`` once; use it with ``with``.

    ``kubeconfig`` is an administrator's; its server is reached from this process, from the nodes and from Pods. What
    listens at ``host_address`` on this machine is reached from Pods on both nodes, and nothing beyond it is.
    """

    def __init__(self) -> None:
        for part in ("kubernetes", "local-path"):
            build(part)
        self.folder = Path(tempfile.mkdtemp(prefix="storage-cluster-"))
        self._at = Addresses(NODES)
        self._authority = Authority(self.folder / "pki")
        place = self.folder / "control"
        place.mkdir()
        self._place = Enclosure(place)
        self.control = ControlPlane(place / "plane", self._place, self._at, self._authority)
        self.nodes = {
            name: Node(name, self.folder / name, self._at, self._authority, self.control.url) for name in NODES
        }
        self._network = Network(self._at, self._place, {name: node.enclosure for name, node in self.nodes.items()})
        self._storage = Provisioner(self.folder / "storage", self._place, self._authority, self.control.url)
        self.kubeconfig = self._authority.kubeconfig("admin", "/O=system:masters/CN=admin", self.control.url)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def api(self) -> Api:
        """The API server, as the harness itself."""
        return self.control.api

    @property
    def host_address(self) -> str:
        """This machine's address as Pods see it; bind servers for them to it."""
        return self._place.host_address

    @property
    def network(self) -> IPv4Network:
        """All addresses of nodes, Pods and services."""
        return self._at.all

    @property
    def interface(self) -> str:
        """The host's end of the link."""
        return self._place.interface

    @property
    def node_1(self) -> Enclosure:
        """The first node, to run something as if it ran there."""
        return self.nodes[NODES[0]].enclosure

    def start(self) -> None:
        """Return when both nodes are ready and Pods with claims can be created."""
        self._place.start()
        for node in self.nodes.values():
            node.enclosure.start()
        self._network.connect()
        self.control.begin()
        for node in self.nodes.values():
            node.prepare()
            node.start_runtime()
        image = self.folder / "tiny.tar"
        write_tiny_image(image)
        for node in self.nodes.values():
            node.wait_for_runtime()
        self.import_image(image)
        self.control.complete()
        for node in self.nodes.values():
            node.kubelet.start()
        self._storage.start(self.api)
        wait_for("both nodes are ready", lambda: all(map(self.is_ready, NODES)), _READY_SECONDS)
        wait_for("accounts", lambda: self.api.exists("/api/v1/namespaces/default/serviceaccounts/default"))

    def stop(self) -> None:
        """End everything, and return when nothing is left. Fine if it never started."""
        with contextlib.ExitStack() as steps:  # all of them, whichever fails; the last comes first
            steps.callback(shutil.rmtree, self.folder, ignore_errors=True)
            steps.callback(self.control.end)
            steps.callback(self._storage.program.kill)
            steps.callback(self._place.stop)
            for node in self.nodes.values():
                steps.callback(node.remove)

    def import_image(self, archive: Path) -> None:
        """All images of a docker archive, to both nodes."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            for done in [pool.submit(node.import_image, archive) for node in self.nodes.values()]:
                done.result()

    def is_ready(self, node: str) -> bool:
        """Does the API server call the node ready."""
        if not self.api.exists(f"/api/v1/nodes/{node}"):
            return False
        status = self.api.get(f"/api/v1/nodes/{node}")["status"]
        return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))

    def cut(self, node: str) -> None:
        """The node loses its network; what runs there runs on. It is NotReady some 17 s later."""
        self._network.cut(node)

    def rejoin(self, node: str) -> None:
        """Its network is back. It is ready some seconds later."""
        self._network.rejoin(node)

    def restart_apiserver(self) -> None:
        """SIGKILL, and return when it is ready again. Every watch is broken, every older version is gone (410)."""
        self.control.restart_apiserver()

    def audit_events(self) -> list[dict[str, Any]]:
        """Every request that the API server answered so far: ``verb``, ``user``, ``objectRef``, ``responseStatus``."""
        return self.control.audit_events()

    def new_namespace(self, name: str, labels: Json | None = None) -> None:
        """Return when Pods can be created in it."""
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        wait_for(f"namespace {name}", lambda: self.api.exists(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
