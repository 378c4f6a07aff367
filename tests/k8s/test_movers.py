"""Movers in Pods on a real cluster: why they do not start, who ends them, and what counts as dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from activities.backends.kubernetes.pods import PodShape
from activities.backends.kubernetes.template import PodTemplate
from activities.backends.wait_policy import WaitPolicy
from activities.state.record import VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from tests.fakes.records import RecordFile
from tests.harness.cluster.api import wait_for
from tests.harness.cluster.cluster import Cluster
from tests.k8s.nodes import cut_off
from tests.k8s.places import SHAPE, ClaimPlace

WS = "ws1"
POD = "codehub-mover-u1"


@pytest.fixture
async def place(cluster: Cluster) -> AsyncIterator[ClaimPlace]:
    """A new namespace."""
    place = ClaimPlace(cluster)
    yield place
    await place.aclose()


@pytest.fixture
async def record(tmp_path: Path, place: ClaimPlace) -> RecordFile:
    """The record of workspace ``ws1``, owned by ``run-1``, with volume ``u1``, which has no storage yet."""
    record = RecordFile(tmp_path / "record.json", WS)
    record.volume("u1", VolumeState.RESTORING)
    await place.backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
    record.volume("u1", VolumeState.READY)
    return record


async def refusal(place: ClaimPlace, record: RecordFile, shape: PodShape) -> StorageError:
    """Why no mover of this shape starts; it is not left there."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(StorageError) as error:
        await place.new_backend(shape).attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
    assert asyncio.get_running_loop().time() - began < 60
    assert POD not in place.pods()
    return error.value


async def test_no_image(place: ClaimPlace, record: RecordFile) -> None:
    """On no node, and not to be pulled: an error that names it."""
    error = await refusal(place, record, replace(SHAPE, image=replace(SHAPE.image, image="localhost/none:1")))
    assert error.code is ErrorCode.MOVER_FAILED
    assert "ErrImageNeverPull" in error.message
    assert "localhost/none:1" in error.message


async def test_no_registry(place: ClaimPlace, record: RecordFile) -> None:
    """A registry that does not answer may come back: tried again, with what it said."""
    shape = replace(SHAPE, image=replace(SHAPE.image, image="127.0.0.1:9/none:1"), pull_policy="IfNotPresent")
    error = await refusal(place, record, shape)
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE
    assert "127.0.0.1:9/none:1" in error.message


async def test_no_secret(place: ClaimPlace, record: RecordFile) -> None:
    """Credentials by reference to a Secret that is not there."""
    error = await refusal(place, record, replace(SHAPE, secret="none"))
    assert error.code is ErrorCode.MOVER_FAILED
    assert 'secret "none" not found' in error.message


async def test_no_room(place: ClaimPlace, record: RecordFile) -> None:
    """No node takes it: tried again, with the scheduler's reason."""
    template = PodTemplate.model_validate({"resources": {"requests": {"cpu": "99"}}})
    error = await refusal(place, record, replace(SHAPE, template=template))
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE
    assert "Insufficient cpu" in error.message


async def test_no_config_map(place: ClaimPlace, record: RecordFile) -> None:
    """A mount that fails shows in events only."""
    template = PodTemplate.model_validate({"caConfigMap": "none"})
    error = await refusal(place, record, replace(SHAPE, template=template))
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE
    assert 'configmap "none" not found' in error.message


async def test_no_priority_class(place: ClaimPlace, record: RecordFile) -> None:
    """Admission refuses it at once."""
    template = PodTemplate.model_validate({"priorityClassName": "none"})
    error = await refusal(place, record, replace(SHAPE, template=template))
    assert error.code is ErrorCode.UNSUPPORTED
    assert "no PriorityClass" in error.message


async def test_a_mover_that_fails_at_once(place: ClaimPlace, record: RecordFile) -> None:
    """Its exit status and its last lines: told as it starts or, where a kubelet has seen it run, as it ends."""
    image = replace(SHAPE.image, mover_command=("sh", "-c", "echo no such luck; exit 3", "mover"))
    try:
        mover = await place.new_backend(replace(SHAPE, image=image)).attach(
            place.mover(WS, "u1", "run-1"), fence=record.fence
        )
    except StorageError as error:
        code, why = error.code, error.message
    else:
        code, why = ErrorCode.MOVER_FAILED, await mover.wait(60) or "it lives"
        await mover.stop()
    assert code is ErrorCode.MOVER_FAILED
    assert "exit status 3" in why
    assert "no such luck" in why
    assert POD not in place.pods()


async def test_restricted_namespaces_refuse_movers(cluster: Cluster, tmp_path: Path) -> None:
    """They run as root: level `restricted` refuses them, and the hint names the level that they need."""
    place = ClaimPlace(cluster, {"pod-security.kubernetes.io/enforce": "restricted"})
    record = RecordFile(tmp_path / "record.json", WS)
    record.volume("u1", VolumeState.RESTORING)
    try:
        await place.backend.create(WS, "u1", restored_from=None, spec={}, fence=record.fence)
        with pytest.raises(StorageError) as error:
            await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
        assert error.value.code is ErrorCode.ACCESS_DENIED
        assert "violates PodSecurity" in error.value.message
        assert "baseline" in error.value.hint
    finally:
        await place.aclose()


async def test_a_claim_for_one_pod_only(place: ClaimPlace, tmp_path: Path) -> None:
    """ReadWriteOncePod: while somebody has it no archive's mover starts, and says so."""
    record = RecordFile(tmp_path / "pod.json", "ws2")
    record.volume("u2", VolumeState.RESTORING)
    backend = place.new_backend(access_mode="ReadWriteOncePod")
    await backend.create("ws2", "u2", restored_from=None, spec={}, fence=record.fence)
    place.run("runs", "ws2", "sleep 1000")
    await asyncio.to_thread(place.until_phase, "runs", "Running")
    with pytest.raises(StorageError) as error:
        await backend.attach(place.mover("ws2", "u2", "run-1", writable=False), fence=record.fence)
    assert error.value.code is ErrorCode.VOLUME_IN_USE
    place.remove("pods", "runs")
    mover = await backend.attach(place.mover("ws2", "u2", "run-1", writable=False), fence=record.fence)
    await mover.stop()


async def test_preemption(place: ClaimPlace, tmp_path: Path) -> None:
    """ReadWriteOncePod: a Pod of higher priority ends the mover, which is told as that; it is in use until it ends."""
    record = RecordFile(tmp_path / "pod.json", "ws2")
    record.volume("u2", VolumeState.RESTORING)
    backend = place.new_backend(access_mode="ReadWriteOncePod")
    await backend.create("ws2", "u2", restored_from=None, spec={}, fence=record.fence)
    spec = place.mover("ws2", "u2", "run-1", writable=False)
    mover = await backend.attach(spec, fence=record.fence)
    urgent, classes = f"urgent-{place.namespace}", "/apis/scheduling.k8s.io/v1/priorityclasses"
    place.cluster.api.create(classes, {"metadata": {"name": urgent}, "value": 1000})
    try:
        await asyncio.to_thread(place.run_urgently, "urgent", "ws2", urgent)
        said = await mover.wait(60)
        assert said is not None
        assert "PreemptionByScheduler" in said
        await asyncio.to_thread(place.until_phase, "urgent", "Running")
        with pytest.raises(StorageError) as error:
            await backend.attach(spec, fence=record.fence)
        assert error.value.code is ErrorCode.VOLUME_IN_USE
        place.remove("pods", "urgent")
    finally:
        place.cluster.api.delete(f"{classes}/{urgent}")
    second = await backend.attach(spec, fence=record.fence)
    assert second != mover
    await second.stop()


async def test_death_is_told_with_its_cause(place: ClaimPlace, record: RecordFile) -> None:
    """Out of memory: the exit status and Kubernetes' word for it."""
    script = "echo working; sleep 3; head -c 200000000 /dev/zero | tail > /dev/null; exit 137"
    image = replace(SHAPE.image, mover_command=("sh", "-c", script, "mover"))
    mover = await place.new_backend(replace(SHAPE, image=image)).attach(
        place.mover(WS, "u1", "run-1"), fence=record.fence
    )
    said = await mover.wait(60)
    assert said is not None
    assert "OOMKilled" in said or "137" in said
    assert "working" in said
    second = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
    assert second != mover
    await second.stop()


async def test_two_workers_race_to_attach(place: ClaimPlace, record: RecordFile) -> None:
    """The name is the lock: both have the same Pod."""
    spec = place.mover(WS, "u1", "run-1")
    movers = await asyncio.gather(*(each.attach(spec, fence=record.fence) for each in (place.backend, place.other)))
    assert movers[0] == movers[1]
    assert place.pods() == [POD]
    await movers[0].stop()


async def test_a_cancelled_attach_leaves_nothing(place: ClaimPlace, record: RecordFile) -> None:
    """A Pod that no lease knows would hold the claim for days."""
    shape = replace(SHAPE, image=replace(SHAPE.image, image="127.0.0.1:9/none:1"), pull_policy="IfNotPresent")
    attaching = asyncio.create_task(place.new_backend(shape).attach(place.mover(WS, "u1", "run-1"), fence=record.fence))
    await asyncio.to_thread(wait_for, "the Pod", lambda: POD in place.pods())
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    assert POD not in place.pods()


async def test_the_api_server_restarts(place: ClaimPlace, record: RecordFile) -> None:
    """Killed while a mover runs: it runs on, the next look finds it, and it is adopted by whoever asks."""
    spec = place.mover(WS, "u1", "run-1")
    mover = await place.backend.attach(spec, fence=record.fence)
    place.cluster.restart_apiserver()  # servers are tied to the thread that starts them
    assert await mover.wait(1) is None
    assert await place.other.attach(spec, fence=record.fence, adopt_only=True) == mover
    await mover.stop()


async def test_an_api_server_that_does_not_answer(place: ClaimPlace, record: RecordFile) -> None:
    """An error that passes, for looks and for movers; never an absence."""
    mover = await place.backend.attach(place.mover(WS, "u1", "run-1"), fence=record.fence)
    place.cluster.control.apiserver.kill()
    try:
        for call in (place.backend.inspect(WS, fence=record.fence), mover.wait(5), mover.stop()):
            with pytest.raises(StorageError) as error:
                await call
            assert error.value.code is ErrorCode.BACKEND_UNAVAILABLE
    finally:
        place.cluster.restart_apiserver()
    await mover.stop()


# ------------------------------------------------------------ a lost node


def is_well(place: ClaimPlace) -> bool:
    """What the cluster took back when it lost the node."""
    conditions = (place.find("pods", POD) or {})["status"]["conditions"]
    return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)


async def test_no_second_writer_while_a_node_is_away(place: ClaimPlace, record: RecordFile) -> None:
    """The mover there may still write: nobody replaces, deletes or outlives it, and the wait names the node."""
    spec = place.mover(WS, "u1", "run-1")
    mover = await place.backend.attach(spec, fence=record.fence)
    node = str((place.find("pods", POD) or {})["spec"]["nodeName"])
    hasty = place.new_backend(wait_policy=WaitPolicy(lock_seconds=3, grace_seconds=1))
    with cut_off(place.cluster, node):
        waits = f"waiting for node {node}"
        later = record.claim("run-2")
        for call in (
            mover.wait(5),
            hasty.attach(place.mover(WS, "u1", "run-2"), fence=later.fence),
            hasty.detach(WS, "u1", fence=later.fence),
            hasty.inspect(WS, fence=later.fence),
            hasty.delete(WS, "u1", fence=later.fence, deletion=later.deletion()),
        ):
            with pytest.raises(StorageError) as error:
                await call
            assert (error.value.code, waits in error.value.message) == (ErrorCode.BACKEND_UNAVAILABLE, True)
        assert place.pods() == [POD]
        place.cluster.api.delete(place.path("pods", POD), gracePeriodSeconds=0)
        assert place.pods() == []
        with pytest.raises(StorageError) as error:  # the object is gone, which proves nothing
            await mover.wait(5)
        assert (error.value.code, waits in error.value.message) == (ErrorCode.BACKEND_UNAVAILABLE, True)
    assert await mover.wait(30)


async def test_a_node_that_comes_back(place: ClaimPlace, record: RecordFile) -> None:
    """Its mover goes on, and its lease with it."""
    spec = place.mover(WS, "u1", "run-1")
    mover = await place.backend.attach(spec, fence=record.fence)
    node = str((place.find("pods", POD) or {})["spec"]["nodeName"])
    with cut_off(place.cluster, node):
        with pytest.raises(StorageError) as error:
            await place.other.attach(spec, fence=record.fence, adopt_only=True)
        assert f"waiting for node {node}" in error.value.message
    await asyncio.to_thread(wait_for, "the kubelet has told that the Pod is well", lambda: is_well(place), 90)
    again = await place.other.attach(spec, fence=record.fence, adopt_only=True)
    assert again == mover
    assert await mover.wait(0) is None
    await mover.stop()
