"""The network of a cluster: a bridge beside the control plane, a cable to each node, and a way from and to the host."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from ipaddress import IPv4Network

from tests.harness.enclosure import Enclosure, free_network

_BRIDGE = "nodes"
_CABLE = "eth0"
_FIRST_NODE = 11


class Addresses:
    """One small network of addresses for everything, which no route of this machine holds."""

    def __init__(self, nodes: tuple[str, ...]) -> None:
        self.all = free_network(24)
        self.machines, *pods, self.services = self.all.subnets(new_prefix=26)
        self.control = str(self.machines[1])
        self.nodes = {name: str(self.machines[_FIRST_NODE + index]) for index, name in enumerate(nodes)}
        self.pods: dict[str, IPv4Network] = dict(zip(nodes, pods, strict=True))
        self.api_service = str(self.services[1])
        """Kubernetes gives its API server the first address of the services."""


class Network:
    """Made by ``connect``; it goes with the enclosures."""

    def __init__(self, addresses: Addresses, control: Enclosure, nodes: Mapping[str, Enclosure]) -> None:
        self._addresses = addresses
        self._control = control
        self._nodes = nodes

    def connect(self) -> None:
        """Lay all cables and routes. No route leads anywhere but to nodes, Pods and the host's end of the link."""
        at = self._addresses
        self._at_control("ip", "link", "add", _BRIDGE, "type", "bridge")
        self._at_control("ip", "address", "add", f"{at.control}/{at.machines.prefixlen}", "dev", _BRIDGE)
        self._at_control("ip", "address", "add", f"{at.api_service}/32", "dev", _BRIDGE)
        self._at_control("ip", "link", "set", _BRIDGE, "up")
        for name, node in self._nodes.items():
            self._lay_cable(name, node)
        for name, node in self._nodes.items():
            self._at_control("ip", "route", "add", str(at.pods[name]), "via", at.nodes[name])
            for other in self._nodes.keys() - {name}:
                _within(node, "ip", "route", "add", str(at.pods[other]), "via", at.nodes[other])
        for each in (self._control, *self._nodes.values()):
            _within(each, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        _run("ip", "route", "add", str(at.all), "via", self._control.address, "dev", self._control.interface)

    def cut(self, node: str) -> None:
        """Pull the node's cable. What runs there runs on, and reaches nobody."""
        self._at_control("ip", "link", "set", node, "down")

    def rejoin(self, node: str) -> None:
        """Plug it in again."""
        self._at_control("ip", "link", "set", node, "up")

    def _lay_cable(self, name: str, node: Enclosure) -> None:
        at = self._addresses
        peer = ("peer", "name", _CABLE, "netns", str(node.holder))
        self._at_control("ip", "link", "add", name, "type", "veth", *peer)
        self._at_control("ip", "link", "set", name, "master", _BRIDGE, "up")
        _within(node, "ip", "address", "add", f"{at.nodes[name]}/{at.machines.prefixlen}", "dev", _CABLE)
        _within(node, "ip", "link", "set", _CABLE, "up")
        _within(node, "ip", "route", "add", "default", "via", at.control)

    def _at_control(self, *command: str) -> None:
        _within(self._control, *command)


def _within(enclosure: Enclosure, *command: str) -> None:
    """Only in its network: pids in the command are those of the host."""
    _run("nsenter", "--target", str(enclosure.holder), "--net", "--", *command)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
