"""A home that the platform had before us: taken over as it is, then moved like any other."""

from __future__ import annotations

from typing import Any

from codehub_storage import ErrorCode
from tests.harness.commands import cli
from tests.harness.site import Site
from tests.harness.stops import fill, tree_of


async def adopt(site: Site, key: str) -> dict[str, Any]:
    """What the command answers."""
    return (await cli(site, "adopt", key, "--json")).object()


async def test_a_home_of_before_goes_cold_and_comes_back(site: Site) -> None:
    """Refused until it is taken over; then archived, deleted, restored equal, now with a label of ours."""
    workspace = site.workspace_id()
    key = site.key(workspace)
    site.habitat.make_stranger(workspace)
    tree = fill(site.volume(workspace))
    taken = await adopt(site, key)
    assert taken["volume_uid"].startswith("adopted-")
    assert await adopt(site, key) == taken
    archive = await site.storage.archive(key)
    assert not site.volume(workspace).exists()
    await site.storage.restore(archive)
    assert tree_of(site.volume(workspace)) == tree
    assert (await adopt(site, key))["error"]["code"] in (ErrorCode.LINEAGE_CONFLICT, ErrorCode.VOLUME_CONFLICT)


async def test_what_is_not_there_or_ours_is_not_taken(site: Site) -> None:
    """No volume; a volume of ours; a workspace with an archive: each refused, nothing changed."""
    workspace = site.workspace_id()
    assert (await adopt(site, site.key(workspace)))["error"]["code"] == ErrorCode.VOLUME_NOT_FOUND
    ours = await site.storage.provision(workspace)
    assert (await adopt(site, ours))["error"]["code"] == ErrorCode.VOLUME_CONFLICT
    archive = await site.storage.archive(ours)
    site.habitat.make_stranger(workspace)
    assert (await adopt(site, ours))["error"]["code"] == ErrorCode.LINEAGE_CONFLICT
    site.habitat.remove_stranger(workspace)
    await site.storage.restore(archive)
