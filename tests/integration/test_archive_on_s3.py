"""The write side against a real S3 server: parts, checksums and sizes that it enforces, in the memory we promise."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.dataplane.copy import Means
from activities.dataplane.parts import MIN_PART_BYTES, parts_of
from activities.dataplane.plan import MIB, PlanLimits
from activities.dataplane.rebuild import verify_from_tail
from activities.dataplane.verify import verify_archive
from activities.objectstore.s3 import S3Store, open_store
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.s3_faults import FlipStored, on
from tests.harness.archives import ignore, make_archive
from tests.harness.seaweed import Seaweed, hostile_store, new_bucket, settings_of
from tests.harness.trees import IS_ROOT, make_rich_tree, snapshot

LIMITS = PlanLimits(segment_bytes=8 * MIB)


@pytest.fixture
async def store(seaweed: Seaweed) -> AsyncIterator[S3Store]:
    async with open_store(settings_of(seaweed, new_bucket(seaweed))) as store:
        yield store


def fill(root: Path) -> None:
    """The rich tree, and enough that cannot be compressed for parts of every kind."""
    make_rich_tree(root)
    for number in range(24):
        (root / f"random-{number:02}").write_bytes(os.urandom(1 * MIB))
    (root / "large-random").write_bytes(os.urandom(20 * MIB + 77))
    with (root / "large-sparse").open("wb") as file:
        file.write(os.urandom(3 * MIB))
        file.truncate(100 * MIB)


async def test_there_and_back(store: S3Store, tmp_path: Path) -> None:
    """Archived in full-sized parts, proven, rebuilt from its tail, and plain tar brings back the tree."""
    root, out = tmp_path / "tree", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    fill(root)
    made = await make_archive(root, store, limits=LIMITS, means=Means())
    parts = parts_of(made.records)
    assert made.info.etag.endswith(f"-{len(parts)}")
    assert 3 < len(parts) < len(made.manifest.segments)  # some are several segments
    assert all(part.size_bytes >= MIN_PART_BYTES for part in parts[:-1])
    await verify_archive(store, made.info, made.manifest, progress=ignore)
    await verify_from_tail(store, made.info, progress=ignore)
    with (tmp_path / "home.tar.gz").open("wb") as file:
        async for chunk in store.read(made.info.key, etag=made.info.etag):
            file.write(chunk)
    options = ["--xattrs", "--xattrs-include=*", "--numeric-owner"] if IS_ROOT else []
    extract = ["tar", "-xzpf", str(tmp_path / "home.tar.gz"), "-C", str(out), "--warning=none", *options]
    await asyncio.to_thread(subprocess.run, extract, check=True)
    lost = frozenset({"sparse"} if IS_ROOT else {"sparse", "owners", "xattrs"})
    assert snapshot(out, ignore=lost) == snapshot(root, ignore=lost)


async def test_rot_is_found(seaweed: Seaweed, tmp_path: Path) -> None:
    """The server still answers the right checksum and size; only reading tells."""
    root = tmp_path / "tree"
    root.mkdir()
    make_rich_tree(root)
    async with hostile_store(seaweed, new_bucket(seaweed)) as hostile:
        made = await make_archive(root, hostile.truth, limits=LIMITS, means=Means())
        hostile.proxy.add(FlipStored(at=made.info.size_bytes // 2), on(method="GET"))
        with pytest.raises(StorageError) as caught:
            await verify_archive(hostile.store, made.info, made.manifest, progress=ignore)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
