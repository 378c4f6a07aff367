"""The cluster for tests is real: what the other tests rely on, and that it leaves nothing."""

from __future__ import annotations

import http.server
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.cluster.api import Json, wait_for
from tests.harness.cluster.cluster import NODES, Cluster
from tests.harness.cluster.images import TINY
from tests.harness.cluster.storage import STORAGE_CLASS, VOLUMES


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """One of the test's own."""
    name = f"t{secrets.token_hex(4)}"
    cluster.new_namespace(name)
    return name


def _pod(name: str, node: str, script: str, claim: str | None = None) -> Json:
    container: Json = {"name": "main", "image": TINY, "imagePullPolicy": "Never", "command": ["sh", "-c", script]}
    spec: Json = {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [container],
    }
    if claim is not None:
        container["volumeMounts"] = [{"name": "home", "mountPath": "/home"}]
        spec["volumes"] = [{"name": "home", "persistentVolumeClaim": {"claimName": claim}}]
    return {"metadata": {"name": name}, "spec": spec}


def _claim(name: str) -> Json:
    return {
        "metadata": {"name": name},
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Mi"}},
        },
    }


def _create(cluster: Cluster, namespace: str, kind: str, body: Json) -> str:
    """Its path."""
    path = f"/api/v1/namespaces/{namespace}/{kind}"
    cluster.api.create(path, body)
    return f"{path}/{body['metadata']['name']}"


def _run(cluster: Cluster, namespace: str, pod: Json) -> str:
    """What the Pod printed, once it has succeeded."""
    path = _create(cluster, namespace, "pods", pod)
    wait_for("the Pod ends", lambda: cluster.api.get(path)["status"]["phase"] in ("Succeeded", "Failed"))
    text = cluster.api.text(f"{path}/log")
    assert cluster.api.get(path)["status"]["phase"] == "Succeeded", text
    return text


@pytest.mark.parametrize("node", NODES)
def test_a_pod_with_a_claim_runs_on_each_node(cluster: Cluster, namespace: str, node: str) -> None:
    """Dynamic volumes; and both Pod and claim with its volume are gone after their deletion."""
    claim = _create(cluster, namespace, "persistentvolumeclaims", _claim("home"))
    text = _run(cluster, namespace, _pod("writer", node, "echo kept > /home/word && cat /home/word", "home"))
    assert text == "kept\n"
    [folder] = (cluster.nodes[node].disk / Path(VOLUMES).relative_to("/var/lib")).glob(f"*_{namespace}_home")
    assert (folder / "word").read_text() == "kept\n"

    volume = f"/api/v1/persistentvolumes/{cluster.api.get(claim)['spec']['volumeName']}"
    cluster.api.delete(f"/api/v1/namespaces/{namespace}/pods/writer")
    cluster.api.delete(claim)
    wait_for("the volume is gone", lambda: not cluster.api.exists(volume))
    assert not cluster.api.exists(claim)
    assert not folder.exists()


@pytest.mark.parametrize("node", NODES)
def test_pods_reach_the_host_and_the_api_server(cluster: Cluster, namespace: str, node: str) -> None:
    """What binds to `host_address` is reached from Pods of both nodes; the API server at its service address too."""
    with _greeting(cluster.host_address) as port:
        script = f"wget -qO- http://{cluster.host_address}:{port}/ && nc $KUBERNETES_SERVICE_HOST 443 </dev/null"
        assert _run(cluster, namespace, _pod("caller", node, script)) == "hello"


def test_pods_reach_pods_of_the_other_node_and_nothing_outside(cluster: Cluster, namespace: str) -> None:
    """Pod to Pod across nodes; an address that is none of ours is unreachable."""
    server = _pod("server", NODES[1], "mkdir /tmp/w && echo hi > /tmp/w/index.html && httpd -f -p 8080 -h /tmp/w")
    path = _create(cluster, namespace, "pods", server)
    wait_for("the server runs", lambda: cluster.api.get(path)["status"]["phase"] == "Running")
    address = cluster.api.get(path)["status"]["podIP"]
    script = f"until wget -qO- http://{address}:8080/; do sleep 0.1; done; ! nc 192.0.2.1 80 2>&1"
    assert "unreachable" in (text := _run(cluster, namespace, _pod("caller", NODES[0], script)))
    assert text.startswith("hi\n")


def test_a_node_that_is_cut_off_is_lost_and_comes_back(cluster: Cluster) -> None:
    """NotReady while its cable is out, ready again after."""
    cluster.cut(NODES[1])
    try:
        wait_for("the node is NotReady", lambda: not cluster.is_ready(NODES[1]))
        assert cluster.is_ready(NODES[0])
    finally:
        cluster.rejoin(NODES[1])
    wait_for("the node is ready", lambda: cluster.is_ready(NODES[1]))


def test_the_api_server_restarts(cluster: Cluster, namespace: str) -> None:
    """With everything in it, under another pid."""
    before = cluster.control.apiserver.pid
    cluster.restart_apiserver()
    assert cluster.control.apiserver.pid not in (None, before)
    assert cluster.api.exists(f"/api/v1/namespaces/{namespace}")
    assert _run(cluster, namespace, _pod("after", NODES[0], "echo still here")) == "still here\n"


def test_requests_are_in_the_audit_log(cluster: Cluster, namespace: str) -> None:
    """Who did what to which object."""
    [answered] = [
        event
        for event in cluster.audit_events()
        if event["verb"] == "create"
        and event.get("objectRef", {}).items() >= {"resource": "namespaces", "name": namespace}.items()
    ]
    assert answered["user"]["username"] == "harness"
    assert answered["responseStatus"]["code"] == http.HTTPStatus.CREATED


@contextmanager
def _greeting(address: str) -> Iterator[int]:
    """A server on this machine; its port."""

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer((address, 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
