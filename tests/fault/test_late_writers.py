"""What an older attempt sent to the store arrives late: after a newer archive, and after purge. Nothing may come of it.

Which writes there are comes from the requests that are seen on the way to the server, so a new one is tried too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from codehub_storage import keys
from tests.fakes.s3_faults import Exchange, Predicate
from tests.fakes.s3_late import Late
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.stops import (
    PATIENCE_SECONDS,
    Stop,
    World,
    fill,
    handle_of,
    of,
    proven_tree,
    until,
    until_no_mover,
    world_of,
)
from worker.dev.temporal import TemporalServer

AT_A_TIME = 6
REFUSED = (404, 412)


@dataclass(frozen=True)
class Stand:
    """A site behind a proxy; ``port``: the server's own."""

    site: Site
    proxy: S3Proxy
    port: int


@pytest.fixture
async def stand(
    request: pytest.FixtureRequest, tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> AsyncIterator[Stand]:
    """With one worker; ``request.param``: the kind of bucket."""
    async with (
        S3Proxy(seaweed.ports[0]) as proxy,
        open_site(
            tmp_path / "site",
            temporal_server,
            seaweed,
            versioned=request.param == "versioned",
            endpoint_url=proxy.endpoint_url,
            CODEHUB_STORAGE_MAX_MOVERS="8",
        ) as site,
    ):
        site.start_worker()
        yield Stand(site, proxy, seaweed.ports[0])


def writes(workspace_id: str) -> Predicate:
    """Fits what changes objects or uploads of the workspace."""
    mine = of(workspace_id)
    return lambda exchange: exchange.method in ("PUT", "POST", "DELETE") and mine(exchange)


def kind(exchange: Exchange) -> str:
    """What a write is, without what is new in every run."""
    query = "".join(f"?{name}" for name in sorted(exchange.query) if name != "x-id")
    return f"{exchange.method} {exchange.key.partition('/')[2]}{query}"


def all_but_a_second_placeholder(workspace_id: str) -> Predicate:
    """Fits every write but one: an empty manifest is written anew until no copy of it can be under way."""
    mine, calls = writes(workspace_id), list[str]()

    def fits(exchange: Exchange) -> bool:
        if not mine(exchange):
            return False
        if exchange.method == "PUT" and exchange.key.endswith("/home.tar.gz.meta"):
            calls.append(exchange.headers["Amz-Sdk-Invocation-Id"])
            return list(dict.fromkeys(calls)).index(calls[-1]) != 1
        return True

    return fits


async def live(site: Site, workspace_id: str, text: str) -> str:
    """provision, fill, archive; the archive's key."""
    volume_key = await site.storage.provision(workspace_id)
    fill(site.volume(workspace_id), text)
    return await site.storage.archive(volume_key)


@pytest.mark.parametrize("stand", ["unversioned", "versioned"], indirect=True)
async def test_every_write_of_a_life_comes_again(stand: Stand) -> None:
    """The first try of every write is lost on its way and arrives after a whole newer life, and again after purge."""
    site, workspace = stand.site, stand.site.workspace_id()
    late = stand.proxy.add(Late(bucket=site.bucket), all_but_a_second_placeholder(workspace))
    archive_key = await live(site, workspace, "old")
    volume_key = await site.storage.restore(archive_key)
    await site.storage.purge(volume_key, archive_key)
    stand.proxy.clear()
    kinds = {kind(exchange) for exchange, _ in late.kept}
    assert kinds >= {
        "PUT home.state",
        "PUT home.tar.gz.meta",
        "POST home.tar.gz?uploads",
        "PUT home.tar.gz?partNumber?uploadId",
        "POST home.tar.gz?uploadId",
        "DELETE home.tar.gz" + ("?versionId" if "versionId" in str(kinds) else ""),
    }
    await live(site, workspace, "new")
    newer = await world_of(site, workspace)
    tree = await proven_tree(site, workspace)
    answers = await late.deliver(stand.port)
    check_nothing_came(newer, await world_of(site, workspace))
    assert await proven_tree(site, workspace) == tree is not None
    assert_only_uploads_pass(late, answers)

    await site.storage.purge(volume_key, archive_key)
    await late.deliver(stand.port)
    await check_purged(site, workspace)


def assert_only_uploads_pass(late: Late, answers: list[int]) -> None:
    """Nobody can refuse the beginning of an upload, and a DELETE of what is gone is answered kindly; all else fails."""
    passed = {
        kind(exchange)
        for (exchange, _), status in zip(late.kept, answers, strict=True)
        if status not in REFUSED and exchange.method != "DELETE"
    }
    assert passed <= {"POST home.tar.gz?uploads"}


def check_nothing_came(before: World, after: World) -> None:
    """The worlds are the same, but for an upload that was begun late and holds nothing."""
    assert after.uploads <= before.uploads + 1
    assert (after.record, after.objects, after.volume, after.inode) == (
        before.record,
        before.objects,
        before.volume,
        before.inode,
    )


async def check_purged(site: Site, workspace_id: str) -> None:
    """After purge: no archive, no proof, no volume; a new life begins, and purge clears what came late."""
    archive = keys.archive_key(workspace_id)
    world = await world_of(site, workspace_id)
    assert (world.objects[archive], world.volume, world.state) == ((), None, None)
    manifest = await site.truth.get(keys.manifest_key(archive))
    assert manifest is None or json.loads(manifest[0]).get("archive_id") is None
    await site.storage.purge(await site.storage.provision(workspace_id), archive)
    world = await world_of(site, workspace_id)
    assert (world.objects[archive], world.objects[keys.manifest_key(archive)], world.uploads) == ((), (), 0)


@pytest.mark.parametrize("stand", ["unversioned"], indirect=True)
async def test_each_write_of_a_terminated_run(stand: Stand) -> None:
    """An archive is terminated with one write on its way, each in turn; it lands after a newer archive, or a purge."""
    site, workspace = stand.site, stand.site.workspace_id()
    volume_key = await site.storage.provision(workspace)
    fill(site.volume(workspace))
    before = len(stand.proxy.seen(writes(workspace)))
    await site.storage.archive(volume_key)
    kinds = [kind(exchange) for exchange in stand.proxy.seen(writes(workspace))[before:]]
    turn = asyncio.Semaphore(AT_A_TIME)

    async def try_one(position: int, *, is_purged: bool) -> None:
        async with turn:
            await one_write_late(stand, kinds, position, is_purged=is_purged)

    async with asyncio.TaskGroup() as trials:
        for position in range(len(kinds)):
            for is_purged in (False, True):
                trials.create_task(try_one(position, is_purged=is_purged), name=kinds[position])


async def one_write_late(stand: Stand, kinds: list[str], position: int, *, is_purged: bool) -> None:
    """A run stands before one of its writes, all of which ``kinds`` lists in order, and is terminated."""
    site, workspace = stand.site, stand.site.workspace_id()
    volume_key, archive_key = await site.storage.provision(workspace), keys.archive_key(workspace)
    fill(site.volume(workspace), "old")
    before = len(stand.proxy.seen(writes(workspace)))

    async def is_turn() -> bool:
        return len(stand.proxy.seen(writes(workspace))) == before + position + 1

    stop = stand.proxy.add(Stop(is_here=is_turn), writes(workspace))
    handle = await site.storage.start_archive(volume_key)
    await asyncio.wait_for(stop.reached.wait(), PATIENCE_SECONDS)
    assert stop.exchange is not None
    assert kind(stop.exchange) == kinds[position]
    await handle_of(site, workspace, handle.run_id).terminate("a test")
    await until_no_mover(site, workspace)
    stop.resume.set()
    if is_purged:
        await site.storage.purge(volume_key, archive_key)
        await stop.let_it_land()
        await check_purged(site, workspace)
        return
    if position == len(kinds) - 1:  # all was done but the signing off
        await site.storage.restore(archive_key)

    async def stands() -> bool:
        return site.volume(workspace).exists()

    await until(stands, "the volume was not put back")
    new = fill(site.volume(workspace), "new")
    await site.storage.archive(volume_key)
    newer = await world_of(site, workspace)
    await stop.let_it_land()
    check_nothing_came(newer, await world_of(site, workspace))
    assert await proven_tree(site, workspace) == new
