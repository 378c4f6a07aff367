"""Marks that a test has by its fixtures, so that nobody sets them by hand and none is forgotten.

``server``: it needs one. ``own_servers``: it starts servers of its own, which it may stop, break or give settings.
These come from fixtures whose names begin with ``own_``.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

SHARED = frozenset({"cluster", "docker_engine", "minio", "s3_server", "seaweed", "site_store", "temporal_server"})
"""Fixtures of the servers that many tests use. They leave nothing behind on them that another test could meet."""

OWN = "own_"
_SKIPPING_TIME = "time_skipping"
"""A server of one test by what it is, whose clock no other test could share."""


def mark_by_fixtures(items: Iterable[pytest.Item]) -> None:
    """Add the marks of all tests. A fixture counts also where another one asks for it."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        has_own = _SKIPPING_TIME in names or any(name.startswith(OWN) for name in names)
        if has_own:
            item.add_marker("own_servers")
        if has_own or names & SHARED:
            item.add_marker("server")
