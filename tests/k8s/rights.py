"""The manifests of deploy/kubernetes as an operator applies them, and the rights that they grant and that are used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # published without types

from tests.harness.cluster.api import wait_for
from tests.harness.cluster.cluster import Cluster

MANIFESTS = Path(__file__).parents[2] / "deploy/kubernetes"
WORKERS, HOMES = "codehub-storage", "codehub-homes"
ACCOUNT = f"system:serviceaccount:{WORKERS}:codehub-storage"

Right = tuple[str, str, str]
"""API group, resource, verb."""

ON_A_LOST_NODE = frozenset({("storage.k8s.io", "csidrivers", "get"), ("storage.k8s.io", "volumeattachments", "list")})
"""What no cycle uses in which all goes well; ``test_lost_nodes`` uses it, as the same account."""


class Kubectl:
    """The command, on one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._command = [str(Path(sys.executable).with_name("kubectl")), f"--kubeconfig={cluster.kubeconfig}"]

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run([*self._command, *arguments], input=stdin, capture_output=True, text=True)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout


@contextmanager
def accounts(cluster: Cluster) -> Iterator[Kubectl]:
    """Both namespaces and the accounts of the manifests, with nothing that runs."""
    kubectl = Kubectl(cluster)
    for name in ("namespaces.yaml", "accounts.yaml"):
        kubectl("apply", "-f", str(MANIFESTS / name))
    try:
        yield kubectl
    finally:
        for name in ("accounts.yaml", "namespaces.yaml"):
            kubectl("delete", "-f", str(MANIFESTS / name), "--wait=false")
        wait_until_gone(cluster)


def wait_until_gone(cluster: Cluster) -> None:
    """The next test may make the namespaces anew."""

    def are_gone() -> bool:
        return not any(cluster.api.exists(f"/api/v1/namespaces/{name}") for name in (WORKERS, HOMES))

    wait_for("the namespaces are gone", are_gone, 120)


def kubeconfig_of(cluster: Cluster, kubectl: Kubectl, account: str, folder: Path) -> Path:
    """As an account of the workers' namespace would reach the cluster."""
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": kubectl("-n", WORKERS, "create", "token", account).strip()}
    path = folder / f"{account}.kubeconfig"
    path.write_text(json.dumps(config))
    return path


def may(cluster: Cluster, account: str, right: Right) -> bool:
    """Would the API server let an account of the workers' namespace do this; its rules take a moment to reach it."""
    group, resource, verb = right
    asked = {"namespace": HOMES, "group": group, "resource": resource, "verb": verb}
    review = {"spec": {"user": f"system:serviceaccount:{WORKERS}:{account}", "resourceAttributes": asked}}
    answer = cluster.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def used(cluster: Cluster) -> set[Right]:
    """All that the worker's account has done so far."""
    return {right_of(event) for event in cluster.audit_events() if event["user"]["username"] == ACCOUNT}


def right_of(event: dict[str, Any]) -> Right:
    """What a request needed, as a rule names it."""
    thing = event.get("objectRef") or {}
    resource = "/".join(part for part in (thing.get("resource"), thing.get("subresource")) if part)
    return thing.get("apiGroup", ""), resource, event["verb"]


def granted() -> set[Right]:
    """All that the worker's account may do."""
    documents = yaml.safe_load_all((MANIFESTS / "accounts.yaml").read_text())
    rules = [rule for each in documents if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
