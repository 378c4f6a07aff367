"""The mark of an overlay file system that a name is gone goes into every archive, and is made where the kernel allows.

On each backend: ``test_attributes``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from activities.dataplane.archiver import Wall
from activities.dataplane.foreign import restore_foreign
from activities.dataplane.plan import PlanLimits
from activities.dataplane.restore import ArchiveRestore
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import TINY, make_archive, restore_archive
from tests.harness.overlay import WHITEOUTS, make_store, overlaid
from tests.harness.trees import IS_ROOT, snapshot
from tests.local.test_restore_foreign import MAKERS
from tests.local.test_restore_own import as_user

pytestmark = pytest.mark.field("D8")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
ALLOWING = replace(TINY, allow_devices=True)


@pytest.fixture
def store_tree(tmp_path: Path) -> Path:
    """A home with a container store, and with a device that is no whiteout."""
    root = tmp_path / "source"
    make_store(root)
    if IS_ROOT:
        os.mknod(root / "null", 0o020666, os.makedev(1, 3))
        os.link(root / "null", root / "null too")
    return root


@needs_root
@pytest.mark.parametrize("limits", [TINY, ALLOWING], ids=["as set by default", "with devices"])
async def test_where_the_kernel_refuses_them_they_are_counted(
    tmp_path: Path, store_tree: Path, limits: PlanLimits
) -> None:
    """On an overlay file system, as before Linux 5.8: all names of them; the rest is compared, and nothing differs."""
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(store_tree, store, limits=limits)
    assert made.manifest.totals.skipped == ({} if limits.allow_devices else {"devices": 2})
    with overlaid(tmp_path / "overlay") as target:
        report = await restore_archive(ArchiveRestore(target, store, made.manifest, wall=Wall.DEMANDED))
        assert report.skipped == {"whiteouts": WHITEOUTS}
        restored = {path.relative_to(target) for path in target.rglob("*")}
    left_out = {path.relative_to(store_tree) for path in store_tree.rglob("*") if path.is_char_device()}
    if limits.allow_devices:
        left_out -= {Path("null"), Path("null too")}
    assert restored == {path.relative_to(store_tree) for path in store_tree.rglob("*")} - left_out


@needs_root
async def test_an_ordinary_user_makes_them(store_tree: Path) -> None:
    """With the devices allowed he makes these, and no other."""
    store = MemoryStore(min_part_bytes=0)
    made = await make_archive(store_tree, store, limits=ALLOWING)
    without = ("null", "null too")

    def look(target: Path) -> None:
        expected = snapshot(store_tree, ignore=frozenset({"owners", "times"}))
        for name in without:
            del expected[os.fsencode(name)]
        assert snapshot(target, ignore=frozenset({"owners", "times"})) == expected

    report = await as_user(store, made, look)
    assert report["skipped"].pop("owners") > 0
    assert report["skipped"] == {"devices": len(without)}


@pytest.mark.parametrize("make", MAKERS)
async def test_those_of_other_tools_come_back(tmp_path: Path, store_tree: Path, make: Callable[[Path], bytes]) -> None:
    """A store that was archived by tar has them as devices 0/0; other devices stay out, with all their names.

    Some tools make devices of their own of further names.
    """
    store, target, spool = MemoryStore(), tmp_path / "target", tmp_path / "spool"
    info = await store.put_if("archives/ws1.tar.gz", await asyncio.to_thread(make, store_tree), etag=None)
    target.mkdir()
    spool.mkdir()
    report = await restore_foreign(target, store, info, spool=spool, wall=Wall.DEMANDED)
    assert report.skipped.pop("user_xattrs", 0) == 0
    assert report.skipped == ({"devices": 2} if IS_ROOT else {})
    ignored = frozenset({"xattrs", "times"})
    expected, found = snapshot(store_tree, ignore=ignored), snapshot(target, ignore=ignored)
    for name in (b"null", b"null too"):
        expected.pop(name, None)
    for facts in (*expected.values(), *found.values()):
        facts.pop("group", None)
    assert found == expected


@needs_root
async def test_those_of_other_tools_are_counted_where_the_kernel_refuses_them(tmp_path: Path, store_tree: Path) -> None:
    """All their names, and no hard link to one that is not there is taken for damage."""
    store, spool = MemoryStore(), tmp_path / "spool"
    gnu_tar = MAKERS[0].values[0]
    assert callable(gnu_tar)
    info = await store.put_if("archives/ws1.tar.gz", gnu_tar(store_tree), etag=None)
    spool.mkdir()
    with overlaid(tmp_path / "overlay") as target:
        report = await restore_foreign(target, store, info, spool=spool, wall=Wall.DEMANDED)
    assert report.skipped == {"devices": 2, "whiteouts": WHITEOUTS}
