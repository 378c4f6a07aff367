"""Archives of every published format version are still what they were: proven, rebuilt, and readable by plain tar."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from activities.dataplane.manifest import Manifest
from activities.dataplane.rebuild import verify_from_tail
from activities.dataplane.restore import ArchiveRestore
from activities.dataplane.verify import verify_archive
from activities.objectstore.base import ObjectInfo
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.golden.make import ARCHIVE, MANIFEST, TREE, to_json
from tests.harness.archives import ignore, make_archive, restore_archive
from tests.harness.trees import IS_ROOT, make_rich_tree, snapshot

VERSIONS = sorted((Path(__file__).parents[2] / "golden").glob("format-*"))


def load(folder: Path) -> tuple[MemoryStore, ObjectInfo, Manifest]:
    manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
    assert manifest.object is not None
    store = MemoryStore()
    info = store.place(manifest.object.key, (folder / ARCHIVE).read_bytes(), etag=manifest.object.etag, metadata={})
    return store, info, manifest


def test_there_are_golden_files() -> None:
    """The tests below are not empty."""
    assert [folder.name for folder in VERSIONS] == ["format-1"]


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
async def test_verified(folder: Path) -> None:
    """Archive and manifest still prove one another, and the tail still proves the archive."""
    store, info, manifest = load(folder)
    await verify_archive(store, info, manifest, progress=ignore)
    rebuilt = await verify_from_tail(store, info, progress=ignore)
    assert rebuilt.source == manifest.source
    assert [segment.digest for segment in rebuilt.segments] == [segment.digest for segment in manifest.segments]


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
async def test_restored(folder: Path, tmp_path: Path) -> None:
    """As far as this user may; what was restored is compared at the end."""
    store, _, manifest = load(folder)
    report = await restore_archive(ArchiveRestore(tmp_path, store, manifest))
    assert report.files == manifest.totals.files


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_the_manifest_is_written_as_ever(folder: Path) -> None:
    """Same manifest, same bytes: whoever compares them, compares manifests."""
    stored = (folder / MANIFEST).read_bytes()
    assert Manifest.from_json(stored).to_json() == stored


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_plain_tar_brings_back_the_tree(folder: Path, tmp_path: Path) -> None:
    """What the tree was is written beside the archive, as seen by code that is not the data plane's."""
    options = ["--xattrs", "--xattrs-include=*", "--numeric-owner"] if IS_ROOT else []
    subprocess.run(["tar", "-xzpf", folder / ARCHIVE, "--warning=none", *options], cwd=tmp_path, check=True)
    found = json.loads(to_json(snapshot(tmp_path)))
    expected = json.loads((folder / TREE).read_text())
    unkept = {"is_sparse"} if IS_ROOT else {"is_sparse", "owner", "xattrs"}
    for facts in (*found.values(), *expected.values()):
        for key in unkept & facts.keys():
            del facts[key]
    assert found == expected


@pytest.mark.skipif(not IS_ROOT, reason="only root can make the golden tree")
async def test_today_s_writer_makes_the_same_archive_of_the_same_tree(tmp_path: Path) -> None:
    """Cuts, counts and names are those of the newest golden manifest; a difference is a change of the format."""
    root = tmp_path / "tree"
    root.mkdir()
    make_rich_tree(root)
    made = await make_archive(root, MemoryStore(min_part_bytes=0))
    golden = Manifest.from_json((VERSIONS[-1] / MANIFEST).read_bytes())
    mine = [(part.kind, part.first, part.last, part.entries, part.piece) for part in made.manifest.segments]
    assert mine == [(part.kind, part.first, part.last, part.entries, part.piece) for part in golden.segments]
    assert made.manifest.totals.model_copy(update={"stored_bytes": 0, "raw_bytes": 0}) == golden.totals.model_copy(
        update={"stored_bytes": 0, "raw_bytes": 0}
    )


def test_a_later_format_is_refused() -> None:
    """By its number, and by a feature that this version does not know; unknown fields alone do no harm."""
    document = json.loads((VERSIONS[-1] / MANIFEST).read_bytes())
    Manifest.from_json(json.dumps({**document, "something": "new"}).encode())
    for change in ({"format_version": 99}, {"required_features": ["encryption"]}):
        with pytest.raises(StorageError) as caught:
            Manifest.from_json(json.dumps({**document, **change}).encode())
        assert caught.value.code is ErrorCode.UNSUPPORTED
