"""[4] A volume replaces only the archive that it became or came from; an archive yields only its own volume."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from activities.state.record import VolumeState
from codehub_storage import ErrorCode
from codehub_storage.keys import archive_key, manifest_key
from tests.harness.habitats import BACKEND
from tests.harness.homes import archived, provisioned, read, record_of, write
from tests.harness.refusals import code_of
from tests.harness.site import Site


async def test_an_accidental_empty_volume_replaces_nothing(common_site: Site) -> None:
    """A strange folder of the right name: archive, restore, provision and purge refuse, and both sides stay."""
    site = common_site
    workspace, key = await archived(site)
    site.habitat.make_stranger(workspace)
    volume, stranger = site.key(workspace), site.volume(workspace)
    (stranger / "theirs").write_text("kept")
    assert await code_of(site.storage.archive(volume)) == ErrorCode.VOLUME_CONFLICT
    assert await code_of(site.storage.restore(key)) == ErrorCode.VOLUME_CONFLICT
    assert await code_of(site.storage.purge(volume, key)) == ErrorCode.VOLUME_CONFLICT
    assert (stranger / "theirs").read_text() == "kept"
    site.habitat.remove_stranger(workspace)
    await site.storage.restore(key)
    assert read(site, workspace) == "first"


async def test_provision_refuses_where_an_archive_is(common_site: Site) -> None:
    """An empty volume must not stand in for an archive; the archive still restores."""
    workspace, key = await archived(common_site)
    assert await code_of(common_site.storage.provision(workspace)) == ErrorCode.LINEAGE_CONFLICT
    await common_site.storage.restore(key)
    assert read(common_site, workspace) == "first"


async def test_a_volume_of_another_origin_does_not_replace_the_archive(common_site: Site) -> None:
    """A manifest that names an archive of another volume: LineageConflict, archive and volume are kept."""
    site = common_site
    workspace, key = await provisioned(site, text="mine")
    _, other = await archived(site, text="theirs")
    # Another workspace's archive and proof are put in this one's place, and the proof is made to name it.
    object_there, proof_there = await site.truth.get(other), await site.truth.get(manifest_key(other))
    assert object_there is not None
    assert proof_there is not None
    metadata = dict(object_there[1].metadata)
    upload = await site.truth.create_upload(archive_key(workspace), metadata)
    part = await site.truth.upload_part(archive_key(workspace), upload, 1, [object_there[0]])
    await site.truth.complete_upload(archive_key(workspace), upload, [part], archive_id=metadata["archive-id"])
    mine = json.loads(proof_there[0])
    mine["workspace_id"], mine["object"]["key"] = workspace, archive_key(workspace)
    await site.truth.put_if(manifest_key(archive_key(workspace)), json.dumps(mine).encode(), etag=None)
    before = await site.truth.get(archive_key(workspace))
    assert await code_of(site.storage.archive(key)) == ErrorCode.LINEAGE_CONFLICT
    assert await site.truth.get(archive_key(workspace)) == before
    assert read(site, workspace) == "mine"


async def test_each_cycle_replaces_the_archive_before(common_site: Site) -> None:
    """What was restored may be archived again, and so on, with what was written in between."""
    workspace, key = await archived(common_site)
    for text in ("second", "third"):
        volume = await common_site.storage.restore(key)
        write(common_site, workspace, text)
        assert await common_site.storage.archive(volume) == key
    await common_site.storage.restore(key)
    assert read(common_site, workspace) == "third"


async def test_a_stale_caller_is_refused(common_site: Site) -> None:
    """``expected_volume_uid`` of an earlier volume: VolumeConflict, and the volume stays."""
    site = common_site
    workspace, key = await archived(site)
    old = (await record_of(site, workspace)).volume
    assert old is not None
    volume = await site.storage.restore(key)
    assert await code_of(site.storage.archive(volume, expected_volume_uid=old.uid)) == ErrorCode.VOLUME_CONFLICT
    assert await code_of(site.storage.purge(volume, None, expected_volume_uid=old.uid)) == ErrorCode.VOLUME_CONFLICT
    assert read(site, workspace) == "first"


def set_immutable(path: Path, value: bool) -> bool:
    """True if this kernel and user can keep even root from removing ``path``."""
    return subprocess.run(["chattr", "+i" if value else "-i", path], capture_output=True, check=False).returncode == 0


async def test_a_volume_that_cannot_be_deleted_is_said_and_cured(common_site: Site, tmp_path: Path) -> None:
    """The archive is proven, so the call answers with ``cleanup_required``; calling again finishes the deletion."""
    (tmp_path / "probe").touch()
    if BACKEND == "k8s":
        pytest.skip("a claim goes whatever becomes of its storage, which is the provisioner's")
    if not set_immutable(tmp_path / "probe", True):
        pytest.skip("chattr +i is not allowed here")
    set_immutable(tmp_path / "probe", False)
    site = common_site
    workspace, volume = await provisioned(site)
    stuck = site.volume(workspace) / "stuck"
    stuck.touch()
    set_immutable(stuck, True)
    try:
        result = await (await site.storage.start_archive(volume)).result()
        assert result.cleanup_required
        assert result.leftovers == (volume,)
        assert result.archive_key == archive_key(workspace)
        volume_record = (await record_of(site, workspace)).volume
        assert volume_record is not None
        assert volume_record.state == VolumeState.DELETING
    finally:
        for path in (stuck, *site.root.rglob("stuck")):
            set_immutable(path, False)
    again = await (await site.storage.start_archive(volume)).result()
    assert (again.cleanup_required, again.moved) == (False, False)
    await site.storage.restore(archive_key(workspace))
    assert read(site, workspace) == "first"
