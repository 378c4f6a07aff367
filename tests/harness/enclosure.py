"""Namespaces of a test's own: what is started in there sees its own processes, mounts and network, and ends as one.

Everything hangs on one process. With it the kernel ends all others in there, whoever their parents are, and with the
last of them go mounts, interfaces and rules. It is tied to the session, so even SIGKILL of the tests leaves no process,
mount or interface (but empty control groups and a folder).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from worker.dev.process import Child

# It adopts what loses its parent in there, and ignoring SIGCHLD reaps it. Engines leave sockets in /run, so that is its
# own.
_HOLD = """
import os, signal, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
open(sys.argv[1], "w").close()
while True:
    signal.pause()
"""
_READY_SECONDS = 20.0
_LOOK_SECONDS = 0.02
_NETWORKS = ipaddress.ip_network("10.128.0.0/9")
"""Where networks of ours are cut from, past what the machine's own routes hold."""


class Enclosure:
    """Made by ``start``, gone after ``stop``. Needs root, util-linux and iproute2.

    ``is_linked``: there is a way between it and the host, and no other.
    """

    def __init__(self, folder: Path, *, is_linked: bool = True) -> None:
        self._folder = folder
        self._is_linked = is_linked
        self._interface = f"st{secrets.token_hex(4)}"
        self._holder: int | None = None
        ready = folder / "enclosed"
        self._child = Child(
            "the enclosure",
            [
                *("unshare", "--net", "--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child"),
                *("--mount-proc", "--", sys.executable, "-I", "-S", "-c", _HOLD, str(ready)),
            ],
            log=folder / "enclosure.log",
            pid_file=folder / "enclosure.pid",
        )
        self._ready = ready
        link = free_network(30)
        self._inner, self._outer = str(link[2]), str(link[1])

    @property
    def holder(self) -> int:
        """The process on which everything hangs, as seen from here."""
        assert self._holder is not None, "not started"
        return self._holder

    @property
    def interface(self) -> str:
        """The host's end of the link."""
        return self._interface

    @property
    def address(self) -> str:
        """Its address on the link."""
        return self._inner

    @property
    def host_address(self) -> str:
        """The host's address on the link: what listens there can be reached from inside."""
        return self._outer

    def start(self) -> None:
        """Make it. Raises ``PartFailed``."""
        self._ready.unlink(missing_ok=True)
        self._child.start()
        try:
            self._child.wait_until(self._ready.exists, _READY_SECONDS)
            self._holder = child_of(self._child.pid or 0)
            if self._holder is None:
                raise self._child.failure("has lost its process")
            if self._is_linked:
                self._link(self._holder)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything in there, and return when it is gone. Fine if it does not run."""
        subprocess.run(["ip", "link", "delete", self._interface], stderr=subprocess.DEVNULL)
        if self._holder is not None:
            # The kernel ends and reaps all others before this one; `unshare` waits for it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._holder, signal.SIGKILL)
            self._holder = None
        self._child.stop(_READY_SECONDS)

    def kill_all(self) -> None:
        """SIGKILL to all in there but the process on which it hangs, and what has a process namespace of its own."""
        inside = os.readlink(f"/proc/{self.holder}/ns/pid")
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if int(pid) != self.holder and os.readlink(f"/proc/{pid}/ns/pid") == inside:
                    os.kill(int(pid), signal.SIGKILL)

    def command(self, command: Sequence[str]) -> list[str]:
        """``command`` run in there. The process that runs this is a parent of it, and lives as long."""
        return ["nsenter", "--target", str(self._holder), "--net", "--mount", "--pid", "--", *command]

    def _link(self, holder: int) -> None:
        """A pair of interfaces. There is no other way out, so nothing in there reaches past this machine."""
        peer = ("peer", "name", "uplink", "netns", str(holder))
        _run("ip", "link", "add", self._interface, "type", "veth", *peer)
        _run("ip", "address", "add", f"{self._outer}/30", "dev", self._interface)
        _run("ip", "link", "set", self._interface, "up")
        within = ("nsenter", "--target", str(holder), "--net", "--")
        _run(*within, "ip", "address", "add", f"{self._inner}/30", "dev", "uplink")
        _run(*within, "ip", "link", "set", "uplink", "up")


def child_of(pid: int) -> int | None:
    """The one child of a process; ``None`` while it has none."""
    return next(iter(children_of(pid)), None)


def children_of(pid: int) -> list[int]:
    """The children of all threads of a process; none for one that is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def kill_cgroup(name: str) -> None:
    """SIGKILL to all in the control group of that name, and in those below it."""
    root = Path("/sys/fs/cgroup")
    for top in [root / name, *root.glob(f"*/{name}")]:
        for members in top.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                for pid in members.read_text().split():
                    os.kill(int(pid), signal.SIGKILL)


def remove_cgroups(name: str) -> None:
    """Remove a control group of that name, in each hierarchy, with those below it. Their processes are gone."""
    root = Path("/sys/fs/cgroup")
    for top in [root / name, *root.glob(f"*/{name}")]:
        folders = sorted((Path(each) for each, _, _ in os.walk(top)), key=lambda path: -len(path.parts))
        for folder in folders:
            _remove_cgroup(folder)


def _remove_cgroup(folder: Path) -> None:
    """It stays busy for a moment after its last process."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            return folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)


def can_enclose() -> bool:
    """Root, with the programs that it takes."""
    return os.geteuid() == 0 and all(map(shutil.which, ("ip", "nsenter", "unshare")))


def free_network(prefix: int) -> ipaddress.IPv4Network:
    """Addresses that no route of this machine holds."""
    routes = subprocess.run(["ip", "-4", "route", "show", "table", "all"], capture_output=True, text=True).stdout
    taken = [network for word in routes.split() if (network := _network(word)) and network.prefixlen]
    while True:
        start = random.SystemRandom().randrange(0, _NETWORKS.num_addresses, 1 << (32 - prefix))
        found = ipaddress.IPv4Network((int(_NETWORKS.network_address) + start, prefix))
        if not any(found.overlaps(each) for each in taken):
            return found


def _network(word: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(word, strict=False) if "." in word else None
    except ValueError:
        return None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
