"""The proof is real: whatever is wrong with the stored bytes, or with the manifest, is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from activities.dataplane.archivemap import sum_of_contents
from activities.dataplane.manifest import Manifest
from activities.dataplane.parts import combined
from activities.dataplane.plan import PlanLimits
from activities.dataplane.rebuild import verify_from_tail
from activities.dataplane.restore import ArchiveRestore
from activities.dataplane.segments import digest_bytes, digest_text
from activities.dataplane.verify import verify_archive
from activities.objectstore.base import ObjectInfo
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import Made, ignore, make_archive, restore_archive
from tests.harness.refusals import code_of
from tests.harness.trees import make_rich_tree


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(min_part_bytes=0)


@pytest.fixture
async def made(tmp_path: Path, store: MemoryStore) -> Made:
    root = tmp_path / "tree"
    root.mkdir()
    make_rich_tree(root)
    return await make_archive(root, store)


async def verify(store: MemoryStore, made: Made, manifest: Manifest | None = None) -> None:
    info = await store.head(made.info.key)
    assert info is not None
    await verify_archive(store, info, manifest or made.manifest, progress=ignore)


async def test_a_good_archive(store: MemoryStore, made: Made) -> None:
    """Twice, and the progress ends at its size."""
    seen: list[int] = []
    for _ in range(2):
        await verify_archive(store, made.info, made.manifest, progress=seen.append)
    assert seen[-1] == made.info.size_bytes
    assert Manifest.from_json(made.manifest.to_json()) == made.manifest


async def test_a_flipped_bit_is_found_and_its_segment_named(store: MemoryStore, made: Made) -> None:
    """In every segment: its first, a middle and its last byte."""
    for number, segment in enumerate(made.manifest.segments, 1):
        for at in (
            segment.offset,
            segment.offset + segment.stored_bytes // 2,
            segment.offset + segment.stored_bytes - 1,
        ):
            store.corrupt(made.info.key, at)
            with pytest.raises(StorageError) as caught:
                await verify(store, made)
            assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
            assert caught.value.details["segment"] == number
            store.corrupt(made.info.key, at)
    await verify(store, made)


async def bytes_of(store: MemoryStore, made: Made) -> bytes:
    found = await store.get(made.info.key)
    assert found is not None
    return found[0]


def without(data: bytes, made: Made, number: int) -> bytes:
    segment = made.manifest.segments[number]
    return data[: segment.offset] + data[segment.offset + segment.stored_bytes :]


async def test_another_object_is_not_the_one(store: MemoryStore, made: Made) -> None:
    """A shorter object is another one; the same bytes are the same archive, whatever ETag they have there."""
    data = await bytes_of(store, made)
    copied = store.place(made.info.key, data, etag="of a copy", metadata={})
    await verify_archive(store, copied, made.manifest, progress=ignore)
    store.replace_bytes(made.info.key, without(data, made, -1))
    with pytest.raises(StorageError) as caught:
        await verify(store, made)
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT


def _swap(segments: list[Any]) -> None:
    segments[0], segments[1] = segments[1], segments[0]


def _shift(segments: list[Any]) -> None:
    large = [segment for segment in segments if segment["kind"] == "large"]
    large[1]["piece"]["offset"] += 512


LIES: list[Callable[[dict[str, Any]], object]] = [
    lambda m: m["segments"].pop(),
    lambda m: m["segments"].pop(0),
    lambda m: _swap(m["segments"]),
    lambda m: _shift(m["segments"]),
    lambda m: m["segments"][2].update(entries=m["segments"][2]["entries"] + 1),
    lambda m: m["segments"][2].update(first=m["segments"][2]["last"]),
    lambda m: m["segments"][2].update(digest="b3:" + "0" * 64),
    lambda m: m["segments"][2].update(content="b3:" + "0" * 64),
    lambda m: m["segments"][2].update(raw_bytes=m["segments"][2]["raw_bytes"] - 512),
    lambda m: m["segments"][2].update(raw_bytes=m["segments"][2]["raw_bytes"] + 512),
    lambda m: m["segments"][2].update(kind="tail"),
    lambda m: m["segments"][-1].update(kind="files"),
    lambda m: m["object"].update(crc64="0" * 16),
    lambda m: m["object"].update(size_bytes=1),
    lambda m: m.update(content_fingerprint="b3:" + "0" * 64),
    lambda m: m.update(segments=[]),
]


@pytest.mark.parametrize("lie", LIES)
async def test_a_manifest_that_lies(store: MemoryStore, made: Made, lie: Callable[[dict[str, Any]], object]) -> None:
    """Nothing in it is taken on trust."""
    document = json.loads(made.manifest.to_json())
    lie(document)
    with pytest.raises(StorageError) as caught:
        await verify(store, made, Manifest.from_json(json.dumps(document).encode()))
    assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT


async def rebuild(store: MemoryStore, info: ObjectInfo) -> Manifest:
    return await verify_from_tail(store, info, progress=ignore)


async def test_a_manifest_from_the_tail(store: MemoryStore, made: Made) -> None:
    """The same as the lost one, but for the holes and the padding, which the archive does not tell."""
    rebuilt = json.loads((await rebuild(store, made.info)).to_json())
    expected = json.loads(made.manifest.to_json())
    for segment in expected["segments"]:
        if "piece" in segment:
            segment["piece"]["holes"] = []
    expected["totals"]["skipped"] = {"sockets": 1}
    assert rebuilt == expected
    await verify(store, made, await rebuild(store, made.info))


async def test_a_lost_member_does_not_go_unnoticed(store: MemoryStore, made: Made) -> None:
    """Each of them: every plain tool reads such an archive without a word."""
    data = await bytes_of(store, made)
    for number in range(len(made.manifest.segments)):
        info = store.replace_bytes(made.info.key, without(data, made, number))
        with pytest.raises(StorageError) as caught:
            await rebuild(store, info)
        assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT


@pytest.mark.field("D5")
@pytest.mark.parametrize(
    "adapted",
    [
        (),
        ("crc64",),
        ("content_fingerprint",),
        ("crc64", "content_fingerprint"),
        ("crc64", "content_fingerprint", "totals"),
    ],
)
async def test_a_file_taken_out_with_its_lines_in_the_manifest(tmp_path: Path, adapted: tuple[str, ...]) -> None:
    """Key, size, ETag and offsets fit, and sums or even all: what one reader refuses all refuse."""
    store, root, target = MemoryStore(min_part_bytes=0), tmp_path / "tree", tmp_path / "target"
    for each in (root, target):
        each.mkdir()
    for name, size in (("a", 1), ("large", 9000), ("z-large", 9000)):
        (root / name).write_bytes(b"x" * size)
    made = await make_archive(root, store, limits=PlanLimits(large_file_bytes=9000))
    number = [segment.kind for segment in made.manifest.segments].index("tail") - 1
    document = json.loads(made.manifest.to_json())
    taken = document["segments"].pop(number)
    for segment in document["segments"][number:]:
        segment["offset"] -= taken["stored_bytes"]
    info = store.place(made.info.key, without(await bytes_of(store, made), made, number), etag="new", metadata={})
    document["object"].update(size_bytes=info.size_bytes, etag=info.etag)
    segments = document["segments"]
    if "crc64" in adapted:
        crcs = [(bytes.fromhex(segment["crc64"]), segment["stored_bytes"]) for segment in segments]
        document["object"]["crc64"] = combined(crcs).hex()
    if "content_fingerprint" in adapted:
        contents = [digest_bytes(segment["content"]) for segment in segments]
        document["content_fingerprint"] = digest_text(sum_of_contents(contents))
    if "totals" in adapted:
        gone = {"entries": 1, "files": 1, "file_bytes": 9000}
        gone |= {"raw_bytes": taken["raw_bytes"], "stored_bytes": taken["stored_bytes"]}
        document["totals"].update({name: document["totals"][name] - less for name, less in gone.items()})
    manifest = Manifest.from_json(json.dumps(document).encode())

    async def restored() -> None:
        await restore_archive(ArchiveRestore(target, store, manifest))

    verified = await code_of(verify_archive(store, info, manifest, progress=ignore))
    made_anew = await code_of(verify_from_tail(store, info, progress=ignore))
    assert {verified, made_anew, await code_of(restored())} == {ErrorCode.ARCHIVE_CORRUPT}


@pytest.mark.field("D5")
async def test_counts_that_the_tail_does_not_state(tmp_path: Path, store: MemoryStore, made: Made) -> None:
    """The bytes are whole, and only the totals of the manifest lie."""
    totals = made.manifest.totals.model_copy(update={"entries": 1})
    manifest = made.manifest.model_copy(update={"totals": totals})
    target = tmp_path / "target"
    target.mkdir()
    for reading in (verify(store, made, manifest), restore_archive(ArchiveRestore(target, store, manifest))):
        with pytest.raises(StorageError, match="the counts in the manifest") as caught:
            await reading
        assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT


async def test_a_member_of_another_archive_does_not_go_unnoticed(
    store: MemoryStore, made: Made, tmp_path: Path
) -> None:
    """Same paths, same headers, other bytes in one file: only the digest over the digests tells."""
    root = tmp_path / "tree"
    before = (root / "plain.txt").stat()
    (root / "plain.txt").write_bytes(b"HELLO\n")
    import os

    os.utime(root / "plain.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    other = await make_archive(root, store, key="ws2/home.tar.gz")
    assert other.manifest.content_fingerprint == made.manifest.content_fingerprint
    mine, its = await bytes_of(store, made), await bytes_of(store, other)
    numbers = [
        number
        for number, (a, b) in enumerate(zip(made.manifest.segments, other.manifest.segments, strict=True))
        if a.digest != b.digest and a.kind == "files"
    ]
    assert len(numbers) == 1
    a, b = made.manifest.segments[numbers[0]], other.manifest.segments[numbers[0]]
    mixed = mine[: a.offset] + its[b.offset : b.offset + b.stored_bytes] + mine[a.offset + a.stored_bytes :]
    with pytest.raises(StorageError) as caught:
        await rebuild(store, store.replace_bytes(made.info.key, mixed))
    assert "digest of segments" in caught.value.message


async def test_what_is_no_archive_of_ours(store: MemoryStore, made: Made) -> None:
    """Garbage, nothing, and a plain tar.gz have no statement."""
    import gzip
    import io
    import tarfile

    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    for data in (b"garbage", b"", gzip.compress(plain.getvalue()), (await bytes_of(store, made))[:-1]):
        with pytest.raises(StorageError) as caught:
            await rebuild(store, store.replace_bytes(made.info.key, data))
        assert caught.value.code is ErrorCode.ARCHIVE_CORRUPT
