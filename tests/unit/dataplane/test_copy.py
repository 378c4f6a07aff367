"""Into the store: what is sent, what is not sent again, and what stops it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from activities.dataplane.copy import UploadRef, copy_segments, copy_tail, parts_of
from activities.dataplane.plan import Plan, PlanLimits
from activities.dataplane.segments import SegmentKind, SegmentRecord, pack_records, unpack_records
from activities.dataplane.tail import Origin
from activities.dataplane.threads import Budget
from activities.objectstore.base import Buffers, UploadedPart, UploadLost
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import TINY, ignore, make_archive, plan_of
from tests.harness.trees import make_rich_tree

KEY = "ws1/home.tar.gz"
ORIGIN = Origin(archive_id="a-1", workspace_id="ws1")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    make_rich_tree(root)
    return root


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(min_part_bytes=0)


async def begin(store: MemoryStore) -> UploadRef:
    return UploadRef(KEY, await store.create_upload(KEY, {}), "a-1")


async def send(
    plan: Plan, store: MemoryStore, upload: UploadRef, *, done: Sequence[SegmentRecord] = (), concurrency: int = 3
) -> tuple[list[SegmentRecord], list[int]]:
    """All data segments but the last; the records, and the numbers of those that were sent now."""
    sent: list[int] = []
    records = await copy_segments(
        plan,
        store,
        upload,
        1,
        len(plan.segments) - 1,
        done=done,
        accepted=lambda record: sent.append(record.number),
        progress=ignore,
        concurrency=concurrency,
    )
    return records, sorted(sent)


async def test_one_part_per_segment(tree: Path, store: MemoryStore) -> None:
    """Part number is segment number, and the record says what the store has."""
    plan = await plan_of(tree)
    upload = await begin(store)
    records, sent = await send(plan, store, upload)
    assert sent == [record.number for record in records] == list(range(1, len(plan.segments)))
    parts = {part.number: part for part in await store.list_parts(KEY, upload.upload_id) or []}
    for record in records:
        assert (parts[record.number].etag, parts[record.number].size_bytes) == (record.etag, record.stored_bytes)
    assert unpack_records(pack_records(records)) == records


async def test_accepted_segments_are_not_sent_again(tree: Path, store: MemoryStore) -> None:
    """What an earlier attempt heartbeated, and the store still has, is kept; duplicates in the list do not matter."""
    plan = await plan_of(tree)
    upload = await begin(store)
    records, _ = await send(plan, store, upload)
    await store.upload_part(KEY, upload.upload_id, 2, [b"a part that was sent twice"])
    before = store.sent_bytes
    again, sent = await send(await plan_of(tree), store, upload, done=records[:4])
    assert sent == list(range(5, len(plan.segments)))
    assert again[:4] == records[:4]
    assert store.sent_bytes - before == sum(record.stored_bytes for record in again[4:])


@pytest.mark.parametrize(
    "lie",
    [
        {"etag": "0" * 32},
        {"stored_bytes": 1},
        {"content": bytes(32)},
        {"kind": SegmentKind.LARGE},
    ],
)
async def test_records_that_do_not_hold_are_sent_again(tree: Path, store: MemoryStore, lie: dict[str, object]) -> None:
    """A record that the store or the plan contradicts is worth nothing."""
    plan = await plan_of(tree)
    upload = await begin(store)
    records, _ = await send(plan, store, upload)
    wrong = replace(records[0], **lie)  # type: ignore[arg-type]
    again, sent = await send(plan, store, upload, done=[wrong, *records[1:]])
    assert sent == [1]
    assert again[0].sha256 == records[0].sha256


async def test_an_upload_that_is_gone(tree: Path, store: MemoryStore) -> None:
    """Whether it is asked for its parts or given one."""
    plan = await plan_of(tree)
    upload = await begin(store)
    records, _ = await send(plan, store, upload)
    await store.abort_upload(KEY, upload.upload_id)
    with pytest.raises(UploadLost):
        await send(plan, store, upload, done=records)
    with pytest.raises(UploadLost):
        await send(plan, store, upload)


class SlowStore(MemoryStore):
    """Holds parts until ``together`` are under way at once."""

    def __init__(self, together: int) -> None:
        super().__init__(min_part_bytes=0)
        self._gate = asyncio.Barrier(together)
        self.left = 0

    async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
        if self.left:
            self.left -= 1
            await self._gate.wait()
        return await super().upload_part(key, upload_id, number, data)


async def test_several_in_flight(tree: Path) -> None:
    """Three parts wait for one another: with fewer at a time this would never end."""
    store = SlowStore(3)
    store.left = 9
    plan = await plan_of(tree)
    async with asyncio.timeout(60):
        await send(plan, store, await begin(store), concurrency=3)


async def test_the_budget_bounds_what_is_in_flight() -> None:
    """Whoever would exceed it waits; one that is larger than all of it goes alone."""
    budget = Budget(100)
    assert await budget.take(60) == 60
    second = asyncio.create_task(budget.take(60))
    huge = asyncio.create_task(budget.take(1000))
    await asyncio.sleep(0)
    assert not second.done()
    await budget.give(60)
    assert await second == 60
    await asyncio.sleep(0)
    assert not huge.done()
    await budget.give(60)
    assert await huge == 100


async def test_a_failed_part_ends_the_others(tree: Path) -> None:
    """The first error comes as it is, not in a group, and nothing goes on behind it."""

    class Failing(MemoryStore):
        async def upload_part(self, key: str, upload_id: str, number: int, data: Buffers) -> UploadedPart:
            raise StorageError(ErrorCode.STORE_UNAVAILABLE, "no")

    store = Failing(min_part_bytes=0)
    with pytest.raises(StorageError) as caught:
        await send(await plan_of(tree), store, await begin(store))
    assert caught.value.code is ErrorCode.STORE_UNAVAILABLE
    assert len(asyncio.all_tasks()) == 1


async def test_a_change_before_the_tail_is_seen(tree: Path, store: MemoryStore) -> None:
    """A file written after its segment was sent: no tail, so nothing that could be completed."""
    plan = await plan_of(tree)
    upload = await begin(store)
    records, _ = await send(plan, store, upload)
    (tree / "plain.txt").write_bytes(b"new")
    with pytest.raises(StorageError) as caught:
        await copy_tail(plan, store, upload, records=records, origin=ORIGIN, progress=ignore)
    assert caught.value.code is ErrorCode.VOLUME_CHANGED
    assert {part.number for part in await store.list_parts(KEY, upload.upload_id) or []} == set(
        range(1, len(plan.segments))
    )


async def test_a_small_workspace_is_one_small_part(tmp_path: Path) -> None:
    """Nothing is padded, and nothing is sent but that one part."""
    root = tmp_path / "small"
    root.mkdir()
    (root / "file").write_bytes(b"hello")
    store = MemoryStore()
    made = await make_archive(root, store, limits=PlanLimits())
    assert made.info.size_bytes < 2000
    assert made.manifest.totals.padding_bytes == 0
    assert [segment.kind for segment in made.manifest.segments] == ["files", "tail"]
    assert store.sent_bytes == made.info.size_bytes


async def test_an_empty_volume_has_an_archive(tmp_path: Path, store: MemoryStore) -> None:
    """Its root folder, and the statement."""
    root = tmp_path / "empty"
    root.mkdir()
    made = await make_archive(root, store)
    assert [segment.kind for segment in made.manifest.segments] == ["tail"]
    assert made.manifest.totals.entries == 1


async def test_short_segments_are_padded_to_a_part(tmp_path: Path) -> None:
    """A store that asks for a least part gets it, and the manifest says how much of it is nothing."""
    root = tmp_path / "padded"
    root.mkdir()
    for number in range(6):
        (root / f"f{number}").write_bytes(bytes(7000))
    store = MemoryStore(min_part_bytes=5000)
    made = await make_archive(root, store, limits=replace(TINY, min_part_bytes=5000))
    stored = [segment.stored_bytes for segment in made.manifest.segments]
    assert all(5000 <= size < 5005 for size in stored[:-2])
    assert sum(stored[-2:]) < 5000
    assert made.manifest.totals.padding_bytes == sum(record.padding_bytes for record in made.records) > 10_000


async def test_parts_of_the_last_step_are_closed_when_long_enough(tmp_path: Path) -> None:
    """Last data segment and tail share parts; only the very last may be short."""
    root = tmp_path / "tailed"
    root.mkdir()
    (root / "f").write_bytes(os.urandom(6000))
    for number in range(200):
        (root / f"link{number}").symlink_to("x" * 200 + str(number))
    store = MemoryStore(min_part_bytes=5000)
    plan = await plan_of(root, replace(TINY, min_part_bytes=5000))
    upload = await begin(store)
    tail = await copy_tail(plan, store, upload, records=[], origin=ORIGIN, progress=ignore)
    assert len(tail.records) > len(tail.parts) > 1
    assert [part.number for part in tail.parts] == list(range(1, len(tail.parts) + 1))
    info = await store.complete_upload(KEY, upload.upload_id, parts_of([], tail), archive_id="a-1")
    assert info.size_bytes == sum(record.stored_bytes for record in tail.records)


async def test_the_tail_may_be_sent_twice(tree: Path, store: MemoryStore) -> None:
    """A second attempt of the last step sends the same numbers again, and its answer counts."""
    plan = await plan_of(tree)
    upload = await begin(store)
    records, _ = await send(plan, store, upload)
    await copy_tail(plan, store, upload, records=records, origin=ORIGIN, progress=ignore)
    tail = await copy_tail(plan, store, upload, records=records, origin=ORIGIN, progress=ignore)
    info = await store.complete_upload(KEY, upload.upload_id, parts_of(records, tail), archive_id="a-1")
    assert info.size_bytes == sum(record.stored_bytes for record in [*records, *tail.records])


async def test_records_must_be_complete(tree: Path, store: MemoryStore) -> None:
    """A tail behind missing segments would state a digest of something else."""
    plan = await plan_of(tree)
    upload = await begin(store)
    records, _ = await send(plan, store, upload)
    with pytest.raises(ValueError):
        await copy_tail(plan, store, upload, records=records[1:], origin=ORIGIN, progress=ignore)
    with pytest.raises(ValueError):
        await copy_segments(plan, store, upload, 1, len(plan.segments), done=[], accepted=ignore, progress=ignore)
