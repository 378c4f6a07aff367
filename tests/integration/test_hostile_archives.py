"""Hostile archives through the whole service: the code comes back to the caller, and no volume is handed out."""

from __future__ import annotations

import pytest

from activities.dataplane.manifest import StoredObject
from activities.state.record import VolumeState
from codehub_storage.errors import StorageError
from codehub_storage.keys import archive_key, manifest_key
from tests.fakes.memory_store import MemoryStore
from tests.harness.homes import provisioned, read, record_of
from tests.harness.site import Site
from tests.harness.trees import snapshot
from tests.hostile.case import Foreign, Own
from tests.hostile.table import CASES

MADE = {case.name: case for case in CASES}
FOREIGN = [
    "link: written through, then a file",
    "gzip: cut off",
    "GNU: unknown type",
]
OWN = [
    "own name: parent name",
    "own extent: bomb: more than stated",
    "own tail: link below a link",
    "own tail: not in the manifest's sum",
    "manifest's segment: ranges that overlap",
    "manifest's totals: more bytes than there are",
]


async def put_foreign(site: Site, workspace: str, archive: Foreign) -> str:
    key = f"archives/{workspace}.tar.gz"
    await site.truth.put_if(key, archive.stored, etag=None)
    return key


async def put_own(site: Site, workspace: str, archive: Own) -> str:
    """The forged object and its manifest, under the workspace's key."""
    forged = MemoryStore()
    info, manifest = await archive.place(forged)
    found = await forged.get(info.key)
    assert found is not None
    assert manifest is not None
    assert manifest.object is not None
    key = archive_key(workspace)
    upload = await site.truth.create_upload(key, {"archive-id": "a"})
    part = await site.truth.upload_part(key, upload, 1, [found[0]])
    stored = await site.truth.complete_upload(key, upload, [part], archive_id="a")
    named = StoredObject(
        key=key,
        size_bytes=stored.size_bytes,
        etag=stored.etag,
        version_id=stored.version_id,
        crc64=manifest.object.crc64,
    )
    proof = manifest.model_copy(update={"object": named, "workspace_id": workspace})
    await site.truth.put_if(manifest_key(key), proof.to_json(), etag=None)
    return key


@pytest.mark.parametrize("name", [*FOREIGN, *OWN])
async def test_it_is_refused_and_nothing_is_handed_out(common_site: Site, name: str) -> None:
    """The table's code; the workspace has no volume, its record none that is ready; the neighbour's is as it was."""
    neighbour, _ = await provisioned(common_site)
    before = snapshot(common_site.volume(neighbour))
    workspace, case = common_site.workspace_id(), MADE[name]
    made = case.make
    if isinstance(made, Foreign):
        key = await put_foreign(common_site, workspace, made)
    else:
        assert isinstance(made, Own)
        key = await put_own(common_site, workspace, made)
    with pytest.raises(StorageError) as refused:
        await common_site.storage.restore(key)
    assert refused.value.code is case.expected, refused.value
    assert not common_site.volume(workspace).exists()
    volume = (await record_of(common_site, workspace)).volume
    assert volume is None or volume.state is not VolumeState.READY
    assert snapshot(common_site.volume(neighbour)) == before
    assert read(common_site, neighbour) == "first"


async def test_a_harmless_one_is_handed_out(common_site: Site) -> None:
    """Or the refusals above might have another cause."""
    made = MADE["name: dot components"].make
    assert isinstance(made, Foreign)
    workspace = common_site.workspace_id()
    await common_site.storage.restore(await put_foreign(common_site, workspace, made))
    assert (common_site.volume(workspace) / "a/b").read_bytes() == b"evil"
