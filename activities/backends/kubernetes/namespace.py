"""The one namespace of a place: its identity, its claims, and who has them."""

from __future__ import annotations

from collections.abc import Iterable

from activities.backends.base import MoverSpec, Presence, VolumeUser, not_ours
from activities.backends.kubernetes import states
from activities.backends.kubernetes.claims import uid_of, view, workspace_of
from activities.backends.kubernetes.client import Api, Json
from activities.backends.kubernetes.errors import Refused
from activities.backends.kubernetes.users import names_claim, users_of
from activities.state.record import Record, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import volume_key, workspace_of_volume


def claim_name(workspace_id: str) -> str:
    """``ws-{id}-home``."""
    return volume_key(workspace_id, "k8s")


class Namespace:
    """See the module. ``label``: the platform's on its own Pods, whose value is the workspace id."""

    def __init__(self, api: Api, label: str) -> None:
        self._api = api
        self._label = label
        self._seen: str | None = None

    @property
    def name(self) -> str:
        """As the cluster calls it."""
        return self._api.cluster.namespace

    async def identity(self) -> str | None:
        """Its uid; ``None`` if there is no such namespace."""
        found = await self._api.get(self._api.namespace_path)
        return str(found["metadata"]["uid"]) if found else None

    async def check(self) -> None:
        """``WrongStore`` if it is another than when it was first seen, or gone."""
        found = await self.identity()
        if found is None or self._seen not in (None, found):
            raise StorageError(
                ErrorCode.WRONG_STORE, f"namespace {self.name} has uid {found}, expected {self._seen or 'one'}"
            )
        self._seen = found

    async def foreign_homes(self) -> list[str]:
        """Claims with names like ours that are not ours."""
        claims = await self._api.items(self._api.path("persistentvolumeclaims"))
        names = [_name(claim) for claim in claims if uid_of(claim) is None]
        return sorted(name for name in names if _is_home(name))

    async def claim(self, workspace_id: str) -> Json | None:
        """The claim of a workspace, ours or not. ``VolumeConflict`` for one of another workspace of ours."""
        name = claim_name(workspace_id)
        found = await self._api.get(self._api.path("persistentvolumeclaims", name))
        if found is not None and uid_of(found) is not None and workspace_of(found) != workspace_id:
            raise not_ours(name, uid_of(found), workspace_of(found), workspace_id)
        return found

    async def homes(self) -> dict[str, str | None]:
        """The workspaces that have a claim here, with its uid, if the claim is labelled as theirs."""
        claims = await self._api.items(self._api.path("persistentvolumeclaims"))
        named = [(workspace_of_volume(each["metadata"]["name"]), each) for each in claims if _is_home(_name(each))]
        return {home: uid_of(claim) if workspace_of(claim) == home else None for home, claim in named}

    async def claim_for(self, spec: MoverSpec, record: Record) -> Json:
        """The claim that a mover may be started on."""
        claim, name = await self.claim(spec.workspace_id), claim_name(spec.workspace_id)
        if claim is None:
            raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"there is no {name}")
        volume, uid = record.volume, spec.volume_uid
        is_doomed = volume is not None and volume.uid == uid and volume.state is VolumeState.DELETING
        if uid_of(claim) != uid or is_doomed or record.is_given_up(uid):
            raise StorageError(
                ErrorCode.VOLUME_CONFLICT, f"{name} (uid {uid_of(claim)}) is not volume {uid}, or is to be deleted"
            )
        if view(claim).presence is Presence.TERMINATING:
            raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"{name} is being deleted, and not by us")
        return claim

    async def users(self, workspace_id: str, uid: str | None) -> tuple[VolumeUser, ...]:
        """Who has the claim, but for our own Pod of volume ``uid``."""
        pods = await self._api.items(self._api.path("pods"))
        return users_of(pods, claim_name(workspace_id), uid=uid, workspace_id=workspace_id, label=self._label)

    async def check_unused(self, workspace_id: str, uid: str, *, but_stopped: bool = False) -> None:
        """``VolumeInUse``, naming the users. ``but_stopped``: finished Pods do not count."""
        users = [user for user in await self.users(workspace_id, uid) if not (but_stopped and user.stopped)]
        if users:
            names = [user.name for user in users]
            raise StorageError(
                ErrorCode.VOLUME_IN_USE,
                f"{claim_name(workspace_id)} is used by {', '.join(names)}",
                details={"stopped": all(user.stopped for user in users), "users": names},
            )

    async def finished_pods(self, workspace_id: str) -> Iterable[Json]:
        """Pods of this workspace that ended, and still hold its claim."""
        return [
            pod
            for pod in await self._api.items(self._api.path("pods"), labelSelector=f"{self._label}={workspace_id}")
            if names_claim(pod, claim_name(workspace_id)) and states.is_over(pod)
        ]

    async def check_class(self, storage_class: str | None) -> None:
        """``InvalidInput`` for a class that is not there. Without the right to read it, the claim's events will show
        it."""
        if storage_class is None:
            return
        try:
            found = await self._api.get(f"/apis/storage.k8s.io/v1/storageclasses/{storage_class}")
        except Refused as error:
            if error.is_forbidden:
                return
            raise
        if found is None:
            raise StorageError(
                ErrorCode.INVALID_INPUT,
                f"there is no storage class {storage_class}",
                hint="Name one of this cluster in the call; it stands in for the one that the archive was made from.",
            )


def _name(claim: Json) -> str:
    return str(claim["metadata"]["name"])


def _is_home(name: str) -> bool:
    try:
        return name.startswith("ws-") and bool(workspace_of_volume(name))
    except StorageError:
        return False
