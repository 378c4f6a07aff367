"""Small homes for tests, and what is in a place as seen without our own code's opinion."""

from __future__ import annotations

from pathlib import Path

from activities.state.fence import read_record
from activities.state.record import Record
from tests.harness.site import Site

WORD = "word.txt"


async def provisioned(site: Site, *, text: str = "first") -> tuple[str, str]:
    """A new workspace with one file in its volume: (workspace id, home_store_key)."""
    workspace_id = site.workspace_id()
    key = await site.storage.provision(workspace_id)
    write(site, workspace_id, text)
    return workspace_id, key


async def archived(site: Site, *, text: str = "first") -> tuple[str, str]:
    """A new workspace whose home is archived: (workspace id, archive_key)."""
    workspace_id, key = await provisioned(site, text=text)
    return workspace_id, await site.storage.archive(key)


def write(site: Site, workspace_id: str, text: str) -> Path:
    """Change the one file of a home."""
    path = site.volume(workspace_id) / WORD
    path.write_text(text)
    return path


def read(site: Site, workspace_id: str) -> str:
    """What the one file of a home says."""
    return (site.volume(workspace_id) / WORD).read_text()


async def record_of(site: Site, workspace_id: str) -> Record:
    """The workspace's record."""
    found = await read_record(site.truth, workspace_id)
    assert found is not None
    return found[0]


async def uid_of(site: Site, workspace_id: str) -> str:
    """Of the volume that the record names."""
    volume = (await record_of(site, workspace_id)).volume
    assert volume is not None
    return volume.uid
