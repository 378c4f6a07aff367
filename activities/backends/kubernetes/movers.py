"""A mover in a Pod, as its lease sees it. Two of these are equal if they are the same Pod."""

from __future__ import annotations

import asyncio

from activities.backends.kubernetes import states
from activities.backends.kubernetes.client import Json
from activities.backends.kubernetes.lifecycle import PodLifecycle, lost_node

_STOPPED = "it was stopped"


class PodMover:
    """A mover that was started or adopted; it outlives this process."""

    def __init__(self, pods: PodLifecycle, pod: Json) -> None:
        self._pods = pods
        self._last = pod
        self._ended: str | None = None
        self._next_look = 0.0

    @property
    def name(self) -> str:
        """The Pod's name."""
        return str(self._last["metadata"]["name"])

    @property
    def uid(self) -> str:
        """The Pod's own uid, which no later Pod of this name has."""
        return str(self._last["metadata"]["uid"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PodMover) and other.uid == self.uid

    def __hash__(self) -> int:
        return hash(self.uid)

    async def wait(self, timeout: float) -> str | None:
        """``None`` while it lives after ``timeout`` seconds, else why it ended.

        However often it is called, the API server is asked once in ``look_seconds``. ``BackendUnavailable`` while its
        node does not respond: it is not known whether it lives.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while True:
            if self._ended is None and clock() >= self._next_look:
                self._next_look = clock() + self._pods.waits.look_seconds
                self._ended = await self._look()
            if self._ended is not None or clock() >= deadline:
                return self._ended
            await asyncio.sleep(max(0.0, min(deadline, self._next_look) - clock()))

    async def stop(self) -> None:
        """Delete the Pod and return only when it is known to be dead. May be called twice."""
        if self._ended == _STOPPED:
            return
        await self._pods.end(self._last)
        self._ended = self._ended or _STOPPED

    async def _look(self) -> str | None:
        now = await self._pods.get(self.name)
        if now is None or now["metadata"]["uid"] != self.uid:
            if not await self._pods.is_dead(self._last):
                raise lost_node(self._last)
            return f"Pod {self.name} was deleted: {states.how_it_ended(self._last)}"
        self._last = now
        if states.is_over(now):
            return await self._pods.termination_message(now)
        if states.is_out_of_touch(now):
            raise lost_node(now)
        return None
