"""Dynamic volumes: local-path-provisioner, which makes a folder on the Pod's node for each claim."""

from __future__ import annotations

import json
from pathlib import Path

from tests.harness.cluster.api import Api, Json
from tests.harness.cluster.images import TINY
from tests.harness.cluster.pki import Authority
from tests.harness.cluster.program import Program
from tests.harness.enclosure import Enclosure
from tests.harness.parts import binary

STORAGE_CLASS = "local-path"
VOLUMES = "/var/lib/volumes"
"""Where the folders are, on each node."""
_NAMESPACE = "local-path-storage"
_CONFIG_MAP = "local-path-config"
_ACCOUNT = "local-path"
_SETUP = '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n'
_TEARDOWN = '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n'
_HELPER: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "helper-pod"},
    "spec": {
        "automountServiceAccountToken": False,
        "containers": [{"name": "helper-pod", "image": TINY, "imagePullPolicy": "Never"}],
    },
}
_CLASS: Json = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": STORAGE_CLASS},
    "provisioner": "rancher.io/local-path",
    "volumeBindingMode": "WaitForFirstConsumer",
    "reclaimPolicy": "Delete",
}


class Provisioner:
    """Runs beside the control plane, and ends with its enclosure."""

    def __init__(self, folder: Path, enclosure: Enclosure, authority: Authority, server: str) -> None:
        folder.mkdir()
        self._folder = folder
        kubeconfig = authority.kubeconfig("provisioner", "/O=system:masters/CN=provisioner", server)
        self._paths = folder / "config.json"
        self._paths.write_text(json.dumps(_PATHS))
        helper = folder / "helper.json"
        helper.write_text(json.dumps(_HELPER))
        self.program = Program(
            "local-path-provisioner",
            enclosure,
            [
                *(str(binary("local-path-provisioner")), "start", "--config", str(self._paths)),
                *("--kubeconfig", str(kubeconfig), "--namespace", _NAMESPACE, "--service-account-name", _ACCOUNT),
                *("--configmap-name", _CONFIG_MAP, "--helper-image", TINY, "--helper-pod-file", str(helper)),
            ],
            folder,
        )

    def start(self, api: Api) -> None:
        """Tell the API server what it needs, and start it."""
        namespaced = f"/api/v1/namespaces/{_NAMESPACE}"
        api.create("/api/v1/namespaces", {"metadata": {"name": _NAMESPACE}})
        api.create(f"{namespaced}/serviceaccounts", {"metadata": {"name": _ACCOUNT}})
        api.create(f"{namespaced}/configmaps", {"metadata": {"name": _CONFIG_MAP}, "data": _data()})
        api.create("/apis/storage.k8s.io/v1/storageclasses", _CLASS)
        self.program.start()


_PATHS = {"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [VOLUMES]}]}


def _data() -> Json:
    return {
        "config.json": json.dumps(_PATHS),
        "setup": _SETUP,
        "teardown": _TEARDOWN,
        "helperPod.yaml": json.dumps(_HELPER),
    }
