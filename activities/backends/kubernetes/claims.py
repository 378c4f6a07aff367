"""A claim and what we read from it. Labels are set at creation and never changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from activities.backends.base import Presence, VolumeUser, VolumeView
from activities.backends.kubernetes.client import Json
from codehub_storage.errors import ErrorCode, StorageError

UID = "codehub-storage/uid"
WORKSPACE = "codehub-storage/workspace"
RESTORED_FROM = "codehub-storage/restored-from"
"""An annotation: an archive id may be longer than a label, and nothing selects by it."""

_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)?")
_POWERS = {"n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


@dataclass(frozen=True)
class ClaimDefaults:
    """What a new claim is like where the caller asks for nothing else. No class: the cluster's default."""

    size_bytes: int = 10 << 30
    storage_class: str | None = None
    access_mode: str = "ReadWriteOnce"


def manifest(
    name: str,
    workspace_id: str,
    uid: str,
    restored_from: str | None,
    spec: Mapping[str, str],
    defaults: ClaimDefaults,
) -> Json:
    """A claim to create."""
    storage_class = spec.get("storage_class") or defaults.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "labels": {UID: uid, WORKSPACE: workspace_id},
            "annotations": {RESTORED_FROM: restored_from} if restored_from is not None else {},
        },
        "spec": {
            "accessModes": [defaults.access_mode],
            "resources": {"requests": {"storage": spec.get("size_bytes") or str(defaults.size_bytes)}},
            "volumeMode": "Filesystem",
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }


def view(claim: Json, users: tuple[VolumeUser, ...] | None = ()) -> VolumeView:
    """The claim as a volume. ``Unsupported`` for a block device, ``VolumeUnreadable`` for one that lost its volume."""
    meta, spec, status = claim["metadata"], claim.get("spec") or {}, claim.get("status") or {}
    name = meta["name"]
    if spec.get("volumeMode") == "Block":
        raise StorageError(ErrorCode.UNSUPPORTED, f"{name} is a block device; only file systems are moved")
    if status.get("phase") == "Lost" and not is_terminating(claim):
        raise StorageError(
            ErrorCode.VOLUME_UNREADABLE,
            f"{name} lost its persistent volume {spec.get('volumeName')}",
            hint="The claim is there, what it stood for is not: bring the persistent volume back.",
        )
    capacity = (status.get("capacity") or {}).get("storage")
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    size = max(bytes_of(quantity) for quantity in (capacity, asked, "0") if quantity)
    described = {"size_bytes": str(size) if size else None, "storage_class": spec.get("storageClassName")}
    return VolumeView(
        home_store_key=name,
        uid=uid_of(claim),
        restored_from=(meta.get("annotations") or {}).get(RESTORED_FROM) if uid_of(claim) else None,
        presence=_presence(claim),
        users=users,
        capacity_bytes=bytes_of(capacity) if capacity else None,
        spec={key: value for key, value in described.items() if value},
    )


def _presence(claim: Json) -> Presence:
    if is_terminating(claim):
        return Presence.TERMINATING
    return Presence.PRESENT if is_bound(claim) else Presence.PENDING


def uid_of(claim: Json) -> str | None:
    """Our uid; ``None`` for a claim that is not ours."""
    uid = (claim["metadata"].get("labels") or {}).get(UID)
    return str(uid) if uid and workspace_of(claim) else None


def workspace_of(thing: Json) -> str | None:
    """The workspace that a claim or Pod of ours is labelled with."""
    return (thing["metadata"].get("labels") or {}).get(WORKSPACE)


def is_terminating(thing: Json) -> bool:
    """True once its deletion was asked for: it cannot be taken back, only waited for."""
    return bool(thing["metadata"].get("deletionTimestamp"))


def is_bound(claim: Json) -> bool:
    """True if the claim has storage."""
    return bool((claim.get("spec") or {}).get("volumeName"))


def bytes_of(quantity: str) -> int:
    """A Kubernetes quantity such as ``10Gi`` in whole bytes, rounded up."""
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise StorageError(ErrorCode.UNSUPPORTED, f"{quantity!r} is not a quantity")
    number, suffix = Decimal(match[1]), match[2]
    if suffix in _BINARY:
        number *= 1024 ** _BINARY[suffix]
    elif suffix:
        number *= Decimal(1000) ** _POWERS[suffix]
    return int(number.to_integral_value(ROUND_CEILING))
