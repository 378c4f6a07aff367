"""The Protocol of volume backends on a real cluster: the suite of ``tests/contract``, with Pods for movers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.test_volume_backend import Place, VolumeBackendContract
from tests.harness.cluster.cluster import Cluster
from tests.k8s.places import ClaimPlace


class TestKubernetes(VolumeBackendContract):
    """Claims of a namespace that enforces PodSecurity level `baseline`."""

    @pytest.fixture
    async def place(self, cluster: Cluster) -> AsyncIterator[Place]:
        """A new namespace."""
        place = ClaimPlace(cluster)
        await place.backend.mark("", adopt=False)
        yield place
        await place.aclose()
