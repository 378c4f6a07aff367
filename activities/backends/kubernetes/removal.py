"""The end of a claim: marked once, then only waited for. A 200 means marked; deleted is a 404."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from activities.backends.base import VolumeUser
from activities.backends.kubernetes.client import Api, Json
from activities.backends.kubernetes.errors import Refused
from activities.backends.wait_policy import WaitPolicy
from activities.runtime import failpoints
from codehub_storage.errors import ErrorCode, StorageError

log = logging.getLogger(__name__)

CHECKED = failpoints.declare("kubernetes.delete.checked", effect="the claim is unchanged and unused, and held")
SEALED = failpoints.declare("kubernetes.delete.sealed", effect="the record says `deleting`, the claim is untouched")
_MARKED = failpoints.declare("kubernetes.delete.marked", effect="the claim is Terminating, and held by our walk")
_GONE = failpoints.declare("kubernetes.delete.gone", effect="the claim is gone")

Users = Callable[[], Awaitable[tuple[VolumeUser, ...]]]


class Removal:
    """See the module."""

    def __init__(self, api: Api, wait_policy: WaitPolicy) -> None:
        self._api = api
        self._wait_policy = wait_policy

    async def mark(self, claim: Json) -> None:
        """Ask for the deletion of this very claim, if it is still there."""
        try:
            # With its uid as precondition: a claim of that name made since is another home.
            await self._api.delete(self._path(claim), claim["metadata"]["uid"])
        except Refused as error:
            if not error.is_outdated:
                raise
        await failpoints.reach(_MARKED)

    async def until_gone(self, claim: Json, users: Users) -> str | None:
        """Wait for the 404, then for the persistent volume; that one, if it stays. ``BackendUnavailable`` names who
        holds the claim."""
        try:
            await self._wait_policy.until(
                lambda: self._is_gone(claim), lambda: f"{_name(claim)} is still being deleted"
            )
        except StorageError as error:
            held = [user.name for user in await users()]
            if not held:
                raise
            raise StorageError(
                ErrorCode.BACKEND_UNAVAILABLE,
                f"{_name(claim)} is being deleted, and held by {', '.join(held)}",
                hint="Its deletion ends with the last Pod that names it. To keep what a Pod wrote since: set its "
                "persistent volume to Retain before that.",
            ) from error
        await failpoints.reach(_GONE)
        return await self._until_volume_gone(claim)

    async def settled(self, claim: Json) -> Json | None:
        """For a claim that is being deleted: ``None`` once it is gone, else as it is when the wait ends."""
        try:
            await self._wait_policy.until(lambda: self._is_gone(claim), lambda: "")
        except StorageError:
            return await self._api.get(self._path(claim))
        return None

    async def _is_gone(self, claim: Json) -> bool | None:
        found = await self._api.get(self._path(claim))
        return True if found is None or found["metadata"]["uid"] != claim["metadata"]["uid"] else None

    async def _until_volume_gone(self, claim: Json) -> str | None:
        """The persistent volume is removed with its claim, unless it is retained or its node is away. Then it is named.

        Known weakness: an attempt that dies between claim and persistent volume leaves the next one nothing to name.
        """
        name = (claim.get("spec") or {}).get("volumeName")
        path = f"/api/v1/persistentvolumes/{name}"
        if not name:
            return None

        async def attempt() -> Json | bool | None:
            found = await self._api.get(path)
            if (
                found is None
                or ((found.get("spec") or {}).get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]
            ):
                return True
            return found if found["spec"].get("persistentVolumeReclaimPolicy") == "Retain" else None

        try:
            if await self._wait_policy.until(attempt, lambda: "it is still there") is True:
                return None
            why = "it is retained, with its data"
        except Refused as error:
            if not error.is_forbidden:
                raise
            why = "it may not be looked at"
        except StorageError as error:
            why = error.message
        log.warning("%s is deleted, but not persistent volume %s: %s", _name(claim), name, why)
        return f"persistent volume {name}: {why}"

    def _path(self, claim: Json) -> str:
        return self._api.path("persistentvolumeclaims", _name(claim))


def _name(claim: Json) -> str:
    return str(claim["metadata"]["name"])
