"""Fixtures of the data plane's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from activities.dataplane.pool import ChildPool


@pytest.fixture
def pool() -> Iterator[ChildPool]:
    """One child, so that each call finds what the one before it left."""
    pool = ChildPool.fork(1)
    yield pool
    pool.close()
