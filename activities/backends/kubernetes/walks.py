"""The change fingerprint of a claim, by a Pod that mounts it and keeps holding it until the block ends.

While a Pod holds a claim its deletion is not carried out. So what came between the last check and the deletion is seen.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activities.backends.kubernetes import states
from activities.backends.kubernetes.client import Json
from activities.backends.kubernetes.lifecycle import PodLifecycle, lost_node
from activities.backends.kubernetes.pods import PodShape, walk_pod
from activities.runtime.cancellation import shield_until_done
from activities.state.record import FINGERPRINT
from codehub_storage.errors import ErrorCode, StorageError

_FINGERPRINT = re.compile(FINGERPRINT)
_FAILURE = re.compile(r"([A-Za-z]+): (.*)", re.DOTALL)
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 2.0


class Walks:
    """See the module."""

    def __init__(self, pods: PodLifecycle, shape: PodShape) -> None:
        self._pods = pods
        self._shape = shape

    @asynccontextmanager
    async def walked(self, claim: Json, workspace_id: str, uid: str, run_id: str) -> AsyncIterator[str]:
        """The fingerprint; within the block the claim is held. ``BackendUnavailable`` if another Pod has the name."""
        manifest = walk_pod(self._shape, workspace_id, uid, run_id, claim["metadata"]["name"], hold=True)
        pod = await self._pods.start(manifest, claim, may_end=True)
        if pod is None:
            raise StorageError(
                ErrorCode.BACKEND_UNAVAILABLE, f"Pod {manifest['metadata']['name']} is there, and has volume {uid}"
            )
        try:
            yield await self._printed(pod)
        finally:
            await shield_until_done(self._pods.end(pod))

    async def _printed(self, pod: Json) -> str:
        pause = _FIRST_PAUSE
        while True:
            now = await self._pods.get(pod["metadata"]["name"])
            if now is None or now["metadata"]["uid"] != pod["metadata"]["uid"]:
                raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"the walk in Pod {_name(pod)} was deleted")
            if states.is_out_of_touch(now):
                raise lost_node(now)
            lines = (await self._pods.log(now) or "").split()
            if lines and _FINGERPRINT.fullmatch(lines[-1]):
                return lines[-1]
            if states.is_over(now):
                raise await self._failed(now)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _failed(self, pod: Json) -> StorageError:
        """What the walk said: its last line is the error's code and message."""
        said = (await self._pods.log(pod) or "").strip().rpartition("\n")[2]
        match = _FAILURE.fullmatch(said)
        if match is not None and match[1] in set(ErrorCode):
            return StorageError(ErrorCode(match[1]), match[2])
        return StorageError(
            ErrorCode.BACKEND_UNAVAILABLE, f"the walk failed: {await self._pods.termination_message(pod)}"
        )


def _name(pod: Json) -> str:
    return str(pod["metadata"]["name"])
