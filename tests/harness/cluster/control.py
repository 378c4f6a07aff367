"""The control plane: etcd, API server with an audit log, controllers, scheduler; each can be killed and started."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.cluster.api import Api
from tests.harness.cluster.network import Addresses
from tests.harness.cluster.pki import Authority
from tests.harness.cluster.program import Program
from tests.harness.enclosure import Enclosure
from tests.harness.parts import build

API_PORT = 443
"""The usual one of the service, too, since nothing translates it."""
_OTHER_PORT = 6443
_ETCD = "http://127.0.0.1:2379"
_ISSUER = "https://kubernetes.default.svc"
_READY_SECONDS = 90.0
# Every request once, when it was answered; without bodies.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}


class ControlPlane:
    """What an operator of a cluster runs apart from its nodes. It ends with its enclosure."""

    def __init__(self, folder: Path, enclosure: Enclosure, addresses: Addresses, authority: Authority) -> None:
        folder.mkdir()
        self._folder = folder
        self._enclosure = enclosure
        self._at = addresses
        self._authority = authority
        self._programs = build("kubernetes")
        self.audit_log = folder / "audit.log"
        self._admin = authority.issue("harness", "/O=system:masters/CN=harness")
        self.api = self._client(API_PORT)
        self.etcd = self._program("etcd", self._etcd())
        self._serving = self._apiserver()
        self.apiserver = self._program("kube-apiserver", self._serving)
        self.controllers = self._program("kube-controller-manager", self._controllers())
        self.scheduler = self._program("kube-scheduler", self._scheduler())

    @property
    def url(self) -> str:
        """The API server's, from the host, the nodes and the Pods."""
        return f"https://{self._at.control}:{API_PORT}"

    def begin(self) -> None:
        """Start what takes longest. ``complete`` waits for it."""
        self.etcd.start()
        self.apiserver.start()

    def complete(self) -> None:
        """Start the rest, and return when the API server is ready. Raises ``PartFailed``."""
        self.apiserver.wait_until(self.api.is_ready, _READY_SECONDS)
        self.controllers.start()
        self.scheduler.start()

    def end(self) -> None:
        """SIGKILL to all. Fine if they do not run."""
        for program in (self.scheduler, self.controllers, self.apiserver, self.etcd):
            program.kill()

    def restart_apiserver(self) -> None:
        """SIGKILL, and return when it is ready again."""
        self.apiserver.kill()
        self.apiserver.start()
        self.apiserver.wait_until(self.api.is_ready, _READY_SECONDS)

    @contextmanager
    def other_cluster(self) -> Iterator[tuple[str, int, Api]]:
        """Another, empty cluster which the same authority signed for: where its API is, for as long as it lasts.

        There is nothing behind that API, neither controllers nor nodes.
        """
        own = [
            f"--secure-port={_OTHER_PORT}",
            f"--etcd-prefix=/other-{secrets.token_hex(4)}",
            "--etcd-compaction-interval=0",
            f"--audit-log-path={self._folder}/other-audit.log",
        ]
        program = self._program("other-apiserver", [*self._serving, *own])  # of two flags the later counts
        api = self._client(_OTHER_PORT)
        program.start()
        try:
            program.wait_until(api.is_ready, _READY_SECONDS)
            yield self._at.control, _OTHER_PORT, api
        finally:
            program.kill()

    def audit_events(self) -> list[dict[str, Any]]:
        """Every request that the API server answered so far."""
        return [json.loads(line) for line in self.audit_log.read_text().splitlines()]

    def _client(self, port: int) -> Api:
        return Api(self._at.control, port, str(self._authority.certificate), self._admin)

    def _program(self, name: str, command: list[str]) -> Program:
        return Program(name, self._enclosure, command, self._folder)

    def _etcd(self) -> list[str]:
        peer = "http://127.0.0.1:2380"
        return [
            "etcd",
            f"--data-dir={self._folder}/etcd",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ]

    def _apiserver(self) -> list[str]:
        at, authority = self._at, self._authority
        serving = authority.issue("apiserver", "/CN=apiserver", [at.control, at.api_service, "127.0.0.1"])
        to_kubelets = authority.issue("to-kubelets", "/O=system:masters/CN=apiserver")
        policy = self._folder / "audit-policy.json"
        policy.write_text(json.dumps(_AUDIT_POLICY))
        return [
            str(self._programs / "kube-apiserver"),
            f"--etcd-servers={_ETCD}",
            "--bind-address=0.0.0.0",
            f"--advertise-address={at.control}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={at.services}",
            f"--cert-dir={self._folder}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={authority.certificate}",
            f"--kubelet-client-certificate={to_kubelets.certificate}",
            f"--kubelet-client-key={to_kubelets.key}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={authority.account_key}",
            f"--service-account-signing-key-file={authority.account_key}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--audit-log-path={self.audit_log}",
            f"--audit-policy-file={policy}",
        ]

    def _controllers(self) -> list[str]:
        kubeconfig = self._authority.kubeconfig("controllers", "/CN=system:kube-controller-manager", self.url)
        return [
            str(self._programs / "kube-controller-manager"),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self._folder}",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._authority.account_key}",
            f"--root-ca-file={self._authority.certificate}",
            # Of the default 50 and 5 s; a busy machine needs some patience with its kubelets.
            "--node-monitor-grace-period=16s",
            "--node-monitor-period=2s",
        ]

    def _scheduler(self) -> list[str]:
        kubeconfig = self._authority.kubeconfig("scheduler", "/CN=system:kube-scheduler", self.url)
        return [
            str(self._programs / "kube-scheduler"),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self._folder}",
            "--leader-elect=false",
        ]
