"""`doctor` on a real cluster: the rights of the manifests are enough, and a missing one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from activities.backends.kubernetes.rights import HELPFUL, NEEDED
from tests.harness.cluster.cluster import Cluster
from tests.harness.commands import end_of, running
from tests.k8s.rights import HOMES, WORKERS, accounts, kubeconfig_of


async def place_checks(kubeconfig: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """What it says of the place. There is neither store nor Temporal."""
    environment = {
        "HOME": str(folder),
        "CODEHUB_STORAGE_BACKEND": "k8s",
        "CODEHUB_STORAGE_K8S_NAMESPACE": HOMES,
        "CODEHUB_STORAGE_K8S_KUBECONFIG": str(kubeconfig),
        "CODEHUB_STORAGE_S3_ENDPOINT": "http://127.0.0.1:9",
        "TEMPORAL_ADDRESS": "127.0.0.1:9",
    }
    async with running(environment, "doctor", "--json") as process:
        done = await end_of(process, "doctor")
    return {each["check"]: each for each in done.object()["checks"] if each["check"].startswith("place.")}


async def test_rights(cluster: Cluster, tmp_path: Path) -> None:
    """The worker's account has all; another has none, and all that is needed is named."""
    with accounts(cluster) as kubectl:
        checks = await place_checks(kubeconfig_of(cluster, kubectl, "codehub-storage", tmp_path), tmp_path)
        assert {name: checks[name]["state"] for name in ("place.kubernetes", "place.rights", "place.admission")} == {
            "place.kubernetes": "ok",
            "place.rights": "ok",
            "place.admission": "ok",
        }, checks
        kubectl("-n", WORKERS, "create", "serviceaccount", "nobody")
        role = {"verb": "get", "resource": "namespaces"}
        kubectl("-n", HOMES, "create", "role", "looks", *(f"--{key}={value}" for key, value in role.items()))
        kubectl("-n", HOMES, "create", "rolebinding", "looks", "--role=looks", f"--serviceaccount={WORKERS}:nobody")
        checks = await place_checks(kubeconfig_of(cluster, kubectl, "nobody", tmp_path), tmp_path)
        assert checks["place.kubernetes"]["state"] == "ok", json.dumps(checks)
        assert checks["place.rights"]["state"] == "fails"
        missing = checks["place.rights"]["text"]
        assert [str(right) for right in NEEDED if str(right) not in missing] == ["get namespaces"]
        assert not any(str(right) in missing for right in HELPFUL)
        assert checks["place.admission"]["state"] == "fails"
