"""Every attribute that a home may have goes into the archive and comes back, on whatever the homes stand on.

Compared by rsync, getfattr and getfacl, and by a comparer that shares no code with the data plane.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from activities.dataplane.copy import Means
from activities.dataplane.plan import PlanLimits
from codehub_storage.keys import archive_key, manifest_key
from tests.harness.archives import make_archive
from tests.harness.habitats import BACKEND
from tests.harness.overlay import SEEN, make_store, seen_together
from tests.harness.s3server import S3Server
from tests.harness.site import Site, open_site
from tests.harness.trees import IS_ROOT, make_rich_tree, snapshot
from worker.dev.temporal import TemporalServer

pytestmark = pytest.mark.tool("getfacl", "getfattr", "rsync")

MAY_TRUST = MAY_MAKE_DEVICES = BACKEND == "directory"
"""Movers in containers are no administrators: the kernel shows them no ``trusted.*`` attribute, and sets none. Devices
they see, but may not make."""

HOLES_BYTES = 48 << 20


async def test_all_comes_back(common_site: Site, tmp_path: Path) -> None:
    """Owners, modes, times, user attributes, ACLs and default ACLs, capabilities, links, holes and odd names."""
    site, workspace = common_site, common_site.workspace_id()
    volume = await site.storage.provision(workspace)
    make_home(site.volume(workspace))
    reference = tmp_path / "reference"
    copy(site.volume(workspace), reference)
    assert seen_in(site.volume(workspace)) == seen_in(reference)
    if not MAY_TRUST:
        remove_trusted(reference)
    archived = await (await site.storage.start_archive(volume)).result()
    assert archived.archive_key is not None
    assert archived.skipped == {"sockets": 1}
    restored = await (await site.storage.start_restore(archived.archive_key)).result()
    assert restored.skipped == {"sockets": 1}
    assert differences(reference, site.volume(workspace)) == ""
    assert (site.volume(workspace) / "holes.bin").stat().st_blocks * 512 < HOLES_BYTES // 2
    assert seen_in(site.volume(workspace)) == seen_in(reference)


async def test_what_may_not_be_set_is_counted(common_site: Site, tmp_path: Path) -> None:
    """An archive that holds ``trusted.*`` attributes: who may not set them restores the rest, and says how many."""
    site, workspace = common_site, common_site.workspace_id()
    source = tmp_path / "source"
    source.mkdir()
    make_home(source)
    key = archive_key(workspace)
    made = await make_archive(source, site.truth, limits=PlanLimits(), key=key, means=Means())
    await site.truth.put_if(manifest_key(key), made.manifest.to_json(), etag=None)
    kept = 0 if MAY_TRUST else remove_trusted(source)
    remove_socket(source)
    result = await (await site.storage.start_restore(key)).result()
    assert result.skipped == {"sockets": 1, **({"trusted_xattrs": kept} if kept else {})}
    assert differences(source, site.volume(workspace)) == ""
    assert seen_in(site.volume(workspace)) == seen_in(source)


async def test_what_is_left_out_is_counted(common_site: Site) -> None:
    """Sockets and devices, under each of their names: in the result of the archive, its manifest, and the restore's."""
    site, workspace = common_site, common_site.workspace_id()
    volume = await site.storage.provision(workspace)
    home = site.volume(workspace)
    (home / "folder").mkdir()
    (home / "folder/file").write_text("stays")
    os.mknod(home / "folder/socket", 0o140600)
    os.link(home / "folder/socket", home / "a socket")
    left_out = {"sockets": 2}
    if IS_ROOT:
        os.mknod(home / "device", 0o020600, os.makedev(1, 3))
        os.link(home / "device", home / "folder/device")
        left_out["devices"] = 2
    archived = await (await site.storage.start_archive(volume)).result()
    assert archived.archive_key is not None
    assert archived.skipped == left_out
    found = await site.truth.get(manifest_key(archived.archive_key))
    assert found is not None
    assert json.loads(found[0])["totals"]["skipped"] == left_out
    restored = await (await site.storage.start_restore(archived.archive_key)).result()
    assert restored.skipped == left_out
    assert output(site.volume(workspace), "find", ".", "-printf", "%P ").split() == ["folder", "folder/file"]


@pytest.mark.field("D8")
async def test_a_container_store_comes_back_whole(common_site: Site) -> None:
    """Layers of an overlay file system: whiteouts, further names of them, opaque folders; the kernel sees the same."""
    site, workspace = common_site, common_site.workspace_id()
    volume = await site.storage.provision(workspace)
    home = site.volume(workspace)
    make_store(home / ".local/share/containers")
    before = snapshot(home)
    archived = await (await site.storage.start_archive(volume)).result()
    assert archived.archive_key is not None
    assert archived.skipped == {}
    restored = await (await site.storage.start_restore(archived.archive_key)).result()
    assert restored.skipped == {}
    assert snapshot(site.volume(workspace)) == before
    if IS_ROOT:
        assert seen_together(site.volume(workspace) / ".local/share/containers") == SEEN


@pytest.mark.skipif(not IS_ROOT, reason="needs root: makes a device")
async def test_devices_come_back_where_they_are_allowed(
    tmp_path: Path, temporal_server: TemporalServer, site_store: S3Server
) -> None:
    """With the setting they are in the archive, under each of their names; who may not make them counts them then."""
    async with open_site(tmp_path / "site", temporal_server, site_store, CODEHUB_STORAGE_ALLOW_DEVICES="true") as site:
        site.start_worker()
        workspace = site.workspace_id()
        volume = await site.storage.provision(workspace)
        home = site.volume(workspace)
        os.mknod(home / "device", 0o020640, os.makedev(1, 3))
        os.chown(home / "device", 1000, 6)
        os.link(home / "device", home / "other name")
        before = snapshot(home)
        archived = await (await site.storage.start_archive(volume)).result()
        assert archived.archive_key is not None
        assert archived.skipped == {}
        restored = await (await site.storage.start_restore(archived.archive_key)).result()
        if MAY_MAKE_DEVICES:
            assert restored.skipped == {}
            assert snapshot(site.volume(workspace)) == before
        else:
            assert restored.skipped == {"devices": 2}


def make_home(home: Path) -> None:
    """The rich tree, a folder that hands its group on, and a file of holes that is large enough to keep them."""
    with (home / "holes.bin").open("wb") as file:
        file.seek(HOLES_BYTES // 2)
        file.write(b"island")
        file.truncate(HOLES_BYTES)
    (home / "shared").mkdir()
    if IS_ROOT:
        os.chown(home / "shared", 3_000_000, 3_000_000)
    (home / "shared").chmod(0o2775)
    make_rich_tree(home)


def copy(home: Path, reference: Path) -> None:
    """The tree again, but for its socket."""
    subprocess.run(["cp", "-a", home, reference], check=True)
    remove_socket(reference)


def remove_socket(root: Path) -> None:
    """It is in no archive."""
    status = root.stat()
    (root / "socket").unlink()
    os.utime(root, ns=(status.st_atime_ns, status.st_mtime_ns))


def remove_trusted(root: Path) -> int:
    """Take away all ``trusted.*`` attributes; so many there were."""
    found = 0
    for path in root.rglob("*"):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith("trusted."):
                os.removexattr(path, name, follow_symlinks=False)
                found += 1
    return found


def differences(one: Path, other: Path) -> str:
    """What rsync would have to do to make ``other`` like ``one``."""
    return output(one, "rsync", "-naHAXc", "--delete", "--exclude=/socket", "--itemize-changes", "./", f"{other}/")


def seen_in(home: Path) -> dict[str, Any]:
    """All that can be seen but for sockets, by each who looks."""
    attributes = ("getfattr", "-R", "-P", "-h", "-d", "-m-", "-ehex", ".")
    lists = ("getfacl", "-R", "-P", "-n", ".")
    by_tools = {tool[0]: sorted(output(home, *tool).split("\n\n")) for tool in (attributes, lists)}
    by_tools["getfacl"] = [each for each in by_tools["getfacl"] if not each.startswith("# file: socket\n")]
    tree = snapshot(home, ignore=frozenset({"sparse"}))
    return {**by_tools, **{f"snapshot of {path!r}": facts for path, facts in tree.items()}}


def output(where: Path, *command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, cwd=where, check=True, capture_output=True).stdout.decode(errors="surrogateescape")
