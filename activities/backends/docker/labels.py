"""What we write on volumes and containers, and what it means when we read it again. Labels never change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from activities.backends.base import MoverSpec, not_ours
from activities.backends.docker.engine import Facts
from activities.state.record import Record
from codehub_storage.keys import workspace_of_volume

_UID, _WORKSPACE = "codehub-storage.uid", "codehub-storage.workspace"
_RESTORED_FROM, _SPEC = "codehub-storage.restored-from", "codehub-storage.spec"
_ROLE, _RUN, _QUEUE = "codehub-storage.role", "codehub-storage.run", "codehub-storage.queue"
_PROTOCOL = "codehub-storage.protocol"
UID_LABEL = _UID
MOVER, WALK = "mover", "walk"


def volume_labels(workspace_id: str, uid: str, restored_from: str | None, spec: Mapping[str, str]) -> dict[str, str]:
    """Of a new volume."""
    labels = {_UID: uid, _WORKSPACE: workspace_id, _SPEC: json.dumps(dict(spec), sort_keys=True)}
    return labels if restored_from is None else {**labels, _RESTORED_FROM: restored_from}


def container_labels(role: str, spec: MoverSpec) -> dict[str, str]:
    """Of a mover's container, or of a walk's."""
    return {
        _ROLE: role,
        _UID: spec.volume_uid,
        _WORKSPACE: spec.workspace_id,
        _RUN: spec.run_id,
        _QUEUE: spec.queue,
        _PROTOCOL: str(spec.protocol),
    }


def labels_of(facts: Facts) -> Mapping[str, str]:
    """The labels of a volume, a listed container or an inspected one."""
    found = facts.get("Labels")
    if found is None:
        found = (facts.get("Config") or {}).get("Labels")
    return found or {}


def uid_of(facts: Facts, record: Record) -> str | None:
    """The uid of a volume that is ours: by its label, or because the record adopted it. ``VolumeConflict`` where label
    and name disagree about the workspace.

    An adopted one has no label, since the engine cannot add one. It is known by name and time of creation, in whole
    seconds. That distinguishes it from a later volume of the name, unless that one was made within the same second.
    """
    labelled = labels_of(facts).get(_UID)
    if labelled is not None:
        says, home = workspace_of(facts), workspace_of_volume(facts["Name"])
        if says != home:
            raise not_ours(facts["Name"], labelled, says, home)
        return labelled
    derived = adopted_uid(facts)
    named = record.volume is not None and record.volume.uid == derived
    return derived if named or record.is_given_up(derived) else None


def adopted_uid(facts: Facts) -> str:
    """The uid of a volume that we did not make, derived from what the engine reports about it."""
    told = json.dumps([facts["Name"], facts.get("CreatedAt"), facts.get("Driver"), facts.get("Mountpoint")])
    return "adopted-" + hashlib.sha256(told.encode()).hexdigest()[:32]


def restored_from(facts: Facts) -> str | None:
    """The archive that a volume was made from."""
    return labels_of(facts).get(_RESTORED_FROM)


def spec_of(facts: Facts) -> dict[str, str]:
    """Size and class that a volume was asked for with."""
    return dict(json.loads(labels_of(facts).get(_SPEC, "{}")))


def is_of(facts: Facts, spec: MoverSpec, role: str = MOVER, *, any_protocol: bool = False) -> bool:
    """True for the container that an attempt of the same run would start again.

    ``any_protocol``: whichever a mover speaks.
    """
    wanted = container_labels(role, spec)
    found = labels_of(facts)
    return all(found.get(key) == value for key, value in wanted.items() if not (any_protocol and key == _PROTOCOL))


def workspace_of(facts: Facts) -> str | None:
    """The workspace that a container of ours, or a volume, is labelled with."""
    return labels_of(facts).get(_WORKSPACE)


def is_ours(facts: Facts, uid: str) -> bool:
    """True for a mover or a walk of this volume. Labels can be copied: the name counts too (see ``container_name``)."""
    names = facts.get("Names") or [facts.get("Name", "")]
    return labels_of(facts).get(_UID) == uid and f"/{container_name(uid)}" in names


def is_walk(facts: Facts) -> bool:
    """True for a container that only reads the volume once."""
    return labels_of(facts).get(_ROLE) == WALK


def run_of(facts: Facts) -> str | None:
    """The run that a container of ours works for."""
    return labels_of(facts).get(_RUN)


def protocol_of(facts: Facts) -> int:
    """The protocol that a mover speaks; 0 where its label has none."""
    said = labels_of(facts).get(_PROTOCOL, "")
    return int(said) if said.isdecimal() else 0


def container_name(uid: str) -> str:
    """One name for each volume: the engine gives it to one container only, which makes it the lock."""
    return f"codehub-mover-{uid}"
