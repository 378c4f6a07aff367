"""A cluster that ran Pods and was stopped, and one that failed to start, are gone without a trace."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness.cluster.api import wait_for
from tests.harness.cluster.cluster import NODES, Cluster
from tests.harness.cluster.images import TINY

_SWITCHES = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
_FOLDERS = (
    *("/opt/cni", "/opt/containerd", "/run/containerd", "/run/netns", "/var/lib/cni", "/var/lib/containerd"),
    *("/usr/libexec/kubernetes", "/var/lib/kubelet", "/var/lib/volumes", "/var/log/containers", "/var/log/pods"),
)


def _traces(cluster: Cluster) -> dict[str, list[str]]:
    """What the machine shows of it, besides its folder."""
    name = cluster.folder.name
    network = str(cluster.network)
    return {
        "interfaces": [each for each in _lines("ip", "-brief", "link") if each.startswith(cluster.interface)],
        "routes": [each for each in _lines("ip", "route") if network in each or cluster.interface in each],
        "mounts": [each for each in Path("/proc/self/mounts").read_text().splitlines() if name in each],
        "control groups": [str(each) for each in Path("/sys/fs/cgroup").glob(f"**/{name}-*")],
        "processes": [str(each) for each in Path("/proc").glob("[0-9]*") if _is_of(each, name)],
    }


def _of_the_machine() -> list[object]:
    """What a node would set or make."""
    switches = [Path("/proc/sys", each).read_text() for each in _SWITCHES]
    return [*switches, *(each for each in _FOLDERS if Path(each).exists())]


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _is_of(process: Path, name: str) -> bool:
    """Named so on its command line, or in a control group of that name."""
    try:
        text = (process / "cmdline").read_bytes() + (process / "cgroup").read_bytes()
    except OSError:
        return False
    return name.encode() in text


def test_stop_leaves_nothing(cluster: Cluster) -> None:
    """Beside another cluster, which goes on."""
    before = _of_the_machine()
    with Cluster() as other:
        pods = "/api/v1/namespaces/default/pods"
        for node in NODES:
            container = {"name": "main", "image": TINY, "imagePullPolicy": "Never"}
            spec = {"nodeName": node, "containers": [container]}
            other.api.create(pods, {"metadata": {"name": f"on-{node}"}, "spec": spec})
        wait_for(
            "both Pods run",
            lambda: all(each["status"]["phase"] == "Running" for each in other.api.get(pods)["items"]),
        )
        during = _traces(other)
    assert {what for what, found in during.items() if found} == during.keys() - {"mounts"}
    assert not any(_traces(other).values()), _traces(other)
    assert not other.folder.exists()
    assert _of_the_machine() == before
    assert all(map(cluster.is_ready, NODES))


def test_a_failed_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the image cannot be imported, with much already running."""

    def fail(self: Cluster, archive: Path) -> None:
        raise RuntimeError("no image")

    monkeypatch.setattr(Cluster, "import_image", fail)
    failing = Cluster()
    with pytest.raises(RuntimeError, match="no image"), failing:
        pass
    assert not any(_traces(failing).values()), _traces(failing)
    assert not failing.folder.exists()
