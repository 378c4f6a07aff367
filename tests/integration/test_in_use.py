"""A home that somebody uses by another name is not archived away under him: the whole operation, on real servers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from tests.harness.habitats import BACKEND
from tests.harness.mounts import mount_point
from tests.harness.site import Site

pytestmark = pytest.mark.skipif(
    BACKEND != "directory" or os.geteuid() != 0, reason="mounts of folders, which take root"
)

USER = """
import os, subprocess, sys
root, mount, name, is_detached = sys.argv[1:]
subprocess.run(["mount", "--bind", root, mount], check=True)
os.chdir(os.path.join(mount, name))
notes = open("notes.txt", "a")
os.chdir("/" if is_detached else ".")
if is_detached:
    subprocess.run(["umount", "--lazy", mount], check=True)
print("there", flush=True)
for line in sys.stdin:
    notes.write(line)
    notes.flush()
    print("written", flush=True)
"""


@asynccontextmanager
async def user(
    site: Site, workspace: str, mount: Path, *, is_detached: bool
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process with a file of the workspace open, which it reached through a bind mount of the volume root."""
    arguments = (str(site.root), str(mount), site.key(workspace), "yes" if is_detached else "")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", USER, *arguments, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"there\n"
        yield process
    finally:
        process.kill()
        await process.wait()


@pytest.mark.field("D1")
@pytest.mark.tool("mount")
@pytest.mark.parametrize("is_detached", [False, True], ids=["at-the-look", "at-the-deletion"])
async def test_what_is_written_by_another_name_is_kept(common_site: Site, tmp_path: Path, is_detached: bool) -> None:
    """VolumeInUse, and what is written afterwards is in the next archive. Seen ahead of it where the mount is known;
    else by the last walk, with the archive proven beside the volume."""
    site, workspace = common_site, common_site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    with mount_point(tmp_path / "mnt") as mount:
        async with user(site, workspace, mount, is_detached=is_detached) as process:
            with pytest.raises(StorageError) as refused:
                await site.storage.archive(volume_key)
            assert refused.value.code == ErrorCode.VOLUME_IN_USE
            assert f"pid {process.pid} (" in refused.value.message
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"written later\n")
            assert await process.stdout.readline() == b"written\n"
    assert (site.volume(workspace) / "notes.txt").read_text() == "written later\n"
    assert await site.storage.restore(await site.storage.archive(volume_key)) == volume_key
    assert (site.volume(workspace) / "notes.txt").read_text() == "written later\n"


@pytest.mark.field("D1")
@pytest.mark.tool("mount")
async def test_a_purge_keeps_what_somebody_has(common_site: Site, tmp_path: Path) -> None:
    """The walk looks for users also where nothing is compared."""
    site, workspace = common_site, common_site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    with mount_point(tmp_path / "mnt") as mount:
        async with user(site, workspace, mount, is_detached=True) as process:
            with pytest.raises(StorageError) as refused:
                await site.storage.purge(volume_key, None)
            assert f"pid {process.pid} (" in refused.value.message
            assert (site.volume(workspace) / "notes.txt").exists()
    await site.storage.purge(volume_key, None)
    assert not site.volume(workspace).exists()
