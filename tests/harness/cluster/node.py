"""A node: containerd and kubelet in an enclosure, with the folders that a machine of its own would have."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.harness.cluster.images import PAUSE
from tests.harness.cluster.network import Addresses
from tests.harness.cluster.pki import Authority
from tests.harness.cluster.program import Program
from tests.harness.enclosure import Enclosure, remove_cgroups
from tests.harness.parts import binary

_SOCKET = "/run/containerd/containerd.sock"
_NAMESPACE = "k8s.io"
_PLUGINS = "/usr/lib/cni"
_READY_SECONDS = 60.0
# Switches of the whole machine that a kubelet sets: it gets copies.
_SWITCHES = (
    *("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"),
    *("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)


class Node:
    """``start_runtime``, then ``start_kubelet`` once the API server answers. ``group`` names its control groups."""

    def __init__(self, name: str, folder: Path, addresses: Addresses, authority: Authority, server: str) -> None:
        self.name = name
        self.group = f"{folder.parent.name}-{name}"
        folder.mkdir()
        self._folder = folder
        self._address = addresses.nodes[name]
        self._pods = addresses.pods[name]
        self.enclosure = Enclosure(folder, is_linked=False)
        self.containerd = Program("containerd", self.enclosure, self._containerd(), folder)
        self.kubelet = Program("kubelet", self.enclosure, self._kubelet(authority, server), folder)

    @property
    def disk(self) -> Path:
        """What the node has as /var/lib, seen from here."""
        return self._folder / "lib"

    def prepare(self) -> None:
        """Folders and control groups, in the started enclosure."""
        self._mount()
        _make_cgroups(self.group)

    def start_runtime(self) -> None:
        """Start containerd; ``wait_for_runtime`` waits for it."""
        self.containerd.start()

    def wait_for_runtime(self) -> None:
        """Return when it answers."""
        self.containerd.wait_until(self._runtime_answers, _READY_SECONDS)

    def import_image(self, archive: Path) -> None:
        """All images of a docker or OCI archive, under the names that are in it."""
        with archive.open("rb") as file:
            command = ["ctr", "--namespace", _NAMESPACE, "images", "import", "-"]
            done = subprocess.run(self.enclosure.command(command), stdin=file, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)} < {archive}: {done.stderr.strip()}")

    def remove(self) -> None:
        """End all that runs there, whoever started it, and remove what it leaves with the machine."""
        self.enclosure.stop()
        for program in (self.kubelet, self.containerd):
            program.kill()
        remove_cgroups(self.group)

    def _mount(self) -> None:
        lines = ["set -e"]
        for name, target in (("lib", "/var/lib"), ("log", "/var/log")):
            (self._folder / name).mkdir()
            lines.append(f"mount --bind '{self._folder}/{name}' {target}")
        for switch in _SWITCHES:
            copy = self._folder / "switches" / switch
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(Path("/proc/sys", switch).read_text())
            lines.append(f"mount --bind '{copy}' /proc/sys/{switch}")
        script = "\n".join(lines)
        done = subprocess.run(self.enclosure.command(["sh", "-c", script]), capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {done.stderr.strip()}")

    def _runtime_answers(self) -> bool:
        done = subprocess.run(self.enclosure.command(["ctr", "version"]), capture_output=True)
        return done.returncode == 0

    def _containerd(self) -> list[str]:
        network = self._folder / "cni"
        network.mkdir()
        (network / "10-pods.conflist").write_text(json.dumps(self._pod_network()))
        config = self._folder / "containerd.toml"
        config.write_text(_CONTAINERD.format(pause=PAUSE, plugins=_PLUGINS, network=network))
        return ["containerd", "--config", str(config)]

    def _pod_network(self) -> object:
        addressing = {"type": "host-local", "ranges": [[{"subnet": str(self._pods)}]], "routes": [{"dst": "0.0.0.0/0"}]}
        return {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{"type": "bridge", "bridge": "pods", "isGateway": True, "ipam": addressing}],
        }

    def _kubelet(self, authority: Authority, server: str) -> list[str]:
        config = self._folder / "kubelet.json"
        config.write_text(json.dumps(self._kubelet_config(authority)))
        subject = f"/O=system:nodes/CN=system:node:{self.name}"
        return [
            str(binary("kubelet")),
            f"--config={config}",
            f"--kubeconfig={authority.kubeconfig(self.name, subject, server)}",
            f"--hostname-override={self.name}",
            f"--node-ip={self._address}",
        ]

    def _kubelet_config(self, authority: Authority) -> object:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self._address,
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority.certificate)}},
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.group}",
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
            },
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,  # there is nowhere to pull them from again
            "makeIPTablesUtilChains": False,
            "nodeStatusUpdateFrequency": "4s",
            "oomScoreAdj": 0,
            "resolvConf": "",
            "volumePluginDir": "/var/lib/kubelet/plugins-of-volumes",
        }


# `restrict_oom_score_adj`: without CAP_SYS_RESOURCE no process may be given a better score than ours.
_CONTAINERD = """\
version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
]
oom_score = 0
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{network}"
"""


def _make_cgroups(name: str) -> None:
    """One in each hierarchy, or the one of cgroup v2. A new cpuset is empty, and takes processes once it is filled."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        (root / name).mkdir()
        return
    for hierarchy in root.iterdir():
        if hierarchy.is_symlink() or not (hierarchy / "cgroup.procs").exists():
            continue
        (hierarchy / name).mkdir()
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / setting).exists():
                (hierarchy / name / setting).write_text((hierarchy / setting).read_text())
