"""Work is kept: what was heartbeated as accepted is not sent again, whoever dies, unless the store lost it."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.dataplane.segments import SegmentRecord, unpack_records
from codehub_storage.client import OperationHandle
from codehub_storage.converter import DATA_CONVERTER
from codehub_storage.keys import workflow_id
from tests.fakes.s3_faults import Answer, Exchange, Fault, Hold, Reply, on
from tests.fakes.s3_proxy import S3Proxy
from tests.harness.oracle import Oracle, Store
from tests.harness.seaweed import Seaweed
from tests.harness.site import Site, open_site
from tests.harness.watching import mover_of
from worker.dev.temporal import TemporalServer

FULL = bool(os.environ.get("STORAGE_TESTS_N"))
MIB = 1 << 20
PART_BYTES = 6 * MIB
IN_FLIGHT = 4
"""The default of ``mover_concurrency``, set here so that the bound below does not move with it."""
HEARTBEATED = 5
"""So many parts are known to the server, at least, when something is killed."""
TIME_SCALE = 0.1
LOOK_SECONDS = 0.02

pytestmark = pytest.mark.tool("rsync")


@dataclass
class Slow(Fault):
    """A store that takes its time with every part, so that beats fall between them however fast the machine is."""

    times: int | None = None

    async def answered(self, exchange: Exchange, answer: Answer) -> Answer:
        """Half a second: with four in flight, more than two seconds for the smallest tree here."""
        await asyncio.sleep(0.5)
        return answer


def is_part(exchange: Exchange) -> bool:
    """An upload of a part."""
    return exchange.method == "PUT" and exchange.part is not None


@dataclass(frozen=True)
class Copying:
    """An archive that is sent past a proxy that counts."""

    site: Site
    proxy: S3Proxy
    oracle: Oracle
    workspace: str

    @property
    def key(self) -> str:
        return f"{self.workspace}/home.tar.gz"

    async def begin(self) -> OperationHandle:
        """Start the archive."""
        return await self.site.storage.start_archive(f"ws_{self.workspace}_home")

    def parts(self) -> list[Exchange]:
        """All uploads of parts so far, also those that were cut off."""
        return self.proxy.seen(lambda each: is_part(each) and each.key == self.key)

    async def heartbeated(self) -> list[SegmentRecord]:
        """What the Temporal server knows to be accepted in the copy that is under way."""
        description = await self.site.temporal.get_workflow_handle(workflow_id(self.workspace)).describe()
        for pending in description.raw_description.pending_activities:
            if pending.activity_type.name == "copy_segments" and pending.HasField("heartbeat_details"):
                payloads = list(pending.heartbeat_details.payloads)
                (details,) = DATA_CONVERTER.payload_converter.from_payloads(payloads)
                return unpack_records(bytes.fromhex(details["records"]))
        return []

    def in_flight(self) -> list[Exchange]:
        """Uploads of parts that the store has not answered."""
        return [each for each in self.parts() if not each.status]

    async def until_heartbeated(self) -> None:
        """Until some parts are known, and others are still to come."""
        while len(await self.heartbeated()) < HEARTBEATED:
            is_complete = self.proxy.seen(on(method="POST", query="uploadId"))
            assert not is_complete, "the archive was complete before anything could be killed"
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def copying(
    folder: Path, temporal_server: TemporalServer, seaweed: Seaweed, megabytes: int
) -> AsyncIterator[Copying]:
    """A site for an archive of ``megabytes`` that do not compress, not begun. ``begin`` begins it."""
    async with (
        S3Proxy(seaweed.ports[0]) as proxy,
        open_site(
            folder / "site",
            temporal_server,
            seaweed,
            endpoint_url=proxy.endpoint_url,
            time_scale=TIME_SCALE,
            CODEHUB_STORAGE_SEGMENT_BYTES=str(PART_BYTES),
            CODEHUB_STORAGE_MOVER_CONCURRENCY=str(IN_FLIGHT),
        ) as site,
    ):
        site.start_worker()
        workspace = site.workspace_id()
        await site.storage.provision(workspace)
        await asyncio.to_thread(fill, site.volume(workspace), folder / "reference", megabytes)
        admin = seaweed.admin
        store = Store(seaweed.endpoint_url, admin.access_key, admin.secret_key, site.bucket)
        yield Copying(site, proxy, Oracle(store, site.root, folder / "reference"), workspace)


def fill(volume: Path, reference: Path, megabytes: int) -> None:
    """Files of a mebibyte each, from a seed, and the same outside."""
    source = random.Random(megabytes)
    for number in range(megabytes):
        (volume / f"file-{number}").write_bytes(source.randbytes(MIB))
    subprocess.run(["cp", "-a", "--reflink=auto", volume, reference], check=True)


@pytest.mark.parametrize("killed", ["mover", "worker"])
async def test_a_killed_process_costs_what_was_in_flight(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed, killed: str
) -> None:
    """Sent again are at most the segments in flight and those accepted since the last heartbeat."""
    megabytes = 1024 if FULL else 200 if killed == "mover" else 120
    async with copying(tmp_path, temporal_server, seaweed, megabytes) as run:
        run.proxy.add(Slow(), is_part)
        handle = await run.begin()
        await run.until_heartbeated()
        if killed == "mover":
            mover = mover_of(run.site.root, run.workspace)
            assert mover is not None
            os.kill(mover, 9)
        else:
            run.site.workers[0].kill()
        known = {record.number for record in await run.heartbeated()}
        before = run.parts()
        unknown = {each.part for each in before if each.status == 200} - known
        if killed == "worker":
            run.site.start_worker()
        await handle.result()
        after = {each.part: each.received for each in run.parts()[len(before) :]}
        assert not known & set(after), "a part that was known to be accepted was sent again"
        again = [size for part, size in after.items() if part in {each.part for each in before}]
        assert sum(again) <= (IN_FLIGHT + len(unknown)) * max(each.received for each in before)
        await asyncio.to_thread(run.oracle.check_archive, run.workspace)


@pytest.fixture
def own_seaweed(tmp_path: Path) -> Iterator[Seaweed]:
    """A store that may be killed, not started yet."""
    store = Seaweed(tmp_path / "store/data")
    yield store
    store.stop()


async def test_a_killed_store_costs_what_it_lost(
    tmp_path: Path, temporal_server: TemporalServer, own_seaweed: Seaweed
) -> None:
    """kill -9 of the store between parts: after its start the archive goes on, and nothing known is sent again."""
    await asyncio.to_thread(own_seaweed.start)
    async with copying(tmp_path, temporal_server, own_seaweed, 1024 if FULL else 120) as run:
        run.proxy.add(Slow(), is_part)
        handle = await run.begin()
        await run.until_heartbeated()
        await asyncio.to_thread(own_seaweed.kill)
        known = {record.number for record in await run.heartbeated()}
        before = len(run.parts())
        await asyncio.to_thread(own_seaweed.start)
        await handle.result()
        assert not known & {each.part for each in run.parts()[before:]}, "a part that the store had was sent again"
        await asyncio.to_thread(run.oracle.check_archive, run.workspace)


async def test_an_upload_that_the_store_lost_is_begun_anew(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """Forgotten between parts (``NoSuchUpload``), then refused at its end (``InvalidPart``): a third upload is made."""
    async with copying(tmp_path, temporal_server, seaweed, 20) as run:
        refused = run.proxy.add(Reply(status=400, code="InvalidPart"), on(method="POST", query="uploadId"))
        held = run.proxy.add(Hold(), is_part)
        handle = await run.begin()
        await held.reached.wait()
        await run.site.truth.abort_upload(run.key, run.in_flight()[0].query["uploadId"])
        held.release.set()
        await handle.result()
        assert refused.met == 1
        assert len({each.query["uploadId"] for each in run.parts()}) == 3
        await asyncio.to_thread(run.oracle.check_archive, run.workspace)


async def test_segments_are_in_flight_side_by_side(
    tmp_path: Path, temporal_server: TemporalServer, seaweed: Seaweed
) -> None:
    """While the store answers no part, others arrive: as many as the setting says, and not more."""
    async with copying(tmp_path, temporal_server, seaweed, 60) as run:
        hold = run.proxy.add(Hold(times=None), is_part)
        handle = await run.begin()
        await hold.reached.wait()
        while (waiting := len(run.in_flight())) < IN_FLIGHT:  # noqa: ASYNC110 - the mover is another process
            await asyncio.sleep(LOOK_SECONDS)
        assert waiting == IN_FLIGHT
        hold.release.set()
        await handle.result()
