"""The four operations on real servers, with a worker process of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from codehub_storage.keys import workflow_id
from tests.harness.site import Site
from worker.version import service_version


def fill(folder: Path) -> None:
    """A small tree with links, modes and odd names."""
    (folder / "src/deep").mkdir(parents=True)
    (folder / "src/deep/a.txt").write_text("a" * 5000)
    (folder / "src/-odd name\n").write_bytes(bytes(range(256)))
    (folder / "src/link").symlink_to("deep/a.txt")
    (folder / "src/hard").hardlink_to(folder / "src/deep/a.txt")
    (folder / "empty").mkdir(mode=0o500)


def copy(one: Path, other: Path) -> None:
    """The tree again, as cp makes it."""
    subprocess.run(["cp", "-a", one, other], check=True)


def differences(one: Path, other: Path) -> str:
    """What rsync would have to do to make ``other`` like ``one``."""
    command = ["rsync", "-naHAXc", "--delete", "--itemize-changes", f"{one}/", f"{other}/"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.tool("rsync")
async def test_a_home_goes_cold_and_comes_back(common_site: Site, tmp_path: Path) -> None:
    """provision, archive, restore, purge: the restored tree is the one that was archived, and purge leaves nothing."""
    site, workspace = common_site, common_site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    fill(site.volume(workspace))
    copy(site.volume(workspace), tmp_path / "reference")
    archive_key = await site.storage.archive(volume_key)
    assert not site.volume(workspace).exists()
    assert await site.storage.restore(archive_key) == volume_key
    assert await _build_ids(site, workspace) == {service_version()}
    assert differences(tmp_path / "reference", site.volume(workspace)) == ""
    await site.storage.purge(volume_key, archive_key)
    assert not site.volume(workspace).exists()
    assert await site.truth.list_keys(f"{workspace}/") == [f"{workspace}/home.state"]


async def _build_ids(site: Site, workspace: str) -> set[str]:
    """What the workers that took the last run's tasks said they are."""
    history = await site.temporal.get_workflow_handle(workflow_id(workspace)).fetch_history()
    runs = [event.workflow_task_completed_event_attributes.worker_version.build_id for event in history.events]
    steps = [event.activity_task_started_event_attributes.worker_version.build_id for event in history.events]
    return {build_id for build_id in [*runs, *steps] if build_id}


async def test_each_operation_may_be_called_again(common_site: Site) -> None:
    """A second call finds the postcondition and moves nothing."""
    site, workspace = common_site, common_site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    assert await site.storage.provision(workspace) == volume_key
    first = await (await site.storage.start_archive(volume_key)).result()
    second = await (await site.storage.start_archive(volume_key)).result()
    assert (second.archive_id, second.moved) == (first.archive_id, False)
    assert first.archive_key is not None
    restored = await (await site.storage.start_restore(first.archive_key)).result()
    again = await (await site.storage.start_restore(first.archive_key)).result()
    assert (again.volume_uid, again.moved) == (restored.volume_uid, False)
    for _ in range(2):
        await site.storage.purge(volume_key, first.archive_key)


async def test_what_is_not_there_is_not_found(common_site: Site) -> None:
    """archive and restore of an unknown workspace fail with their codes, at once."""
    with pytest.raises(StorageError) as no_volume:
        await common_site.storage.archive(common_site.key(common_site.workspace_id()))
    assert no_volume.value.code == ErrorCode.VOLUME_NOT_FOUND
    with pytest.raises(StorageError) as no_archive:
        await common_site.storage.restore(f"{common_site.workspace_id()}/home.tar.gz")
    assert no_archive.value.code == ErrorCode.ARCHIVE_NOT_FOUND
