"""What a Pod's status proves, and what it does not: neither 404 nor phase `Failed` proves that a process is dead.

Terminal phases are also written without a view of the node: by garbage collection, and by a deletion with force. Only
a kubelet reports a container as terminated, and it never reports a terminal phase while one may run.
"""

from __future__ import annotations

from activities.backends.kubernetes.claims import is_terminating
from activities.backends.kubernetes.client import Json

FINISHED = ("Succeeded", "Failed")


def phase(pod: Json) -> str:
    """``Pending``, ``Running``, ``Succeeded``, ``Failed``, ``Unknown``."""
    return str(_status(pod).get("phase") or "Pending")


def node_of(pod: Json) -> str | None:
    """Where it runs; ``None`` as long as it is not scheduled."""
    node = (pod.get("spec") or {}).get("nodeName")
    return str(node) if node else None


def container_of(pod: Json) -> str | None:
    """The id of its container; ``None`` before one was made. No two containers have the same."""
    found = next((each.get("containerID") for each in _status(pod).get("containerStatuses") or ()), None)
    return str(found) if found else None


def is_over(pod: Json) -> bool:
    """True if the kubelet reports that all of it has ended, or never began."""
    if phase(pod) not in FINISHED:
        return False
    if any("running" in (found.get("state") or {}) for found in _containers(pod)):
        return False
    return not is_disrupted(pod, "DeletionByPodGC") or node_of(pod) is None


def is_running(pod: Json) -> bool:
    """True if its container runs, and it was not asked to end."""
    states = [found.get("state") or {} for found in _containers(pod)]
    return bool(states) and phase(pod) == "Running" and all("running" in state for state in states)


def is_out_of_touch(pod: Json) -> bool:
    """True if its node does not respond: the cluster then calls the Pod not ready, though its container was.

    Needs no right to read nodes.
    """
    ready = next((found for found in _conditions(pod) if found.get("type") == "Ready"), {})
    was_ready = any(found.get("ready") and "running" in (found.get("state") or {}) for found in _containers(pod))
    return was_ready and ready.get("status") != "True" and phase(pod) in ("Running", "Unknown")


def is_disrupted(pod: Json, reason: str | None = None) -> bool:
    """True if the cluster ended it: preemption, eviction, a taint, garbage collection."""
    return any(
        found.get("type") == "DisruptionTarget"
        and found.get("status") == "True"
        and reason in (None, found.get("reason"))
        for found in _conditions(pod)
    )


def how_it_ended(pod: Json) -> str:
    """Exit status and reasons, in one line."""
    said = []
    for found in _containers(pod):
        ended = (found.get("state") or {}).get("terminated")
        if ended:
            said.append(f"exit status {ended.get('exitCode')}" + _because(ended, unless=("Error", "Completed")))
    status = _status(pod)
    if status.get("reason") or status.get("message"):
        said.append(" ".join(str(status[key]) for key in ("reason", "message") if status.get(key)))
    for found in _conditions(pod):
        if found.get("type") == "DisruptionTarget" and found.get("status") == "True":
            said.append(" ".join(str(found[key]) for key in ("reason", "message") if found.get(key)))
    if not said and is_terminating(pod):
        said.append("it was deleted")
    return ", ".join(said) or f"phase {phase(pod)}"


def _because(ended: Json, *, unless: tuple[str, ...]) -> str:
    words = [str(ended[key]) for key in ("reason", "message") if ended.get(key) and ended[key] not in unless]
    return f" ({': '.join(words)})" if words else ""


def _status(pod: Json) -> Json:
    return pod.get("status") or {}


def _containers(pod: Json) -> list[Json]:
    return [*(_status(pod).get("initContainerStatuses") or ()), *(_status(pod).get("containerStatuses") or ())]


def _conditions(pod: Json) -> list[Json]:
    return list(_status(pod).get("conditions") or ())
