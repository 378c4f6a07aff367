"""Archives that a newer one replaces: gone, or kept and restorable, on versioned and unversioned buckets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from codehub_storage.keys import manifest_key
from tests.harness.homes import provisioned, read, write
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from worker.dev.temporal import TemporalServer


@asynccontextmanager
async def two_generations(
    folder: Path, temporal_server: TemporalServer, seaweed: Seaweed, *, versioned: bool, retention: str
) -> AsyncIterator[tuple[Site, str, str, str, str]]:
    """A workspace that was archived twice: (site, workspace id, key, first archive id, second)."""
    async with open_site(
        folder, temporal_server, seaweed, versioned=versioned, CODEHUB_STORAGE_RETENTION=retention
    ) as site:
        site.start_worker()
        workspace, volume = await provisioned(site, text="first")
        first = await (await site.storage.start_archive(volume)).result()
        assert first.archive_key is not None
        await site.storage.restore(first.archive_key)
        write(site, workspace, "second")
        second = await (await site.storage.start_archive(volume)).result()
        yield site, workspace, first.archive_key, first.archive_id or "", second.archive_id or ""


@pytest.mark.parametrize(("versioned", "retention"), [(True, "none"), (False, "none"), (False, "keep")])
async def test_a_replaced_archive_is_gone(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed, versioned: bool, retention: str
) -> None:
    """One version of archive and manifest is left, the older id is ArchiveNotFound, the newer one restores."""
    async with two_generations(
        tmp_path / "site", temporal_server, seaweed, versioned=versioned, retention=retention
    ) as (site, workspace, key, first, second):
        assert len(await site.truth.list_versions(key)) == 1
        assert len(await site.truth.list_versions(manifest_key(key))) == 1
        with pytest.raises(StorageError) as gone:
            await site.storage.restore(key, archive_id=first)
        assert gone.value.code == ErrorCode.ARCHIVE_NOT_FOUND
        await site.storage.restore(key, archive_id=second)
        assert read(site, workspace) == "second"


async def test_a_kept_archive_restores_by_its_id_and_purge_takes_all(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """`retention: keep` on a versioned bucket: the older one restores, may be archived anew, and purge leaves none."""
    async with two_generations(tmp_path / "site", temporal_server, seaweed, versioned=True, retention="keep") as (
        site,
        workspace,
        key,
        first,
        second,
    ):
        volume = await site.storage.restore(key, archive_id=first)
        assert read(site, workspace) == "first"
        write(site, workspace, "third")
        await site.storage.archive(volume)
        await site.storage.restore(key)
        assert read(site, workspace) == "third"
        await site.storage.purge(volume, None)
        await site.storage.restore(key, archive_id=second)
        assert read(site, workspace) == "second"
        await site.storage.purge(volume, key)
        assert await site.truth.list_versions(key) == []
        assert await site.truth.list_versions(manifest_key(key)) == []
