"""Nodes that are away for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness.cluster.api import wait_for
from tests.harness.cluster.cluster import Cluster

_SECONDS = 120


@contextmanager
def cut_off(cluster: Cluster, node: str) -> Iterator[None]:
    """The node without network, from when the cluster has noticed until it is ready again."""
    cluster.cut(node)
    try:
        wait_for(f"{node} is missed", lambda: not cluster.is_ready(node), _SECONDS)
        yield
    finally:
        cluster.rejoin(node)
        wait_for(f"{node} is back", lambda: cluster.is_ready(node), _SECONDS)
