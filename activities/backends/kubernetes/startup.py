"""Why a Pod of ours does not start: its conditions, then its container, then events of the Pod and of its claim.

Found within seconds, and of two kinds: what passes by itself is tried again, what a person must repair is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from activities.backends.kubernetes import states
from activities.backends.kubernetes.client import Json
from codehub_storage.errors import ErrorCode, StorageError


@dataclass(frozen=True)
class Obstacle:
    """What is in the way. ``passes``: waiting may help, so it is raised only when it stays.

    ``is_past``: what is reported may be over. An event of the Pod is still there when the node's next try succeeds, and
    the scheduler may not have seen a new claim yet.
    """

    code: ErrorCode
    message: str
    passes: bool
    hint: str | None = None
    is_past: bool = False

    def error(self, pod: str) -> StorageError:
        """As the operation shows it."""
        return StorageError(self.code, f"Pod {pod} does not start: {self.message}", hint=self.hint)


_IMAGE = "The image of this version must be on the node, or its registry reachable with the template's pull secrets."
_UNSCHEDULABLE = (
    ("already in-use by another pod", ErrorCode.VOLUME_IN_USE),
    ("ReadWriteOncePod access mode", ErrorCode.VOLUME_IN_USE),
    ("is being deleted", ErrorCode.BACKEND_UNAVAILABLE),
)
_FINAL_WAITS = ("ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")
_PASSING_WAITS = (
    *("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"),
    *("CreateContainerError", "RunContainerError"),
)
_FINAL_REASONS = ("DeadlineExceeded",)
_STARTING = (None, "ContainerCreating", "PodInitializing")


def obstacle(pod: Json, pod_events: Sequence[Json] = (), claim_events: Sequence[Json] = ()) -> Obstacle | None:
    """Why it does not run, as far as that is known; ``None`` while there is no sign of trouble."""
    if states.phase(pod) in states.FINISHED:
        return _ended(pod)
    return _unscheduled(pod, claim_events) or _waiting(pod, pod_events)


def _ended(pod: Json) -> Obstacle:
    """It ended before it was seen running: its node refused it, the cluster took it away, or it failed by itself."""
    reason = str((pod.get("status") or {}).get("reason") or "")
    its_own = not states.is_disrupted(pod) and (not reason or reason in _FINAL_REASONS)
    code = ErrorCode.MOVER_FAILED if its_own else ErrorCode.BACKEND_UNAVAILABLE
    return Obstacle(code, f"it ended at once: {states.how_it_ended(pod)}", passes=False)


def _unscheduled(pod: Json, claim_events: Sequence[Json]) -> Obstacle | None:
    if states.node_of(pod) is not None:
        return None
    scheduled: Json = next(
        (found for found in pod.get("status", {}).get("conditions") or () if found.get("type") == "PodScheduled"), {}
    )
    message = str(scheduled.get("message") or "")
    for words, code in _UNSCHEDULABLE:
        if words in message:
            return Obstacle(code, message, passes=code is not ErrorCode.VOLUME_IN_USE)
    from_claim = _last_warning(claim_events)
    if from_claim is not None and (not message or "unbound immediate PersistentVolumeClaims" in message):
        is_final = "storageclass" in from_claim.lower() and "not found" in from_claim
        return Obstacle(
            ErrorCode.UNSUPPORTED if is_final else ErrorCode.BACKEND_UNAVAILABLE,
            f"its claim has no storage: {from_claim}",
            passes=not is_final,
            hint="Name a storage class that exists." if is_final else None,
        )
    if scheduled.get("status") == "False" and message:
        is_missing = "not found" in message or "could not find" in message  # two places of the scheduler report it
        is_late = "persistentvolumeclaim" in message.lower() and is_missing  # it was read before the Pod was made
        return Obstacle(ErrorCode.BACKEND_UNAVAILABLE, f"no node takes it: {message}", passes=True, is_past=is_late)
    return None


def _waiting(pod: Json, pod_events: Sequence[Json]) -> Obstacle | None:
    found: Json = next(iter((pod.get("status") or {}).get("containerStatuses") or ()), {})
    waiting = (found.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason"), str(waiting.get("message") or "")
    text = f"{reason}: {message}" if message else str(reason)
    if reason in _FINAL_WAITS:
        hint = (
            "Its Secret or ConfigMap must exist in the namespace." if reason == "CreateContainerConfigError" else _IMAGE
        )
        return Obstacle(ErrorCode.MOVER_FAILED, text, passes=False, hint=hint)
    if reason in _PASSING_WAITS:
        return Obstacle(
            ErrorCode.BACKEND_UNAVAILABLE, text, passes=True, hint=_IMAGE if "mage" in str(reason) else None
        )
    warning = _last_warning(pod_events) if reason in _STARTING and states.node_of(pod) else None
    if warning is not None:
        return Obstacle(ErrorCode.BACKEND_UNAVAILABLE, warning, passes=True, is_past=True)
    return None


def _last_warning(events: Sequence[Json]) -> str | None:
    """The newest warning; the reason alone is not enough without its message."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    if not warnings:
        return None
    last = max(warnings, key=_time)
    return f"{last.get('reason')}: {last.get('message')}"


def _time(event: Json) -> str:
    meta = event.get("metadata") or {}
    times = (event.get("lastTimestamp"), event.get("eventTime"), meta.get("creationTimestamp"))
    return next((str(time) for time in times if time), "")
