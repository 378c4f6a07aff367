"""A document of another workspace moves, deletes and certifies nothing, whatever operation meets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from activities.dataplane.manifest import Manifest
from activities.state.proof import read_manifest
from activities.state.record import Owner, Record, VolumeRecord, VolumeState
from codehub_storage import ErrorCode
from codehub_storage.keys import archive_key, manifest_key, record_key
from tests.harness.commands import cli
from tests.harness.homes import archived, provisioned, read, record_of
from tests.harness.refusals import code_of
from tests.harness.site import Ground, Site
from tests.harness.stops import World, world_of

OPERATIONS: dict[str, Callable[[Site, str], Awaitable[object]]] = {
    "provision": lambda site, name: site.storage.provision(name),
    "archive": lambda site, name: site.storage.archive(site.key(name)),
    "restore": lambda site, name: site.storage.restore(archive_key(name)),
    "purge": lambda site, name: site.storage.purge(site.key(name), archive_key(name)),
    "cancel": lambda site, name: site.storage.cancel(name),
}


@pytest.fixture(scope="module")
def cold(common_ground: Ground) -> str:
    """A workspace that is COLD, whose documents others are given. Each test sees that it stays as it is."""

    async def archive() -> str:
        async with common_ground.connected() as site:
            return (await archived(site, text="of a"))[0]

    return asyncio.run(archive())


async def replace(site: Site, key: str, data: bytes) -> None:
    """Put a document somewhere, past everything of ours."""
    found = await site.truth.get(key)
    await site.truth.put_if(key, data, etag=found[1].etag if found else None)


def untouched(before: World, after: World) -> bool:
    """True if volume and archive are what they were; the record may have been claimed."""
    return (before.volume, before.inode, before.trash) == (after.volume, after.inode, after.trash) and [
        versions for key, versions in before.objects.items() if not key.endswith(".state")
    ] == [versions for key, versions in after.objects.items() if not key.endswith(".state")]


@pytest.mark.field("D2")
@pytest.mark.parametrize("state", [*VolumeState, None])
async def test_another_workspaces_record_stops_every_operation(common_site: Site, state: VolumeState | None) -> None:
    """A's record at B's key, in each state that its volume may have: ArchiveCorrupt, and neither A nor B is touched."""
    site = common_site
    a, _ = await provisioned(site, text="of a")
    b, _ = await provisioned(site, text="of b")
    theirs = await record_of(site, a)
    volume = theirs.volume.model_copy(update={"state": state}) if theirs.volume and state else None
    await replace(site, record_key(b), theirs.model_copy(update={"volume": volume}).model_dump_json().encode())
    before = [await world_of(site, each) for each in (a, b)]
    for name, call in OPERATIONS.items():
        assert await code_of(call(site, b)) == ErrorCode.ARCHIVE_CORRUPT, name
    assert [await world_of(site, each) for each in (a, b)] == before
    assert (read(site, a), read(site, b)) == ("of a", "of b")
    shown = await cli(site, "show", b, "--json")
    assert shown.object()["error"]["code"] == "ArchiveCorrupt"


@pytest.mark.field("D3")
async def test_another_workspaces_cold_record_is_no_success(common_site: Site, cold: str) -> None:
    """An unchanged COLD record of A at B's key: archive of B certifies nothing, and B's volume stands."""
    site, a = common_site, cold
    b, volume = await provisioned(site, text="of b")
    found = await site.truth.get(record_key(a))
    assert found is not None
    await replace(site, record_key(b), found[0])
    assert await code_of(site.storage.archive(volume)) == ErrorCode.ARCHIVE_CORRUPT
    assert await site.truth.head(archive_key(b)) is None
    assert read(site, b) == "of b"


FIELDS = [
    *[(name,) for name in Record.model_fields if name not in ("workspace_id", "volume", "owner", "place")],
    *[("volume", name) for name in ("", *VolumeRecord.model_fields)],
    *[("owner", name) for name in ("", *Owner.model_fields)],
]


@pytest.mark.field("D2")
@pytest.mark.field("D3")
@pytest.mark.parametrize("way", FIELDS, ids=lambda way: ".".join(filter(None, way)))
async def test_every_field_of_another_workspaces_record(common_site: Site, cold: str, way: tuple[str, ...]) -> None:
    """A is COLD, B is WARM, and one field of A's record stands in B's: A is not touched, and B has its home still,
    as a volume or as an archive that holds it. Success is told only where that is so."""
    site, a = common_site, cold
    b, volume = await provisioned(site, text="of b")
    ours, theirs = await record_of(site, b), await record_of(site, a)
    part, name = way[0], way[1] if len(way) > 1 else ""
    value = getattr(theirs, part)
    if name:
        value = getattr(ours, part).model_copy(update={name: getattr(value, name)})
    mixed = ours.model_copy(update={part: value})
    await replace(site, record_key(b), mixed.model_dump_json(exclude_none=True).encode())
    before = await world_of(site, a)
    code = await code_of(site.storage.archive(volume))
    assert untouched(before, await world_of(site, a))
    if code is None:
        proof = await read_manifest(site.truth, archive_key(b))
        assert proof is not None
        await site.storage.restore(archive_key(b))
    assert read(site, b) == "of b"


@pytest.mark.field("D2")
@pytest.mark.parametrize("field", ["", "workspace_id", "object"])
async def test_another_workspaces_manifest_stops_every_operation(common_site: Site, cold: str, field: str) -> None:
    """A's manifest at B's key, or what names A in B's own: nothing of A is handed out, nothing of B is deleted."""
    site, a = common_site, cold
    b, _ = await archived(site, text="of b")
    manifests = [await read_manifest(site.truth, archive_key(each)) for each in (a, b)]
    theirs, ours = (found[0] for found in manifests if found is not None)
    mixed = theirs if not field else ours.model_copy(update={field: getattr(theirs, field)})
    await replace(site, manifest_key(archive_key(b)), mixed.to_json())
    before = [await world_of(site, each) for each in (a, b)]
    for name in ("provision", "archive", "restore"):
        code = await code_of(OPERATIONS[name](site, b))
        assert code == ErrorCode.ARCHIVE_CORRUPT, name
    after = [await world_of(site, each) for each in (a, b)]
    assert all(untouched(*each) for each in zip(before, after, strict=True))
    assert not site.volume(b).exists()
    await replace(site, manifest_key(archive_key(b)), ours.to_json())
    await site.storage.restore(archive_key(b))
    assert read(site, b) == "of b"


@pytest.mark.field("D2")
@pytest.mark.parametrize("field", sorted(Manifest.model_fields.keys() - {"workspace_id", "object"}))
async def test_every_field_of_another_workspaces_manifest(common_site: Site, cold: str, field: str) -> None:
    """One field of A's manifest in B's: B's home comes back as it was, or a code says why it does not."""
    site, a = common_site, cold
    b, _ = await archived(site, text="of b")
    manifests = [await read_manifest(site.truth, archive_key(each)) for each in (a, b)]
    theirs, ours = (found[0] for found in manifests if found is not None)
    await replace(site, manifest_key(archive_key(b)), ours.model_copy(update={field: getattr(theirs, field)}).to_json())
    before = await world_of(site, a)
    code = await code_of(site.storage.restore(archive_key(b)))
    assert await world_of(site, a) == before
    if code is None:
        assert read(site, b) == "of b"
    else:
        assert code in (ErrorCode.ARCHIVE_CORRUPT, ErrorCode.ARCHIVE_UNPROVEN, ErrorCode.ARCHIVE_NOT_FOUND)
        assert not site.volume(b).exists()


@pytest.mark.field("D2")
@pytest.mark.field("L7")
async def test_a_manifest_with_numbers_beyond_bounds_ends(common_site: Site) -> None:
    """Totals that no search attribute holds: ArchiveCorrupt, and the run does not hang."""
    site = common_site
    b, key = await archived(site)
    found = await read_manifest(site.truth, key)
    assert found is not None
    for value in (2**63, -1):
        totals = found[0].totals.model_copy(update={"file_bytes": value})
        await replace(site, manifest_key(key), found[0].model_copy(update={"totals": totals}).to_json())
        assert await code_of(site.storage.restore(key)) == ErrorCode.ARCHIVE_CORRUPT
    await replace(site, manifest_key(key), found[0].to_json())
    await site.storage.restore(key)
    assert read(site, b) == "first"
