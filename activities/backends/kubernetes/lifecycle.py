"""Pods of ours from creation to proof of death: started and watched, ended and waited for. If one does not start, the
error gives the reason.

They are deleted with their uid as precondition and their own grace period, never by force: force removes the object
and not the process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from activities.backends.base import not_ours
from activities.backends.kubernetes import states
from activities.backends.kubernetes.claims import is_terminating, workspace_of
from activities.backends.kubernetes.client import Api, Json
from activities.backends.kubernetes.death import TerminationEvidence
from activities.backends.kubernetes.errors import Refused
from activities.backends.kubernetes.pods import CONTAINER, check_as_asked, is_for, pod_name
from activities.backends.kubernetes.startup import Obstacle, obstacle
from activities.backends.wait_policy import WaitPolicy
from activities.runtime.cancellation import make_or_undo, shield_until_done
from codehub_storage.errors import ErrorCode, StorageError

_LOG_LINES = 20
_POLL_SECONDS = 0.3
_EVENTS_SECONDS = 2.0
_NODE_TRIES = 4


@dataclass(frozen=True)
class Waits:
    """``ready_seconds``: for a Pod to run. ``obstacle_seconds``: before an obstacle that may pass is an error, which is
    how it is shown while the step tries again. ``look_seconds``: between two checks of a mover that runs."""

    ready_seconds: float = 120.0
    obstacle_seconds: float = 10.0
    look_seconds: float = 2.0

    def tolerance(self, found: Obstacle) -> float:
        """How long an obstacle is borne. A node tries again after ten to twenty seconds what failed once."""
        if not found.passes:
            return 0.0
        return self.obstacle_seconds * (_NODE_TRIES if found.is_past else 1)


class PodLifecycle:
    """See the module."""

    def __init__(self, api: Api, wait_policy: WaitPolicy, waits: Waits) -> None:
        self._api = api
        self._wait_policy = wait_policy
        self._evidence = TerminationEvidence(api)
        self.waits = waits

    async def get(self, name: str) -> Json | None:
        """The Pod as it is now."""
        return await self._api.get(self._api.path("pods", name))

    async def find(self, uid: str, workspace_id: str) -> Json | None:
        """The Pod of ours that has volume ``uid``. ``VolumeConflict`` if its name was taken, or if it is of another
        workspace."""
        pod = await self.get(pod_name(uid))
        says = workspace_of(pod) if pod is not None and is_for(pod, uid) else workspace_id
        if says != workspace_id:
            raise not_ours(f"Pod {pod_name(uid)}", uid, says, workspace_id)
        if pod is not None and not is_for(pod, uid):
            raise StorageError(
                ErrorCode.VOLUME_CONFLICT, f"Pod {pod_name(uid)} stands where the mover of volume {uid} would be"
            )
        return pod

    async def start(self, manifest: Json, claim: Json, *, may_end: bool = False) -> Json | None:
        """A new Pod, running (``may_end``: or over); ``None`` if the name is taken.

        What does not start is removed before this raises.
        """
        try:
            # a Pod that nobody knows would hold the claim for days
            pod = await make_or_undo(self._api.create(self._api.path("pods"), manifest), self._end_quietly)
        except Refused as error:
            if error.is_taken:
                return None
            raise
        async with self._removed_on_failure(pod):
            check_as_asked(manifest, pod)
            return await self._until_running(pod, claim["metadata"]["uid"], may_end=may_end)

    async def adopt(self, pod: Json, claim: Json, *, keep: bool) -> Json:
        """A Pod that is there, running. ``keep``: it stays even if it cannot be found out now whether it runs."""
        if keep:
            return await self._until_running(pod, claim["metadata"]["uid"])
        async with self._removed_on_failure(pod):
            return await self._until_running(pod, claim["metadata"]["uid"])

    async def until_over(self, pod: Json, what: str) -> None:
        """Wait for it to end, without ending it. ``BackendUnavailable`` with ``what`` when the wait is over."""
        name = pod["metadata"]["name"]

        async def attempt() -> bool | None:
            now = await self.get(name)
            is_gone = now is None or now["metadata"]["uid"] != pod["metadata"]["uid"]
            return True if is_gone or (now is not None and states.is_over(now)) else None

        await self._wait_policy.until(attempt, lambda: f"Pod {name}: {what}")

    @asynccontextmanager
    async def _removed_on_failure(self, pod: Json) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            await shield_until_done(self._end_quietly(pod))
            raise

    async def _end_quietly(self, pod: Json) -> None:
        """After a failure: the error being raised matters more, and the next attempt evicts what is left."""
        with contextlib.suppress(StorageError):
            await self.end(pod)

    async def _until_running(self, pod: Json, claim_uid: str, *, may_end: bool = False) -> Json:
        """The Pod once it runs. Raises why it does not, as soon as that is known and does not pass."""
        clock = asyncio.get_running_loop().time
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        began = since = clock()
        events_at, pod_events, claim_events = began, list[Json](), list[Json]()
        seen: Obstacle | None = None
        while True:
            now = await self.get(name)
            if now is None or now["metadata"]["uid"] != uid or (is_terminating(now) and not states.is_over(now)):
                raise StorageError(ErrorCode.MOVER_FAILED, f"Pod {name} was deleted while it started")
            if states.is_out_of_touch(now):
                raise lost_node(now)
            if may_end and states.is_over(now):
                return now
            if states.is_running(now):
                await self._evidence.note(now)
                return now
            if clock() >= events_at:
                pod_events, claim_events = await self._events(uid), await self._events(claim_uid)
                events_at = clock() + _EVENTS_SECONDS
            found = obstacle(now, pod_events, claim_events)
            if found is None or seen is None:
                since = clock()
            seen = found
            if found is not None and clock() >= since + self.waits.tolerance(found):
                raise await self._explained(found, now)
            if clock() >= began + self.waits.ready_seconds:
                raise StorageError(
                    ErrorCode.BACKEND_UNAVAILABLE,
                    f"Pod {name} did not start within {self.waits.ready_seconds:g} s"
                    + (f" on node {states.node_of(now)}" if states.node_of(now) else ""),
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def end(self, pod: Json) -> None:
        """Delete it and return only when it is known to be dead and its name is free. May be called twice."""
        last = pod

        async def attempt() -> bool | None:
            nonlocal last
            now = await self.get(pod["metadata"]["name"])
            if now is None or now["metadata"]["uid"] != pod["metadata"]["uid"]:
                return True if await self.is_dead(last) else None
            last = now
            if not is_terminating(now) or states.is_over(now):
                with contextlib.suppress(_Another):
                    await self._delete(now)
            return None

        await self._wait_policy.until(attempt, lambda: _still_there(last))

    async def is_dead(self, last: Json) -> bool:
        """For a Pod that is no longer there, from what was last seen of it: see ``death``."""
        return await self._evidence.is_dead(last)

    async def termination_message(self, pod: Json) -> str:
        """How it ended, with its last lines."""
        try:
            lines = await self.log(pod, tailLines=str(_LOG_LINES)) or ""
        except StorageError as error:
            lines = f"(no log: {error.message})"
        return f"Pod {pod['metadata']['name']} ended: {states.how_it_ended(pod)}" + (
            f"; its last lines:\n{lines.strip()}" if lines.strip() else ""
        )

    async def log(self, pod: Json, **query: str) -> str | None:
        """What it wrote; ``None`` before it runs, or when it is gone."""
        path = self._api.path("pods", pod["metadata"]["name"]) + "/log"
        return await self._api.text(path, container=CONTAINER, **query)

    async def _delete(self, pod: Json) -> None:
        try:
            await self._api.delete(self._api.path("pods", pod["metadata"]["name"]), pod["metadata"]["uid"])
        except Refused as error:
            if not error.is_outdated:
                raise
            raise _Another from error

    async def _events(self, uid: str) -> list[Json]:
        """Best effort: they are kept for an hour, and reading them may be forbidden."""
        try:
            return await self._api.items(self._api.path("events"), fieldSelector=f"involvedObject.uid={uid}")
        except Refused:
            return []

    async def _explained(self, found: Obstacle, pod: Json) -> StorageError:
        """An obstacle as an error; with the log, where the container had run."""
        if states.phase(pod) in states.FINISHED and found.code is ErrorCode.MOVER_FAILED:
            return StorageError(found.code, await self.termination_message(pod), hint=found.hint)
        return found.error(pod["metadata"]["name"])


class _Another(Exception):
    """The name belongs to another Pod by now."""


def lost_node(pod: Json) -> StorageError:
    """The error while a node does not respond: what runs there may still write, so nothing else is started."""
    return StorageError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"waiting for node {states.node_of(pod)}, which does not answer: "
        f"Pod {pod['metadata']['name']} may still run there",
        hint="Bring the node back. No second mover is started while the first may live.",
    )


def _still_there(pod: Json) -> str:
    node = states.node_of(pod)
    if node is None:
        return f"Pod {pod['metadata']['name']} does not go away"
    return f"waiting for node {node}: Pod {pod['metadata']['name']} is not known to have ended there"
