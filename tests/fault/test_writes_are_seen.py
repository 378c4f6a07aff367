"""Somebody writes to the volume while it is archived: kept, whenever it comes before the deletion is sealed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from codehub_storage import ErrorCode, StorageError
from codehub_storage.contracts import Phase
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.stops import (
    PATIENCE_SECONDS,
    Stop,
    Tree,
    fill,
    of,
    phase_of,
    proven_tree,
    tree_of,
    until_no_mover,
    world_of,
)
from worker.dev.temporal import TemporalServer

REPLANNED = (Phase.PLANNING, Phase.COPYING)
REFUSED = (Phase.FINISHING, Phase.VERIFYING, Phase.COMMITTING, Phase.DELETING)
"""The first request of `finishing` sends what was read before the second walk."""
CODES = (ErrorCode.VOLUME_CHANGED, ErrorCode.VOLUME_IN_USE)


@dataclass(frozen=True)
class Stand:
    """A site behind a proxy, with one worker that cuts small segments."""

    site: Site
    proxy: S3Proxy


@pytest.fixture
async def stand(tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed) -> AsyncIterator[Stand]:
    """See ``Stand``."""
    async with (
        S3Proxy(seaweed.ports[0]) as proxy,
        open_site(
            tmp_path / "site",
            temporal_server,
            seaweed,
            endpoint_url=proxy.endpoint_url,
            CODEHUB_STORAGE_SEGMENT_BYTES="65536",
            CODEHUB_STORAGE_MAX_MOVERS="8",
        ) as site,
    ):
        site.start_worker()
        yield Stand(site, proxy)


async def archive_while_written(stand: Stand, phase: Phase) -> tuple[str, Tree, ErrorCode | None]:
    """Write while an archive stands in ``phase``. The workspace, what is in it now, how the archive ends."""
    site, workspace = stand.site, stand.site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    folder = site.volume(workspace)
    for number in range(2):  # more than a part, which is sent before the end is known
        (folder / f"large-{number}").write_bytes(os.urandom(3_500_000))
    fill(folder)

    async def is_here() -> bool:
        return await phase_of(site, workspace) is phase

    stop = stand.proxy.add(Stop(is_here=is_here), of(workspace))
    handle = await site.storage.start_archive(volume_key)
    await asyncio.wait_for(stop.reached.wait(), PATIENCE_SECONDS)
    stands_at = folder if folder.exists() else site.root / ".codehub/trash" / workspace
    (stands_at / "src/written meanwhile").write_text("not to be lost")
    tree = tree_of(stands_at)
    stop.release.set()
    stop.resume.set()
    try:
        await handle.result()
    except StorageError as error:
        return workspace, tree, error.code
    return workspace, tree, None


async def test_before_the_second_walk_it_is_archived(stand: Stand) -> None:
    """A write between the first walk and the second is seen by the second, and the archive is begun anew with it."""

    async def trial(phase: Phase) -> None:
        workspace, tree, code = await archive_while_written(stand, phase)
        assert code is None
        assert await proven_tree(stand.site, workspace) == tree
        assert not stand.site.volume(workspace).exists()

    async with asyncio.TaskGroup() as trials:
        for phase in REPLANNED:
            trials.create_task(trial(phase), name=phase.value)


async def test_behind_it_the_volume_is_kept(stand: Stand) -> None:
    """A write after the second walk: `VolumeChanged`, the file is there; archived again, the archive has it."""

    async def trial(phase: Phase) -> None:
        site = stand.site
        workspace, tree, code = await archive_while_written(stand, phase)
        assert code in CODES
        world = await world_of(site, workspace)
        assert (world.volume, world.trash, world.has_signed_off) == (tree, False, True)
        await until_no_mover(site, workspace)
        await site.storage.archive(f"ws_{workspace}_home")
        assert await proven_tree(site, workspace) == tree
        assert not site.volume(workspace).exists()

    async with asyncio.TaskGroup() as trials:
        for phase in REFUSED:
            trials.create_task(trial(phase), name=phase.value)
