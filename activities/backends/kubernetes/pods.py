"""The Pods that mount a volume: movers, and walks. Nothing here can be changed by an operator's template.

One name for each volume uid: that the name is taken is the lock between movers, walks and workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from activities.backends.base import MoverSpec
from activities.backends.containers import READING, SCRATCH, VOLUME, WRITING, MoverImage
from activities.backends.kubernetes.claims import UID, WORKSPACE
from activities.backends.kubernetes.client import Json
from activities.backends.kubernetes.template import CA_FOLDER, PodTemplate
from codehub_storage.errors import ErrorCode, StorageError

ROLE = "codehub-storage/role"
RUN = "codehub-storage/run"
QUEUE = "codehub-storage/queue"
"""An annotation: queues have slashes."""
PROTOCOL = "codehub-storage/protocol"
MOVER, WALK = "mover", "walk"
CONTAINER = "mover"
_CEILING_SECONDS = 8 * 24 * 3600
"""Above the longest lease: Pods have no time to live of their own."""


@dataclass(frozen=True)
class PodShape:
    """What is alike in all Pods of this place. ``secret``: a Secret whose keys become variables of movers."""

    image: MoverImage
    secret: str | None = None
    pull_policy: str = "IfNotPresent"
    scratch_bytes: int = 2 << 30
    grace_seconds: int = 10
    template: PodTemplate = field(default_factory=PodTemplate)


def pod_name(uid: str) -> str:
    """The one name of whatever Pod of ours has the volume ``uid``."""
    return f"codehub-mover-{uid}".lower()


def is_for(pod: Json, uid: str) -> bool:
    """True for the Pod of ours that has this volume: the name is unique, which labels alone are not."""
    labels = pod["metadata"].get("labels") or {}
    return pod["metadata"]["name"] == pod_name(uid) and labels.get(UID) == uid and role(pod) in (MOVER, WALK)


def role(pod: Json) -> str | None:
    """``mover``, ``walk``, or ``None`` for a Pod that is not ours."""
    found = (pod["metadata"].get("labels") or {}).get(ROLE)
    return str(found) if found else None


def run_of(pod: Json) -> str | None:
    """The run that it works for."""
    return (pod["metadata"].get("labels") or {}).get(RUN)


def protocol_of(pod: Json) -> int:
    """The protocol that a mover speaks; 0 where its label has none."""
    said = (pod["metadata"].get("labels") or {}).get(PROTOCOL, "")
    return int(said) if said.isdecimal() else 0


def serves(pod: Json, spec: MoverSpec, *, any_protocol: bool = False) -> bool:
    """True for the mover that a lease of ``spec`` would adopt; ``any_protocol``: whichever it speaks."""
    queue = (pod["metadata"].get("annotations") or {}).get(QUEUE)
    is_own = is_for(pod, spec.volume_uid) and role(pod) == MOVER and run_of(pod) == spec.run_id and queue == spec.queue
    return is_own and (any_protocol or protocol_of(pod) == spec.protocol)


def mover_pod(shape: PodShape, spec: MoverSpec, claim: str) -> Json:
    """A mover. Credentials come from the Secret, everything else as plain variables."""
    pod = _pod(shape, spec.workspace_id, spec.volume_uid, MOVER, spec.run_id, claim, writable=spec.writable)
    pod["metadata"]["annotations"][QUEUE] = spec.queue
    pod["metadata"]["labels"][PROTOCOL] = str(spec.protocol)
    container = pod["spec"]["containers"][0]
    container["command"] = shape.image.mover_arguments(spec)
    container["env"] = _variables({**shape.template.env, **shape.image.variables(spec)})
    container["envFrom"] = [{"secretRef": {"name": shape.secret}}] if shape.secret else []
    return pod


def walk_pod(shape: PodShape, workspace_id: str, uid: str, run_id: str, claim: str, *, hold: bool) -> Json:
    """A walk, which needs neither credentials nor settings. ``hold``: it then keeps the claim until it is ended."""
    pod = _pod(shape, workspace_id, uid, WALK, run_id, claim, writable=False)
    container = pod["spec"]["containers"][0]
    container["command"] = [*shape.image.walk_command, *(["--hold"] if hold else [])]
    container["env"] = _variables({"TMPDIR": SCRATCH})
    return pod


def _pod(
    shape: PodShape, workspace_id: str, uid: str, our_role: str, run_id: str, claim: str, *, writable: bool
) -> Json:
    template = shape.template
    own = {UID: uid, WORKSPACE: workspace_id, ROLE: our_role, RUN: run_id}
    mounts = [
        {"name": "volume", "mountPath": VOLUME, "readOnly": not writable},
        {"name": "scratch", "mountPath": SCRATCH},
    ]
    volumes: list[Json] = [
        {"name": "volume", "persistentVolumeClaim": {"claimName": claim}},
        {"name": "scratch", "emptyDir": {"sizeLimit": str(shape.scratch_bytes)}},
    ]
    if template.ca_config_map:
        mounts.append({"name": "ca", "mountPath": CA_FOLDER, "readOnly": True})
        volumes.append({"name": "ca", "configMap": {"name": template.ca_config_map}})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(uid),
            "labels": {"app.kubernetes.io/name": "codehub-storage", **template.labels, **own},
            "annotations": dict(template.annotations),
        },
        "spec": {
            **_theirs(template),
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _CEILING_SECONDS,
            "terminationGracePeriodSeconds": shape.grace_seconds,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "hostname": "mover",
            "securityContext": {"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": volumes,
            "containers": [
                {
                    "name": CONTAINER,
                    "image": shape.image.image,
                    "imagePullPolicy": shape.pull_policy,
                    "volumeMounts": mounts,
                    "resources": _resources(shape),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "privileged": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"], "add": list(WRITING if writable else READING)},
                    },
                }
            ],
        },
    }


def _theirs(template: PodTemplate) -> Json:
    given: Json = {
        "nodeSelector": template.node_selector,
        "affinity": template.affinity,
        "tolerations": template.tolerations,
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
        "imagePullSecrets": [{"name": secret.name} for secret in template.image_pull_secrets],
        "serviceAccountName": template.service_account_name,
    }
    return {key: value for key, value in given.items() if value}


def _resources(shape: PodShape) -> Json:
    """Memory requested is memory limited: a mover is never the one that a full node evicts first."""
    given = shape.template.resources
    memory = given.limits.get("memory") or given.requests.get("memory") or str(shape.image.memory_bytes)
    return {"requests": {**given.requests, "memory": memory}, "limits": {**given.limits, "memory": memory}}


def _variables(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(values.items())]


def check_as_asked(asked: Json, made: Json) -> None:
    """``Unsupported`` if admission changed what must not be: an injected fsGroup alone rewrites every file's group."""
    for what, mine, theirs in (
        ("spec.securityContext.fsGroup", None, _security(made).get("fsGroup")),
        ("spec.securityContext.runAsUser", 0, _security(made).get("runAsUser")),
        ("spec.containers", _named(asked, "containers"), _named(made, "containers")),
        ("spec.initContainers", [], _named(made, "initContainers")),
        ("spec.volumes", _named(asked, "volumes"), _named(made, "volumes")),
        *_container_fields(asked, made),
    ):
        if mine != theirs:
            raise StorageError(
                ErrorCode.UNSUPPORTED,
                f"admission of the cluster changed {what} of Pod {made['metadata']['name']} to {theirs}",
                hint="Exempt the movers' Pods (label app.kubernetes.io/name=codehub-storage) from that webhook or SCC.",
            )


def _container_fields(asked: Json, made: Json) -> list[tuple[str, Any, Any]]:
    mine, theirs = asked["spec"]["containers"][0], made["spec"]["containers"][0]
    fields = ("command", "volumeMounts", "securityContext")
    return [(f"spec.containers[0].{name}", _plain(mine.get(name)), _plain(theirs.get(name))) for name in fields]


def _plain(value: Any) -> Any:
    """Without what the server drops because it is the default, and in a fixed order."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in sorted(value.items()) if each not in (False, None)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value


def _security(pod: Json) -> Json:
    return pod["spec"].get("securityContext") or {}


def _named(pod: Json, kind: str) -> list[str]:
    return [each["name"] for each in pod["spec"].get(kind) or ()]
