"""Into the store: what is sent in which part, what is not sent again, and what stops it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from activities.dataplane import copy as copying
from activities.dataplane.copy import LANES, Batch, Means, Place, UploadRef, copy_segments, copy_tail
from activities.dataplane.parts import parts_of, runs_of
from activities.dataplane.plan import Plan, PlanLimits
from activities.dataplane.segments import SegmentKind, SegmentRecord, pack_records, unpack_records
from activities.dataplane.tail import Origin
from activities.objectstore.base import Buffers, UploadedPart, UploadLost
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import SMALL_PARTS, ignore, make_archive, plan_of
from tests.harness.trees import make_rich_tree

KEY = "ws1/home.tar.gz"
ORIGIN = Origin(archive_id="a-1", workspace_id="ws1")
TWO_OR_THREE = replace(SMALL_PARTS, min_part_bytes=4000)
"""Parts of a few segments each."""
START = Place()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    make_rich_tree(root)
    (root / "random.bin").write_bytes(os.urandom(100_000))
    return root


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(min_part_bytes=0)


async def begin(store: MemoryStore) -> UploadRef:
    return UploadRef(KEY, await store.create_upload(KEY, {}), "a-1")


async def send(
    plan: Plan,
    store: MemoryStore,
    upload: UploadRef,
    first: Place = START,
    *,
    done: Sequence[SegmentRecord] = (),
    means: Means = TWO_OR_THREE,
) -> Batch:
    return await copy_segments(plan, store, upload, first, done=done, accepted=ignore, progress=ignore, means=means)


async def end(plan: Plan, store: MemoryStore, upload: UploadRef, batch: Batch, means: Means = TWO_OR_THREE) -> Batch:
    return await copy_tail(
        plan, store, upload, batch.next, before=batch.records, origin=ORIGIN, progress=ignore, means=means
    )


async def listed(store: MemoryStore, upload: UploadRef) -> dict[int, tuple[str, int]]:
    return {part.number: (part.etag, part.size_bytes) for part in await store.list_parts(KEY, upload.upload_id) or []}


async def test_parts_are_runs_of_segments(tree: Path, store: MemoryStore) -> None:
    """Closed as soon as they are long enough; what makes no whole part is left for the tail."""
    plan = await plan_of(tree)
    upload = await begin(store)
    batch = await send(plan, store, upload)
    assert [record.number for record in batch.records] == list(range(1, batch.next.segment))
    parts = parts_of(batch.records)
    assert len(batch.records) > len(parts) > 3
    assert batch.at_end
    assert batch.next == Place(len(batch.records) + 1, len(parts) + 1)
    assert batch.next.segment <= plan.summary.data_segments + 1
    assert min(part.size_bytes for part in parts) >= 4000
    assert await listed(store, upload) == {part.number: (part.etag, part.size_bytes) for part in parts}
    assert batch.sent_bytes == sum(part.size_bytes for part in parts)
    assert unpack_records(pack_records(batch.records)) == batch.records


async def test_accepted_grows_by_whole_parts_in_order(tree: Path, store: MemoryStore) -> None:
    """What a heartbeat bears never has a part without its ETag, nor one before the parts below it."""

    class Reversing(MemoryStore):
        async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
            await asyncio.sleep(0.02 if number % LANES == 1 else 0)
            return await super().upload_part(key, upload_id, number, data)

    store = Reversing(min_part_bytes=0)
    seen: list[int] = []

    def accepted(records: list[SegmentRecord]) -> None:
        assert records[-1].etag
        assert [record.number for record in records] == list(range(1, len(records) + 1))
        seen.append(len(parts_of(records)))

    plan = await plan_of(tree)
    await copy_segments(
        plan, store, await begin(store), Place(), done=[], accepted=accepted, progress=ignore, means=TWO_OR_THREE
    )
    assert seen == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("bound", ["BATCH_SEGMENTS", "BATCH_BYTES"])
async def test_batches_follow_one_another(
    tree: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Each ends with a part; together they are what one would be."""
    plan = await plan_of(tree)
    whole = await send(plan, store, await begin(store))
    monkeypatch.setattr(copying, bound, 5 if bound == "BATCH_SEGMENTS" else 30_000)
    upload, batches = await begin(store), [Batch([], Place(), False, 0)]
    while not batches[-1].at_end:
        batches.append(await send(plan, store, upload, batches[-1].next))
    assert len(batches) > 3
    assert [record for batch in batches for record in batch.records] == whole.records
    assert batches[-1].next == whole.next


async def test_accepted_parts_are_not_sent_again(tree: Path, store: MemoryStore) -> None:
    """What an earlier attempt heartbeated, and the store still has, is kept; duplicates in the list do not matter."""
    upload = await begin(store)
    first = await send(await plan_of(tree), store, upload)
    kept = parts_of(first.records)[:2]
    done = [record for record in first.records if record.number <= _last_of_part(first.records, 2)]
    await store.upload_part(KEY, upload.upload_id, 2, [b"a part that was sent twice"])
    again = await send(await plan_of(tree), store, upload, done=done)
    assert again.records == first.records
    assert again.next == first.next
    assert again.sent_bytes == first.sent_bytes - sum(part.size_bytes for part in kept)


def _last_of_part(records: Sequence[SegmentRecord], number: int) -> int:
    return [record.number for record in records if record.etag][number - 1]


LIES: dict[str, object] = {
    "etag": "0" * 32,
    "stored_bytes": 1,
    "number": 7000,
    "kind": SegmentKind.TAIL,
    "content": b"1" * 32,
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
async def test_records_that_do_not_hold_are_sent_again(tree: Path, store: MemoryStore, lie: str, where: str) -> None:
    """A part that store or plan contradict, in whichever of its segments, is worth nothing, nor is any behind it."""
    plan = await plan_of(tree)
    upload = await begin(store)
    first = await send(plan, store, upload)
    part = next(number for number, run in enumerate(runs_of(first.records), 1) if number > 1 and len(run) > 2)
    before, end = _last_of_part(first.records, part - 1), _last_of_part(first.records, part)
    at = end - 1 if lie == "etag" else {"first": before, "middle": before + 1, "last": end - 1}[where]
    wrong = [*first.records]
    wrong[at] = replace(wrong[at], **{lie: LIES[lie]})  # type: ignore[arg-type]
    again = await send(plan, store, upload, done=wrong)
    assert again.records == first.records
    assert again.sent_bytes == first.sent_bytes - sum(part.size_bytes for part in parts_of(first.records[:before]))


async def test_records_of_another_archive(tree: Path, store: MemoryStore, tmp_path: Path) -> None:
    """More of them than the plan has, which agree with it as far as it goes; and one that lacks in the middle."""
    upload = await begin(store)
    first = await send(await plan_of(tree), store, upload)
    ends = [record.number for record in first.records if record.etag]
    less = first.records[: ends[0]] + first.records[ends[1] :]
    again = await send(await plan_of(tree), store, upload, done=less)
    assert again.sent_bytes == first.sent_bytes - parts_of(first.records)[0].size_bytes
    more = [*first.records, replace(first.records[-1], number=len(first.records) + 1)]
    plan = await plan_of(tree)
    cut = replace(plan, summary=plan.summary.model_copy(update={"data_segments": ends[0]}))
    again = await send(cut, store, upload, done=more)
    assert again.records == first.records[: ends[0]]


async def test_an_upload_that_is_gone(tree: Path, store: MemoryStore) -> None:
    """Whether it is asked for its parts or given one."""
    plan = await plan_of(tree)
    upload = await begin(store)
    batch = await send(plan, store, upload)
    await store.abort_upload(KEY, upload.upload_id)
    with pytest.raises(UploadLost):
        await send(plan, store, upload, done=batch.records)
    with pytest.raises(UploadLost):
        await send(plan, store, upload)


async def test_as_many_parts_under_way_as_there_are_lanes(tree: Path) -> None:
    """They wait for one another, so with fewer this would never end; and there are never more."""

    class Slow(MemoryStore):
        now = most = 0
        gate = asyncio.Barrier(LANES)

        async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
            self.now += 1
            self.most = max(self.most, self.now)
            if number <= 2 * LANES:
                await self.gate.wait()
            await asyncio.sleep(0.01)
            self.now -= 1
            return await super().upload_part(key, upload_id, number, data)

    store = Slow(min_part_bytes=0)
    async with asyncio.timeout(60):
        batch = await send(await plan_of(tree), store, await begin(store))
    assert len(parts_of(batch.records)) > 2 * LANES
    assert store.most == LANES


async def test_parts_under_way_fit_the_memory(tree: Path) -> None:
    """Where two do not, one goes after the other."""

    class Slow(MemoryStore):
        now = most = 0

        async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.005)
            self.now -= 1
            return await super().upload_part(key, upload_id, number, data)

    store = Slow(min_part_bytes=0)
    means = replace(TWO_OR_THREE, memory_bytes=2 * TWO_OR_THREE.min_part_bytes - 1)
    batch = await send(await plan_of(tree), store, await begin(store), means=means)
    assert len(parts_of(batch.records)) > 2
    assert store.most == 1


async def test_a_failed_part_ends_the_others(tree: Path) -> None:
    """The first error comes as it is, not in a group, and nothing goes on behind it."""

    class Failing(MemoryStore):
        async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
            if number < 3:
                await asyncio.sleep(0 if number == 2 else 0.01)
            raise StorageError(ErrorCode.STORE_UNAVAILABLE, "no")

    store = Failing(min_part_bytes=0)
    with pytest.raises(StorageError) as caught:
        await send(await plan_of(tree), store, await begin(store))
    assert caught.value.code is ErrorCode.STORE_UNAVAILABLE
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_a_part_that_the_store_took_otherwise(tree: Path) -> None:
    """What was sent is not what the archiver says that it packed."""

    class Garbling(MemoryStore):
        async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
            return await super().upload_part(key, upload_id, number, [*data, b"x"])

    store = Garbling(min_part_bytes=0)
    with pytest.raises(StorageError) as caught:
        await send(await plan_of(tree), store, await begin(store))
    assert caught.value.code is ErrorCode.MOVER_FAILED


async def test_a_change_before_a_segment_is_seen(tree: Path, store: MemoryStore) -> None:
    """A file that is no longer as planned, at the segment that holds it."""
    plan = await plan_of(tree)
    (tree / "random.bin").write_bytes(b"new")
    with pytest.raises(StorageError) as caught:
        await send(plan, store, await begin(store))
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert caught.value.details["path"] == "random.bin"


async def test_a_change_before_the_tail_is_seen(tree: Path, store: MemoryStore) -> None:
    """A file written after its segment was sent: no statement, so nothing that could be completed."""
    plan = await plan_of(tree)
    upload = await begin(store)
    batch = await send(plan, store, upload)
    (tree / "plain.txt").write_bytes(b"new")
    with pytest.raises(StorageError) as caught:
        await end(plan, store, upload, batch)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert sorted(await listed(store, upload)) == list(range(1, batch.next.part))


async def test_a_small_workspace_is_one_small_part(tmp_path: Path) -> None:
    """Nothing is padded, and nothing is sent but that one part."""
    root = tmp_path / "small"
    root.mkdir()
    (root / "file").write_bytes(b"hello")
    store = MemoryStore()
    made = await make_archive(root, store, limits=PlanLimits(), means=Means())
    assert made.info.size_bytes < 2000
    assert [segment.kind for segment in made.manifest.segments] == ["files", "tail"]
    assert len(parts_of(made.records)) == 1
    assert store.sent_bytes == made.info.size_bytes


async def test_an_empty_volume_has_an_archive(tmp_path: Path, store: MemoryStore) -> None:
    """Its root folder, and the statement."""
    root = tmp_path / "empty"
    root.mkdir()
    made = await make_archive(root, store)
    assert [segment.kind for segment in made.manifest.segments] == ["tail"]
    assert made.manifest.totals.entries == 1


async def test_parts_of_the_last_step_are_closed_when_long_enough(tmp_path: Path) -> None:
    """What is left of the data and the tail share parts; only the very last may be short, as the store demands."""
    root = tmp_path / "tailed"
    root.mkdir()
    (root / "f").write_bytes(os.urandom(6000))
    for number in range(200):
        (root / f"link{number}").symlink_to(os.urandom(100).hex())
    store = MemoryStore(min_part_bytes=9000)
    means = replace(SMALL_PARTS, min_part_bytes=9000)
    plan = await plan_of(root)
    upload = await begin(store)
    batch = await send(plan, store, upload, means=means)
    assert (batch.records, batch.next, batch.at_end) == ([], Place(), True)
    tail = await end(plan, store, upload, batch, means)
    parts = parts_of(tail.records)
    assert len(tail.records) > len(parts) > 1
    info = await store.complete_upload(KEY, upload.upload_id, parts, archive_id="a-1")
    assert info.size_bytes == sum(record.stored_bytes for record in tail.records) == tail.sent_bytes


async def test_the_tail_may_be_sent_twice(tree: Path, store: MemoryStore) -> None:
    """A second attempt of the last step sends the same numbers again, and its answer counts."""
    plan = await plan_of(tree)
    upload = await begin(store)
    batch = await send(plan, store, upload)
    first, tail = await end(plan, store, upload, batch), await end(plan, store, upload, batch)
    assert first == tail
    records = [*batch.records, *tail.records]
    info = await store.complete_upload(KEY, upload.upload_id, parts_of(records), archive_id="a-1")
    assert info.size_bytes == sum(record.stored_bytes for record in records)


async def test_records_must_be_complete(tree: Path, store: MemoryStore) -> None:
    """A tail behind missing segments would state a digest of something else; a part without ETag is none."""
    plan = await plan_of(tree)
    upload = await begin(store)
    batch = await send(plan, store, upload)
    with pytest.raises(ValueError):
        await end(plan, store, upload, replace(batch, records=batch.records[1:]))
    with pytest.raises(ValueError):
        parts_of([replace(record, etag="") for record in batch.records])
