"""Documents that we read: each belongs to its key, and whatever stands in them, they are read or refused by a code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from activities.dataplane.manifest import (
    Manifest,
    Piece,
    Segment,
    Source,
    StoredObject,
    Totals,
    VolumeBlock,
)
from activities.objectstore.identity import StoreIdentity
from activities.objectstore.identity import identity_of as read_identity
from activities.state.fence import read_record, write_record
from activities.state.proof import find_archive, is_proven, read_manifest
from activities.state.record import LeftBehind, Owner, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, manifest_key, record_key
from tests.fakes.memory_store import MemoryStore

pytestmark = pytest.mark.field("D2")

Json = dict[str, Any]
LARGEST = 2**63 - 1


def record_of(workspace_id: str, letter: str) -> Record:
    """A record in which every field has a value of its own."""
    return Record(
        revision=ord(letter),
        workspace_id=workspace_id,
        place=f"place-{letter}",
        owner=Owner(run_id=f"run-{letter}", operation=f"archive-{letter}", signed_off=letter == "a", epoch=ord(letter)),
        volume=VolumeRecord(
            uid=f"{workspace_id}-{letter * 16}",
            state=VolumeState.READY if letter == "a" else VolumeState.ARCHIVED,
            archive_id=letter * 32,
            fingerprint=f"b3:{letter * 64}",
            made_by=f"maker-{letter}",
            place=f"place-{letter}",
            handed_out_at=f"2026-01-01T00:00:00+00:00{letter}",
            gone=letter == "a",
            epoch=ord(letter),
            purged_by=f"purge-{letter}",
        ),
        given_up=(f"{letter}-given",),
        lost_volume_uid=f"{letter}-lost",
        last_archive=f"{letter}-last",
        last_epoch=ord(letter),
        left_behind=(LeftBehind(uid=f"{letter}-left", place=f"left-{letter}"),),
    )


def manifest_of(workspace_id: str, letter: str) -> Manifest:
    """A manifest in which every field has a value of its own."""
    number = ord(letter)
    counts = {name: number for name in Totals.model_fields if name != "skipped"}
    piece = Piece(path="YQ==", offset=0, length=number, file_bytes=number, header_bytes=512, holes=((0, number),))
    segment = Segment(
        kind="large",
        first="YQ==",
        last="YQ==",
        entries=1,
        raw_bytes=number,
        digest=f"b3:{letter * 64}",
        content=f"b3:{letter * 64}",
        offset=0,
        stored_bytes=number,
        crc64=letter * 16,
        piece=piece,
    )
    key = archive_key(workspace_id)
    return Manifest(
        archive_id=letter * 32,
        nonce=letter * 32,
        workspace_id=workspace_id,
        created_at=f"2026-01-0{number % 9}",
        object=StoredObject(key=key, size_bytes=number, etag=letter * 32, version_id=letter, crc64=letter * 16),
        source=Source(
            volume_uid=f"{workspace_id}-{letter * 16}",
            place=f"place-{letter}",
            restored_from=letter * 31,
            change_fingerprint=f"b3:{letter * 64}",
        ),
        volume=VolumeBlock(backend=letter, size_bytes=number, storage_class=f"class-{letter}", labels={letter: letter}),
        totals=Totals(**counts, skipped={letter: number}),
        content_fingerprint=f"b3:{letter * 64}",
        segments=(segment,),
    )


def identity_of(letter: str) -> StoreIdentity:
    """An identity in which every field has a value of its own."""
    return StoreIdentity(
        store_id=letter,
        places={letter: letter},
        delete_wait_seconds=ord(letter),
        settle_seconds=ord(letter),
        epoch=ord(letter),
        marker_modified_at=ord(letter),
        marker_version=letter,
    )


def ways(model: BaseModel) -> Iterator[tuple[str, ...]]:
    """Every field, and every field of those that are documents themselves."""
    for name in type(model).model_fields:
        yield (name,)
        value = getattr(model, name)
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, BaseModel):
            yield from ((name, *(["0"] if first is not value else []), *rest) for rest in ways(first))


def at(document: Any, way: tuple[str, ...]) -> Any:
    """What stands there."""
    for step in way:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def put(document: Json, way: tuple[str, ...], value: Any) -> Json:
    """A copy with another value there."""
    changed = json.loads(json.dumps(document))
    last = at(changed, way[:-1])
    last[int(way[-1]) if isinstance(last, list) else way[-1]] = value
    return dict(changed)


def dumped(model: BaseModel) -> Json:
    """As it is stored."""
    return dict(json.loads(model.model_dump_json()))


async def reads(document: bytes, kind: str) -> BaseModel | ErrorCode:
    """What its reader makes of it at the key of workspace ``b``; the code if it refuses."""
    store = MemoryStore()
    try:
        if kind == "identity":
            return read_identity(document)
        key = record_key("b") if kind == "record" else manifest_key(archive_key("b"))
        await store.put_if(key, document, etag=None)
        if kind == "record":
            found = await read_record(store, "b")
        else:
            found = await read_manifest(store, archive_key("b"))  # type: ignore[assignment]
    except StorageError as error:
        return error.code
    assert found is not None
    return found[0]


MAKERS: dict[str, Callable[[str, str], BaseModel]] = {
    "record": record_of,
    "manifest": manifest_of,
    "identity": lambda _, letter: identity_of(letter),
}
FIELDS = [(kind, way) for kind, make in MAKERS.items() for way in ways(make("b", "b"))]
NAMES = [f"{kind}.{'.'.join(way)}" for kind, way in FIELDS]
REFUSALS = {
    "record": ErrorCode.ARCHIVE_CORRUPT,
    "manifest": ErrorCode.ARCHIVE_CORRUPT,
    "identity": ErrorCode.WRONG_STORE,
}


@pytest.mark.parametrize("kind", ["record", "manifest"])
async def test_the_document_of_another_workspace_is_none_of_ours(kind: str) -> None:
    """The whole of A's at B's key."""
    assert await reads(MAKERS[kind]("a", "a").model_dump_json().encode(), kind) == ErrorCode.ARCHIVE_CORRUPT


@pytest.mark.parametrize(("kind", "way"), FIELDS, ids=NAMES)
async def test_every_field_exchanged(kind: str, way: tuple[str, ...]) -> None:
    """One field of A's in B's document: what names the workspace is refused, anything else is read as it stands."""
    ours, theirs = dumped(MAKERS[kind]("b", "b")), dumped(MAKERS[kind]("a", "a"))
    found = await reads(json.dumps(put(ours, way, at(theirs, way))).encode(), kind)
    names_it = kind != "identity" and way in (("workspace_id",), ("object", "key"), ("object",))
    if names_it:
        assert found == ErrorCode.ARCHIVE_CORRUPT
    else:
        assert isinstance(found, BaseModel), found
        assert at(dumped(found), way) == at(theirs, way)


HOSTILE: list[Any] = [
    *(-1, -(2**63), 2**63, 2**64, 10**400, 1.5, 1e308, "1e3", True, None),
    *("", "\x00", "../up", "/etc", "UP", "ä", "a\n", "x" * 100_000, "0" * 63, "g" * 64),
    *([], [1], ["x"] * 20_000, {}, {"x": "y"}, [[[[]]]], {"x" * 2000: -1}),
]


@pytest.mark.parametrize(("kind", "way"), FIELDS, ids=NAMES)
async def test_every_field_with_hostile_values(kind: str, way: tuple[str, ...]) -> None:
    """Read within its bounds, or refused with the one code: never another error, never a number beyond 63 bits."""
    ours = dumped(MAKERS[kind]("b", "b"))
    for value in HOSTILE:
        document = json.dumps(put(ours, way, value)).encode()
        found = await reads(document, kind)
        if isinstance(found, ErrorCode):
            is_newer = way in (("format_version",), ("required_features",))
            assert found == REFUSALS[kind] or (is_newer and found == ErrorCode.UNSUPPORTED), (value, found)
        else:
            check_numbers(dumped(found))


def check_numbers(document: Any) -> None:
    """All within what a signed word holds."""
    if isinstance(document, dict):
        document = list(document.values())
    if isinstance(document, list):
        for each in document:
            check_numbers(each)
    elif isinstance(document, int | float):
        assert 0 <= document <= LARGEST


NUMBERS = [
    (kind, way)
    for kind, way in FIELDS
    if type(at(dumped(MAKERS[kind]("b", "b")), way)) is int and way != ("format_version",)
]


@pytest.mark.parametrize(("kind", "way"), NUMBERS, ids=[f"{kind}.{'.'.join(way)}" for kind, way in NUMBERS])
async def test_the_bounds_of_every_number(kind: str, way: tuple[str, ...]) -> None:
    """The smallest and the largest are read, one beyond is refused."""
    ours, lowest = dumped(MAKERS[kind]("b", "b")), 1 if way[-1].endswith("epoch") else 0
    for value, is_read in ((lowest, True), (LARGEST, True), (lowest - 1, False), (LARGEST + 1, False)):
        found = await reads(json.dumps(put(ours, way, value)).encode(), kind)
        assert isinstance(found, BaseModel) is is_read, (value, found)


@pytest.mark.field("D2")
@pytest.mark.parametrize("state", [VolumeState.ARCHIVED, VolumeState.DELETING])
@pytest.mark.parametrize("evidence", [{"archive_id": "a" * 32}, {"fingerprint": "b3:" + "a" * 64}, {}])
async def test_a_state_without_its_evidence_is_no_record(state: VolumeState, evidence: Json) -> None:
    """That a volume may go stands in a record only beside what it became, or the purge that decided it."""
    bare = record_of("b", "b").model_copy(
        update={"volume": VolumeRecord(uid="b-1", state=state, place="b", **evidence)}
    )
    assert await reads(bare.model_dump_json().encode(), "record") == ErrorCode.ARCHIVE_CORRUPT


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-Infinity", "-0.1", "86400.1", "1e308"])
@pytest.mark.parametrize("field", ["settle_seconds", "delete_wait_seconds"])
async def test_no_wait_without_end(field: str, seconds: str) -> None:
    """A duration that nobody means is refused, and never waited for."""
    text = identity_of("b").model_dump_json()
    found = await reads(text.replace(f'"{field}":98.0', f'"{field}":{seconds}').encode(), "identity")
    assert found == ErrorCode.WRONG_STORE


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"workspace_id":' * 5000, b"{" + b" " * 200_000 + b"}"]
)
async def test_what_is_no_document(kind: str, data: bytes) -> None:
    """Refused with the one code."""
    assert await reads(data, kind) == REFUSALS[kind]


LATER: list[tuple[str, Json]] = [
    ("record", {"volume": {"uid": "b-1", "state": "resting"}}),
    ("record", {"volume": {"uid": "b-1", "state": "archived", "archives": ["a" * 32]}}),
    ("record", {"volume": ["b-1", "b-2"]}),
    ("record", {"workspace_id": "another"}),
    ("record", {"history": "x" * 100_000}),
    ("manifest", {"segments": {"at": "elsewhere"}}),
    ("manifest", {"workspace_id": "another"}),
    ("identity", {"places": ["b"]}),
]


@pytest.mark.parametrize(("kind", "change"), LATER)
@pytest.mark.parametrize("later", [{"format_version": 2}, {"required_features": ["encryption"]}], ids=["2", "feature"])
async def test_a_later_format_may_hold_anything(kind: str, change: Json, later: Json) -> None:
    """It asks for an upgrade, and never for an older version of what a later service wrote; of today's it is refused.

    A number beyond all bounds is no later format.
    """
    document = {**dumped(MAKERS[kind]("b", "b")), **change}
    assert await reads(json.dumps({**document, **later}).encode(), kind) == ErrorCode.UNSUPPORTED
    assert await reads(json.dumps({**document, "format_version": 2**63}).encode(), kind) == REFUSALS[kind]
    assert await reads(json.dumps(document).encode(), kind) == REFUSALS[kind]


async def test_a_record_that_could_not_be_read_again_is_not_written() -> None:
    """A number at its bound does not become one that locks everybody out."""
    store = MemoryStore()
    full = record_of("b", "b").model_copy(update={"revision": LARGEST})
    await write_record(store, full, None)
    with pytest.raises(StorageError) as refused:
        await write_record(store, full.model_copy(update={"revision": LARGEST + 1}), None)
    assert refused.value.code == ErrorCode.ARCHIVE_CORRUPT
    found = await read_record(store, "b")
    assert found is not None
    assert found[0] == full


async def test_another_workspaces_manifest_proves_and_hands_out_nothing() -> None:
    """Whatever asks: is it proven, what would a restore read."""
    store = MemoryStore()
    theirs = manifest_of("a", "a")
    store.place(archive_key("b"), b"x", etag="e", metadata={"archive-id": "a" * 32})
    await store.put_if(manifest_key(archive_key("b")), theirs.to_json(), etag=None)
    for question in (is_proven(store, "b", "a" * 32), find_archive(store, archive_key("b"), None)):
        with pytest.raises(StorageError) as refused:
            await question
        assert refused.value.code == ErrorCode.ARCHIVE_CORRUPT
