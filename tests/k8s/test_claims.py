"""Claims on a real cluster: who has them, what stands in the way, and what becomes of those that are being deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.backends.base import Presence
from activities.state.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.records import RecordFile
from tests.harness.cluster.api import wait_for
from tests.harness.cluster.cluster import Cluster
from tests.harness.cluster.storage import STORAGE_CLASS
from tests.k8s.places import ClaimPlace, claim, user_pod

WS = "ws1"
CLAIM = "ws-ws1-home"


@pytest.fixture
async def place(cluster: Cluster) -> AsyncIterator[ClaimPlace]:
    """A new namespace."""
    place = ClaimPlace(cluster)
    yield place
    await place.aclose()


@pytest.fixture
def record(tmp_path: Path) -> RecordFile:
    """The record of workspace ``ws1``, owned by ``run-1``, which announces volume ``u1``."""
    record = RecordFile(tmp_path / "record.json", WS)
    record.volume("u1", VolumeState.RESTORING)
    return record


async def make(place: ClaimPlace, record: RecordFile, **spec: str) -> None:
    await place.backend.create(WS, "u1", restored_from=None, spec=spec, fence=record.fence)
    record.volume("u1", VolumeState.READY)


async def test_first_pod_brings_the_storage(place: ClaimPlace, record: RecordFile) -> None:
    """Until then the claim is pending, which is no fault: the class waits for its first consumer."""
    await make(place, record, size_bytes=str(3 << 20))
    seen = await place.backend.inspect(WS, fence=record.fence)
    assert seen is not None
    assert (seen.presence, seen.capacity_bytes) == (Presence.PENDING, None)
    await asyncio.to_thread(place.touch, WS)
    seen = await place.backend.inspect(WS, fence=record.fence)
    assert seen is not None
    assert (seen.presence, seen.capacity_bytes) == (Presence.PRESENT, 3 << 20)
    assert dict(seen.spec) == {"size_bytes": str(3 << 20), "storage_class": STORAGE_CLASS}


async def test_users_of_every_kind(place: ClaimPlace, record: RecordFile) -> None:
    """Unscheduled, running and finished Pods are users; none of them lets the claim be deleted, or is lost sight of."""
    await make(place, record)
    place.run("runs", WS, "sleep 1000")
    place.run("ended", WS, "true")
    place.run("waits", WS, "true", nodeSelector={"no": "such"})
    place.create("pods", user_pod("other", "ws2", "true"))
    await asyncio.to_thread(place.until_phase, "runs", "Running")
    await asyncio.to_thread(place.until_phase, "ended", "Succeeded")
    seen = await place.backend.inspect(WS, fence=record.fence)
    assert seen is not None
    users = {user.name: (user.stopped, user.ours) for user in (seen.users or ())}
    assert users == {"Pod runs": (False, True), "Pod ended": (True, True), "Pod waits": (False, True)}
    with pytest.raises(StorageError) as error:
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
    assert error.value.code is ErrorCode.VOLUME_IN_USE
    assert all(name in error.value.message for name in users)
    assert (place.find("persistentvolumeclaims", CLAIM) or {})["metadata"].get("deletionTimestamp") is None


async def test_finished_pods_are_removed_if_they_are_ours(place: ClaimPlace, record: RecordFile) -> None:
    """Only those that ended and bear this workspace's label; then the claim can be deleted."""
    await make(place, record)
    stranger = user_pod("stranger", WS, "true")
    stranger["metadata"]["labels"] = {}
    place.create("pods", stranger)
    place.run("ended", WS, "true")
    for name in ("stranger", "ended"):
        await asyncio.to_thread(place.until_phase, name, "Succeeded")
    await place.backend.remove_stopped_users(WS, fence=record.fence)
    seen = await place.backend.inspect(WS, fence=record.fence)
    assert seen is not None
    assert [(user.name, user.stopped, user.ours) for user in (seen.users or ())] == [("Pod stranger", True, False)]
    with pytest.raises(StorageError) as error:
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
    assert error.value.details["stopped"] is True
    place.remove("pods", "stranger")
    await place.backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
    assert await place.backend.inspect(WS, fence=record.fence) is None


async def test_a_terminating_claim_is_waited_for(place: ClaimPlace, record: RecordFile) -> None:
    """Somebody deleted it while a Pod has it: nothing is started on it, created in its place, or called gone."""
    await make(place, record)
    place.run("runs", WS, "sleep 1000")
    await asyncio.to_thread(place.until_phase, "runs", "Running")
    place.cluster.api.delete(place.path("persistentvolumeclaims", CLAIM))
    seen = await place.backend.inspect(WS, fence=record.fence)
    assert seen is not None
    assert seen.presence is Presence.TERMINATING
    for refused in (
        place.backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence),
        place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence),
        place.backend.fingerprint(WS, "u1", fence=record.fence),
        place.backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion()),
    ):
        with pytest.raises(StorageError) as error:
            await refused
        assert error.value.code is ErrorCode.BACKEND_UNAVAILABLE
    place.remove("pods", "runs")
    assert await place.backend.inspect(WS, fence=record.fence) is None


async def test_a_pod_that_came_in_between_is_named(place: ClaimPlace, record: RecordFile) -> None:
    """What is scheduled after the second look keeps the claim; the error names it, and its end is the claim's."""
    await make(place, record)
    place.write(WS, "work")

    async def seal() -> None:
        await record.deletion().seal()
        place.run("late", WS, "sleep 1000")
        await asyncio.to_thread(place.until_phase, "late", "Running")

    deletion = record.deletion()
    with pytest.raises(StorageError) as error:
        await place.backend.delete(WS, "u1", fence=record.fence, deletion=type(deletion)(deletion.check, seal))
    assert error.value.code is ErrorCode.BACKEND_UNAVAILABLE
    assert "Pod late" in error.value.message
    assert "Retain" in error.value.hint
    assert place.read(WS) == "work"
    place.remove("pods", "late")
    await place.backend.delete(WS, "u1", fence=record.fence, deletion=None)
    assert place.find("persistentvolumeclaims", CLAIM) is None


async def test_the_walk_holds_the_claim_until_it_is_marked(place: ClaimPlace, record: RecordFile) -> None:
    """Between the last look and the deletion our Pod has the claim; afterwards neither is there."""
    await make(place, record)
    place.write(WS, "work")
    deletion, held = record.deletion(), list[list[str]]()

    async def check(walk: object) -> None:
        assert callable(walk)
        await walk()

    async def seal() -> None:
        held.append(place.pods())
        await deletion.seal()

    await place.backend.delete(WS, "u1", fence=record.fence, deletion=type(deletion)(check, seal))
    assert held == [["codehub-mover-u1"]]
    assert place.pods() == []
    assert place.find("persistentvolumeclaims", CLAIM) is None


async def test_a_pod_that_waits_for_the_claim_of_a_restore(place: ClaimPlace, record: RecordFile) -> None:
    """It would start on half a home: neither the claim nor, if it comes later, the mover is made beside it."""
    place.run("waits", WS, "sleep 1000")
    with pytest.raises(StorageError) as error:
        await place.backend.create(WS, "u1", restored_from="a1", spec={}, fence=record.fence)
    assert error.value.code is ErrorCode.VOLUME_IN_USE
    assert "Pod waits" in error.value.message
    assert place.find("persistentvolumeclaims", CLAIM) is None
    await place.backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
    with pytest.raises(StorageError) as error:
        await place.backend.attach(place.mover(WS, "u1", "run-1", writable=True), fence=record.fence)
    assert error.value.code is ErrorCode.VOLUME_IN_USE
    assert "codehub-mover-u1" not in place.pods()


async def test_a_shared_claim_is_used_from_both_nodes(place: ClaimPlace, tmp_path: Path) -> None:
    """ReadWriteMany: a Pod on each node; each is a user, and while one is left nothing is deleted."""
    shared, folder = f"shared-{place.namespace}", tmp_path / "share"
    folder.mkdir()
    classes, volumes = "/apis/storage.k8s.io/v1/storageclasses", "/api/v1/persistentvolumes"
    place.cluster.api.create(classes, {"metadata": {"name": shared}, "provisioner": "kubernetes.io/no-provisioner"})
    place.cluster.api.create(volumes, {"metadata": {"name": shared}, "spec": shared_volume(shared, folder)})
    record = RecordFile(tmp_path / "shared.json", WS)
    record.volume("u1", VolumeState.RESTORING)

    def is_known() -> bool:
        return bool(place.cluster.api.get(f"{volumes}/{shared}")["status"].get("phase") == "Available")

    try:
        # A claim that is bound before the controllers know its volume waits for their next round.
        await asyncio.to_thread(wait_for, "the volume is known", is_known)
        backend = place.new_backend(access_mode="ReadWriteMany", storage_class=shared)
        await backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
        record.volume("u1", VolumeState.READY)
        nodes = sorted(place.cluster.nodes)
        for node in nodes:
            place.run(f"on-{node}", WS, "sleep 1000", nodeName=node)
        for node in nodes:
            await asyncio.to_thread(place.until_phase, f"on-{node}", "Running")
        for left in (nodes, nodes[1:]):
            seen = await backend.inspect(WS, fence=record.fence)
            assert seen is not None
            assert {user.name for user in (seen.users or ())} == {f"Pod on-{node}" for node in left}
            with pytest.raises(StorageError) as error:
                await backend.delete(WS, "u1", fence=record.fence, deletion=record.deletion())
            assert error.value.code is ErrorCode.VOLUME_IN_USE
            place.remove("pods", f"on-{left[0]}")
        found = place.find("persistentvolumeclaims", CLAIM)
        assert found is not None
        assert found["spec"]["accessModes"] == ["ReadWriteMany"]
        assert found["metadata"].get("deletionTimestamp") is None
        mover = await backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        await mover.stop()
    finally:
        place.cluster.api.delete(f"{volumes}/{shared}")
        place.cluster.api.delete(f"{classes}/{shared}")


async def test_quota(place: ClaimPlace, record: RecordFile) -> None:
    """No room under the quota is tried again, and says which quota."""
    quota = {"metadata": {"name": "tight"}, "spec": {"hard": {"persistentvolumeclaims": "0"}}}
    place.create("resourcequotas", quota)
    wait_for("the quota counts", lambda: (place.find("resourcequotas", "tight") or {}).get("status", {}).get("hard"))
    with pytest.raises(StorageError) as error:
        await place.backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
    assert error.value.code is ErrorCode.BACKEND_UNAVAILABLE
    assert "exceeded quota: tight" in error.value.message


async def test_what_can_never_be_created(place: ClaimPlace, record: RecordFile) -> None:
    """A class that is not there, a size beyond the namespace's limit, a size that is none."""
    limits = {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}
    place.create("limitranges", {"metadata": {"name": "limits"}, "spec": limits})
    for spec in ({"storage_class": "no-such"}, {"size_bytes": str(2 << 30)}, {"size_bytes": "-5"}):
        with pytest.raises(StorageError) as error:
            await place.backend.create(WS, "u1", restored_from=None, spec=spec, fence=record.fence)
        assert error.value.code is ErrorCode.INVALID_INPUT
    assert place.find("persistentvolumeclaims", CLAIM) is None


async def test_a_block_device_is_not_moved(place: ClaimPlace, record: RecordFile) -> None:
    """Refused at the first look."""
    place.create("persistentvolumeclaims", claim(CLAIM, volumeMode="Block"))
    with pytest.raises(StorageError) as error:
        await place.backend.inspect(WS, fence=record.fence)
    assert error.value.code is ErrorCode.UNSUPPORTED


async def test_mark_minds_strangers(place: ClaimPlace) -> None:
    """Homes that are not ours are somebody's: the namespace is taken over only when told so."""
    place.create("persistentvolumeclaims", claim("ws-old-home"))
    place.create("persistentvolumeclaims", claim("something-else"))
    with pytest.raises(StorageError) as error:
        await place.backend.mark("", adopt=False)
    assert error.value.code is ErrorCode.WRONG_STORE
    assert "ws-old-home" in error.value.message
    assert await place.backend.mark("", adopt=True) == await place.other.identity()


async def test_another_namespace_of_the_same_name(place: ClaimPlace, record: RecordFile) -> None:
    """Absent is not believed there: everything is refused."""
    await place.backend.inspect(WS, fence=record.fence)
    path = f"/api/v1/namespaces/{place.namespace}"
    place.cluster.api.delete(path)
    await asyncio.to_thread(wait_for, "it is gone", lambda: not place.cluster.api.exists(path))
    for _ in range(2):
        with pytest.raises(StorageError) as error:
            await place.backend.inspect(WS, fence=record.fence)
        assert error.value.code is ErrorCode.WRONG_STORE
        if not place.cluster.api.exists(path):
            await asyncio.to_thread(place.cluster.new_namespace, place.namespace)


def shared_volume(storage_class: str, folder: Path) -> dict[str, object]:
    """Of a size and mode that our claims ask for; a folder that both nodes see stands in for a share."""
    return {
        "storageClassName": storage_class,
        "accessModes": ["ReadWriteMany"],
        "capacity": {"storage": "1Mi"},
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": str(folder), "type": "Directory"},
    }
