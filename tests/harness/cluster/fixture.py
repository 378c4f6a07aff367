"""The session's cluster, or why there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.harness import parts
from tests.harness.cluster.cluster import Cluster

_PROGRAMS = {
    "busybox": "busybox",
    "containerd": "containerd",
    "etcd": "etcd-server",
    "ip": "iproute2",
    "openssl": "openssl",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""With the Debian package of each."""
_SBIN = "/usr/sbin:/sbin"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes, of the whole session: take a namespace of your own, and put right what you cut or kill."""
    if missing := _missing():
        if os.environ.get("CI"):
            pytest.fail(f"no Kubernetes in CI: {missing}", pytrace=False)
        pytest.skip(f"no Kubernetes: {missing}")
    with Cluster() as running:
        yield running


def _missing() -> str:
    if os.geteuid() != 0:
        return "only root can make namespaces and control groups"
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), _SBIN])
    packages = sorted({package for name, package in _PROGRAMS.items() if shutil.which(name, path=path) is None})
    if packages:
        return "apt-get install " + " ".join(packages)
    unbuildable = [part for part in ("kubernetes", "local-path") if not parts.can_build(part)]
    return f"no Go to build {' and '.join(unbuildable)} with" if unbuildable else ""
