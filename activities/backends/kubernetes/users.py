"""Who has a claim: every Pod of the namespace that names it, scheduled or not, in whichever phase."""

from __future__ import annotations

from collections.abc import Iterable

from activities.backends.base import VolumeUser
from activities.backends.kubernetes import states
from activities.backends.kubernetes.client import Json
from activities.backends.kubernetes.pods import is_for


def users_of(
    pods: Iterable[Json], claim: str, *, uid: str | None, workspace_id: str, label: str
) -> tuple[VolumeUser, ...]:
    """The claim's users but for our own mover or walk of volume ``uid``.

    Finished Pods hold the claim, too: it is not deleted before their objects are. ``label``: the platform's, whose
    value is the workspace id.
    """
    return tuple(
        VolumeUser(
            name=_described(pod),
            stopped=states.is_over(pod),
            ours=(pod["metadata"].get("labels") or {}).get(label) == workspace_id,
        )
        for pod in pods
        if names_claim(pod, claim) and not (uid is not None and is_for(pod, uid))
    )


def names_claim(pod: Json, claim: str) -> bool:
    """True if the Pod mounts the claim, or will as soon as it is there."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return any((volume.get("persistentVolumeClaim") or {}).get("claimName") == claim for volume in volumes)


def _described(pod: Json) -> str:
    """The Pod with its controller, which would bring it back: stopping the Pod alone would not help."""
    owners = ", ".join(f"{owner['kind']} {owner['name']}" for owner in pod["metadata"].get("ownerReferences") or ())
    return f"Pod {pod['metadata']['name']}" + (f" of {owners}" if owners else "")
