"""When a Pod of ours whose object is gone counts as dead: objects are also removed without a check of the node.

One of these is needed. What we have no right to read is no evidence, and neither is what was not noted in time:

- it never had a node, or its kubelet had reported that it is over;
- its node is ready: a kubelet ends what is no longer in its list;
- its machine was restarted after the Pod had been seen running. The boot is noted by each worker that starts or adopts
  the Pod, in memory only: one that first meets it on a lost node has none to compare with;
- its disk is detached from its node: the process may live, but writes nothing that will ever be read. The absence of a
  `VolumeAttachment` shows this. So it counts only where the driver has them, and for a Pod that ran: it cannot have
  done so without one.

A machine that took over the name of the node is no evidence about the one that the Pod ran on.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from activities.backends.kubernetes import states
from activities.backends.kubernetes.claims import UID, is_terminating, uid_of
from activities.backends.kubernetes.client import Api, Json
from activities.backends.kubernetes.errors import Refused
from codehub_storage.errors import StorageError

_ORPHAN_SECONDS = 5.0
"""A kubelet kills what is no longer in its list within three seconds."""
_LIST_SECONDS = 2.0
"""After an attachment was seen: the list is the whole cluster's, and what it waits for takes minutes."""


class _Boot(NamedTuple):
    """One run of one machine."""

    machine: tuple[str, str]
    number: str


class TerminationEvidence:
    """See the module."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._boots: dict[str, _Boot] = {}

    async def note(self, pod: Json) -> None:
        """Remember the boot that a running container belongs to, if we have the right to read it.

        The container must have been seen running before the boot is read here. The boot is then its own or a later
        one, and one that is later still comes after its end. In the other order a restart in between would pass for
        its death.
        """
        container = states.container_of(pod)
        with contextlib.suppress(StorageError):  # what is not noted is no evidence
            boot = _boot_of(await self._node(pod))
            if container is not None and boot is not None:
                self._boots[container] = boot

    async def is_dead(self, last: Json) -> bool:
        """True with one of the module's evidences, for a Pod that is no longer there, from what was last seen of it."""
        if await self._has_ended(last) or await self._is_detached(last):
            self._boots.pop(states.container_of(last) or "", None)
            return True
        return False

    async def _has_ended(self, last: Json) -> bool:
        if states.node_of(last) is None or states.is_over(last):
            return True
        node = await self._node(last)
        if node is None:
            return False
        noted, now = self._boots.get(states.container_of(last) or ""), _boot_of(node)
        if noted is not None and now is not None:
            if noted.machine != now.machine:
                return False
            if noted.number != now.number:
                return True
        if not _is_ready(node):
            return False
        if not is_terminating(last):
            await asyncio.sleep(_ORPHAN_SECONDS)
        return True

    async def _is_detached(self, last: Json) -> bool:
        if states.container_of(last) is None:
            return False
        try:
            volume = await self._attachable(last)
            if volume is None:
                return False
            attachments = await self._api.items("/apis/storage.k8s.io/v1/volumeattachments")
        except Refused as error:
            if error.is_forbidden:
                return False
            raise
        if not any(_attaches(each["spec"], volume, states.node_of(last)) for each in attachments):
            return True
        await asyncio.sleep(_LIST_SECONDS)
        return False

    async def _attachable(self, last: Json) -> str | None:
        """The persistent volume that it had, if its driver attaches volumes to nodes and reports that."""
        labels = last["metadata"].get("labels") or {}
        claim = await self._api.get(self._api.path("persistentvolumeclaims", _claim_of(last)))
        if claim is None or uid_of(claim) is None or uid_of(claim) != labels.get(UID):
            return None
        name = claim["spec"].get("volumeName")
        volume = await self._api.get(f"/api/v1/persistentvolumes/{name}") if name else None
        driver = ((volume or {}).get("spec", {}).get("csi") or {}).get("driver")
        found = await self._api.get(f"/apis/storage.k8s.io/v1/csidrivers/{driver}") if driver else None
        return name if found is not None and found["spec"].get("attachRequired") is True else None

    async def _node(self, pod: Json) -> Json | None:
        try:
            return await self._api.get(f"/api/v1/nodes/{states.node_of(pod)}")
        except Refused as error:
            if error.is_forbidden:
                return None
            raise


def _claim_of(pod: Json) -> str:
    """Ours mount one."""
    claims = (volume.get("persistentVolumeClaim") for volume in pod["spec"]["volumes"])
    return next(str(claim["claimName"]) for claim in claims if claim)


def _attaches(spec: Json, volume: str, node: str | None) -> bool:
    return spec.get("nodeName") == node and (spec.get("source") or {}).get("persistentVolumeName") == volume


def _boot_of(node: Json | None) -> _Boot | None:
    info = ((node or {}).get("status") or {}).get("nodeInfo") or {}
    machine = str(info.get("machineID") or ""), str(info.get("systemUUID") or "")
    return _Boot(machine, str(info["bootID"])) if all(machine) and info.get("bootID") else None


def _is_ready(node: Json) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(found.get("type") == "Ready" and found.get("status") == "True" for found in conditions)
