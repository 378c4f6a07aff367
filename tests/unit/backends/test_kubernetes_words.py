"""What the cluster says, in its own words as they were recorded on 1.34, and what we make of it."""

from __future__ import annotations

from typing import Any

import pytest

from activities.backends.base import Presence
from activities.backends.kubernetes import states
from activities.backends.kubernetes.claims import ClaimDefaults, bytes_of, manifest, uid_of, view
from activities.backends.kubernetes.errors import refused
from activities.backends.kubernetes.lifecycle import Waits
from activities.backends.kubernetes.startup import obstacle
from activities.backends.kubernetes.users import users_of
from codehub_storage.errors import ErrorCode, StorageError

Json = dict[str, Any]


def body(message: str, reason: str = "Forbidden", kind: str = "pods") -> Json:
    return {"kind": "Status", "message": message, "reason": reason, "details": {"kind": kind}}


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (403, body('pods "x" is forbidden: exceeded quota: q, requested: pods=1'), ErrorCode.BACKEND_UNAVAILABLE),
        (
            403,
            body("maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"),
            ErrorCode.INVALID_INPUT,
        ),
        (403, body('violates PodSecurity "restricted:latest": allowPrivilegeEscalation'), ErrorCode.ACCESS_DENIED),
        (403, body('pods "x" is forbidden: no PriorityClass with name high was found'), ErrorCode.UNSUPPORTED),
        (403, body('error looking up service account ns/movers: serviceaccount "movers" not found'), None),
        (403, body('User "x" cannot create resource "pods"'), ErrorCode.ACCESS_DENIED),
        (403, body('admission webhook "a.b" denied the request: no'), ErrorCode.ACCESS_DENIED),
        (401, body("Unauthorized", "Unauthorized"), ErrorCode.ACCESS_DENIED),
        (409, body('persistentvolumeclaims "x" already exists', "AlreadyExists"), ErrorCode.VOLUME_CONFLICT),
        (422, body("spec: Forbidden", "Invalid", "PersistentVolumeClaim"), ErrorCode.INVALID_INPUT),
        (422, body("spec.containers", "Invalid", "Pod"), ErrorCode.UNSUPPORTED),
        (400, body('strict decoding error: unknown field "spec.x"', "BadRequest"), ErrorCode.UNSUPPORTED),
        (500, body('failed calling webhook "a.b"', "InternalError"), ErrorCode.BACKEND_UNAVAILABLE),
        (429, {}, ErrorCode.BACKEND_UNAVAILABLE),
        (504, body("Too large resource version", "Timeout"), ErrorCode.BACKEND_UNAVAILABLE),
    ],
)
def test_refusals(status: int, answer: Json, code: ErrorCode | None) -> None:
    """One status has several meanings; the body tells them apart."""
    error = refused("Pod x cannot be created", status, answer)
    assert error.code is (code or ErrorCode.UNSUPPORTED)
    assert str(answer.get("message", status)) in error.message


def test_conflicts_are_told_apart() -> None:
    """A name that is taken, and a precondition that failed."""
    taken, outdated = refused("x", 409, body("", "AlreadyExists")), refused("x", 409, body("", "Conflict"))
    assert (taken.is_taken, taken.is_outdated) == (True, False)
    assert (outdated.is_taken, outdated.is_outdated) == (False, True)


# ------------------------------------------------------------ why a Pod does not start


def pending(message: str = "", **status: Any) -> Json:
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    return {
        "metadata": {"name": "p", "uid": "1"},
        "spec": {},
        "status": {"phase": "Pending", "conditions": conditions if message else [], **status},
    }


def placed(reason: str, message: str = "") -> Json:
    waiting = {"waiting": {"reason": reason, "message": message}}
    return {
        "metadata": {"name": "p", "uid": "1"},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "mover", "state": waiting}]},
    }


def warning(reason: str, message: str, at: str = "2026-01-01T00:00:00Z", kind: str = "Warning") -> Json:
    return {"type": kind, "reason": reason, "message": message, "lastTimestamp": at, "count": None}


@pytest.mark.parametrize(
    ("message", "code", "passes"),
    [
        ("0/2 nodes are available: 2 Insufficient cpu.", ErrorCode.BACKEND_UNAVAILABLE, True),
        ("0/2 nodes are available: 1 node(s) had untolerated taint(s).", ErrorCode.BACKEND_UNAVAILABLE, True),
        (
            "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
            ErrorCode.BACKEND_UNAVAILABLE,
            True,
        ),
        (
            "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and "
            "ReadWriteOncePod access mode.",
            ErrorCode.VOLUME_IN_USE,
            False,
        ),
        ('persistentvolumeclaim "x" is being deleted', ErrorCode.BACKEND_UNAVAILABLE, True),
    ],
)
def test_unscheduled(message: str, code: ErrorCode, passes: bool) -> None:
    """Room may come, so it is waited for; a claim that another Pod has is in use."""
    found = obstacle(pending(message))
    assert found is not None
    assert (found.code, found.passes, found.message.endswith(message)) == (code, passes, True)


@pytest.mark.parametrize(
    "new",
    [
        '0/2 nodes are available: persistentvolumeclaim "ws-ws1-home" not found. not found',
        'running PreFilter plugin "VolumeBinding": error getting PVC "ns/ws-ws1-home": could not find '
        'v1.PersistentVolumeClaim "ns/ws-ws1-home"',
    ],
)
def test_a_claim_that_the_scheduler_does_not_know_yet(new: str) -> None:
    """Heard on a machine under load: the claim was there, and is waited for longer than for room."""
    room = "0/2 nodes are available: 2 Insufficient cpu."
    waits = Waits(obstacle_seconds=10)
    assert [waits.tolerance(found) for text in (new, room) if (found := obstacle(pending(text)))] == [40, 10]


@pytest.mark.parametrize(
    ("reason", "code", "passes"),
    [
        ("ErrImageNeverPull", ErrorCode.MOVER_FAILED, False),
        ("InvalidImageName", ErrorCode.MOVER_FAILED, False),
        ("CreateContainerConfigError", ErrorCode.MOVER_FAILED, False),
        ("ImagePullBackOff", ErrorCode.BACKEND_UNAVAILABLE, True),
        ("ErrImagePull", ErrorCode.BACKEND_UNAVAILABLE, True),
        ("CreateContainerError", ErrorCode.BACKEND_UNAVAILABLE, True),
    ],
)
def test_waiting_containers(reason: str, code: ErrorCode, passes: bool) -> None:
    """What a registry or a runtime may still get right is waited for."""
    found = obstacle(placed(reason, "why"))
    assert found is not None
    assert (found.code, found.passes, found.message) == (code, passes, f"{reason}: why")


def test_events_say_the_rest() -> None:
    """A container that is being created says nothing; the newest warning does. Without one all goes its way."""
    older = warning("FailedScheduling", "no room", "2026-01-01T00:00:00Z")
    newer = warning("FailedMount", 'secret "x" not found', "2026-01-01T00:00:09Z")
    normal = warning("Pulling", "image", "2026-01-01T00:00:10Z", kind="Normal")
    found = obstacle(placed("ContainerCreating"), [newer, older, normal])
    assert found is not None
    assert (found.message, found.passes) == ('FailedMount: secret "x" not found', True)
    assert obstacle(placed("ContainerCreating"), [normal]) is None


def test_the_reason_may_be_the_claim_s() -> None:
    """Where provisioning fails the Pod itself says nothing at all."""
    missing = warning("ProvisioningFailed", 'storageclass.storage.k8s.io "x" not found')
    found = obstacle(pending(), [], [missing])
    assert found is not None
    assert (found.code, found.passes) == (ErrorCode.UNSUPPORTED, False)
    full = warning("ProvisioningFailed", "failed to provision volume: no space")
    found = obstacle(pending("0/2 nodes: pod has unbound immediate PersistentVolumeClaims."), [], [full])
    assert found is not None
    assert (found.code, found.passes, "no space" in found.message) == (ErrorCode.BACKEND_UNAVAILABLE, True, True)
    assert obstacle(pending(), [], [warning("WaitForFirstConsumer", "waiting", kind="Normal")]) is None


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"reason": "Evicted", "message": "The node was low on resource"}, ErrorCode.BACKEND_UNAVAILABLE),
        ({"reason": "OutOfcpu", "message": "Node didn't have enough resource"}, ErrorCode.BACKEND_UNAVAILABLE),
        ({"reason": "DeadlineExceeded"}, ErrorCode.MOVER_FAILED),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
            ErrorCode.BACKEND_UNAVAILABLE,
        ),
        (
            {"containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]},
            ErrorCode.MOVER_FAILED,
        ),
    ],
)
def test_ended_before_it_ran(status: Json, code: ErrorCode) -> None:
    """What the node or the cluster did is tried again; what the mover did is its failure."""
    found = obstacle({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Failed", **status}})
    assert found is not None
    assert (found.code, found.passes) == (code, False)


# ------------------------------------------------------------ dead or not


def running(phase: str = "Running", ready: str = "True", state: Json | None = None, **conditions: str) -> Json:
    more = [{"type": "DisruptionTarget", "status": "True", "reason": reason} for reason in conditions.values()]
    return {
        "metadata": {"name": "p", "uid": "1"},
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready}, *more],
            "containerStatuses": [{"name": "mover", "ready": True, "state": state or {"running": {}}}],
        },
    }


def test_a_pod_on_a_lost_node() -> None:
    """The cluster takes its Ready back, and nothing else; it is neither over nor to be trusted."""
    lost = running(ready="False")
    assert states.is_out_of_touch(lost)
    assert not states.is_out_of_touch(running())
    assert not states.is_over(lost)


def test_failed_is_no_proof() -> None:
    """Garbage collection writes `Failed` too, and leaves the container as it was last seen."""
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert states.is_over(running("Failed", state=ended))
    assert not states.is_over(running("Failed"))
    assert not states.is_over(running("Failed", state={"waiting": {}}, disrupted="DeletionByPodGC"))
    assert "137 (OOMKilled)" in states.how_it_ended(running("Failed", state=ended))


# ------------------------------------------------------------ users and claims


def test_users() -> None:
    """Whoever names the claim, in any phase, but our own mover; with whoever would bring it back."""

    def pod(name: str, claim: str, phase: str, **labels: str) -> Json:
        owners = [{"kind": "ReplicaSet", "name": "rs"}] if name == "owned" else []
        return {
            "metadata": {"name": name, "uid": name, "labels": labels, "ownerReferences": owners},
            "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": claim}}, {"emptyDir": {}}]},
            "status": {"phase": phase},
        }

    ours = {"codehub-storage/uid": "u1", "codehub-storage/role": "mover"}
    pods = [
        pod("owned", "ws-a-home", "Pending"),
        pod("ended", "ws-a-home", "Succeeded", workspace="a"),
        pod("other", "ws-b-home", "Running"),
        pod("codehub-mover-u1", "ws-a-home", "Running", **ours),
        pod("a-copy", "ws-a-home", "Running", **ours),
    ]
    users = users_of(pods, "ws-a-home", uid="u1", workspace_id="a", label="workspace")
    assert [(user.name, user.stopped, user.ours) for user in users] == [
        ("Pod owned of ReplicaSet rs", False, False),
        ("Pod ended", True, True),
        ("Pod a-copy", False, False),
    ]


@pytest.mark.parametrize(
    ("quantity", "size"),
    [("5", 5), ("10Gi", 10 << 30), ("1.5Ki", 1536), ("1k", 1000), ("1e3", 1000), ("100m", 1), ("2E", 2 * 10**18)],
)
def test_quantities(quantity: str, size: int) -> None:
    """In whole bytes, rounded up."""
    assert bytes_of(quantity) == size


def test_claims() -> None:
    """What is asked, else the defaults; labels only at creation; the larger of what was asked and what is there."""
    claim = manifest("ws-a-home", "a", "u1", "archive/1", {"size_bytes": "5"}, ClaimDefaults(storage_class="fast"))
    assert claim["spec"]["resources"]["requests"]["storage"] == "5"
    assert claim["spec"]["storageClassName"] == "fast"
    seen = view({**claim, "status": {"phase": "Pending"}})
    assert (seen.uid, seen.restored_from, seen.presence) == ("u1", "archive/1", Presence.PENDING)
    claim["spec"]["volumeName"] = "pv1"
    seen = view({**claim, "status": {"phase": "Bound", "capacity": {"storage": "1Ki"}}})
    assert (seen.presence, dict(seen.spec)) == (Presence.PRESENT, {"size_bytes": "1024", "storage_class": "fast"})
    claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert view(claim).presence is Presence.TERMINATING
    claim["metadata"]["labels"].pop("codehub-storage/uid")
    assert uid_of(claim) is None


def test_claims_that_are_not_moved() -> None:
    """A block device, and a claim whose volume is gone."""
    claim = manifest("ws-a-home", "a", "u1", None, {}, ClaimDefaults())
    for change, code in (
        ({"spec": {"volumeMode": "Block"}}, ErrorCode.UNSUPPORTED),
        ({"status": {"phase": "Lost"}}, ErrorCode.VOLUME_UNREADABLE),
    ):
        with pytest.raises(StorageError) as error:
            view({**claim, **change})
        assert error.value.code is code
