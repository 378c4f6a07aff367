"""What the tests of kills have in common, whatever movers are: a home that takes a while, and moments of its run."""

from __future__ import annotations

import os

from codehub_storage.contracts import Phase
from tests.fakes.steps import LEASE
from tests.harness.homes import provisioned
from tests.harness.site import Site
from tests.harness.stops import Tree, handle_of, phase_of, tree_of, until

SEGMENT_BYTES = "8MiB"
"""What a site is told, so that the home has many segments."""

_HOME_BYTES, _FILES = 96 << 20, 12


async def large_home(site: Site) -> tuple[str, str, Tree]:
    """A volume that takes a while to archive: (workspace id, home_store_key, its tree)."""
    workspace, volume = await provisioned(site)
    for number in range(_FILES):
        (site.volume(workspace) / f"noise-{number}").write_bytes(os.urandom(_HOME_BYTES // _FILES))
    return workspace, volume, tree_of(site.volume(workspace))


async def until_copying(site: Site, workspace: str) -> str:
    """Return the mover's container, or its Pod, once it copies."""

    async def copies() -> bool:
        return await phase_of(site, workspace) is Phase.COPYING and bool(site.habitat.movers(workspace))

    await until(copies, "nothing is copied")
    return site.habitat.movers(workspace)[0]


async def leases_of(site: Site, workspace: str) -> int:
    """How many movers the latest run has asked for."""
    history = [event async for event in handle_of(site, workspace).fetch_history_events()]
    types = [event.activity_task_scheduled_event_attributes.activity_type.name for event in history]
    return types.count(LEASE)
