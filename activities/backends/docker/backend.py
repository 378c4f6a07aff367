"""The Docker backend: volumes of one engine, each with at most one container of ours, whose name is the lock.

The engine deletes volumes by name only, and refuses while a container refers to one. What remains is stated at
``delete``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from activities.backends.base import Deletion, Fence, Mover, MoverSpec, VolumeUser, VolumeView
from activities.backends.containers import MoverImage, other_protocol
from activities.backends.docker.engine import Engine, Facts, warnings_of
from activities.backends.docker.labels import (
    MOVER,
    UID_LABEL,
    WALK,
    adopted_uid,
    is_of,
    is_walk,
    labels_of,
    protocol_of,
    run_of,
    spec_of,
    uid_of,
    volume_labels,
    workspace_of,
)
from activities.backends.docker.labels import restored_from as origin_of
from activities.backends.docker.movers import (
    DockerMover,
    container_config,
    evict,
    holder,
    is_new,
    runs,
    start_named,
    walk,
)
from activities.backends.docker.users import users_of
from activities.backends.wait_policy import WaitPolicy
from activities.runtime import failpoints
from activities.state.record import Record, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import check_workspace_id, volume_key, workspace_of_volume

_CHECKED = failpoints.declare("docker.delete.checked", effect="the walk found no change, its container is gone")
_SEALED = failpoints.declare("docker.delete.sealed", effect="the record says `deleting`, the volume is there")
_DELETED = failpoints.declare("docker.delete.deleted", effect="the engine has deleted the volume")
_ATTACHED = failpoints.declare("docker.attach.started", effect="the mover's container runs")
_RACES = 20
_RACE_SECONDS = 0.25

log = logging.getLogger(__name__)


class DockerBackend:
    """Volumes of the engine behind ``engine``.

    ``driver`` and ``options``: of new volumes. ``network``: of movers; ``None`` is the engine's default.
    ``workspace_label``: the label whose value is the workspace id on the platform's own containers.
    """

    name = "local-docker"
    movers_outlive_worker = True

    def __init__(
        self,
        engine: Engine,
        image: MoverImage,
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        network: str | None = None,
        workspace_label: str = "codehub.workspace",
        wait_policy: WaitPolicy | None = None,
    ) -> None:
        self._engine = engine
        self._image = image
        self._driver = driver
        self._options = dict(options or {})
        self._network = network
        self._label = workspace_label
        self._wait_policy = wait_policy or WaitPolicy()
        self._has_warned = False

    def home_store_key(self, workspace_id: str) -> str:
        """``ws_{id}_home``."""
        return volume_key(workspace_id, self.name)

    async def identity(self) -> str | None:
        """The engine's own id, which stays with its data."""
        info = await self._engine.info()
        if not self._has_warned:
            self._has_warned = True
            for warning in warnings_of(info):
                log.warning("Docker engine %s: %s", info.get("Name"), warning)
        return str(info["ID"]) or None

    async def mark(self, identity: str, *, adopt: bool) -> str:
        """The engine has an identity already. ``WrongStore`` if it holds volumes of workspaces that we did not make,
        unless ``adopt``."""
        strangers = [
            volume["Name"]
            for volume in await self._engine.volumes()
            if _is_home(volume["Name"]) and UID_LABEL not in labels_of(volume)
        ]
        if strangers and not adopt:
            raise StorageError(
                ErrorCode.WRONG_STORE,
                f"this engine has volumes that others made: {', '.join(sorted(strangers)[:5])}",
                hint="`init --adopt` goes on beside them; `adopt HOME_STORE_KEY` takes one of them over.",
            )
        return await self.identity() or identity

    async def create(
        self, workspace_id: str, uid: str, *, restored_from: str | None, spec: Mapping[str, str], fence: Fence
    ) -> VolumeView:
        """Create, inspect, compare: for a name that is taken the engine also reports success."""
        name = self.home_store_key(workspace_id)
        record = await fence()
        if record.is_given_up(uid):
            raise StorageError(ErrorCode.VOLUME_CONFLICT, f"uid {uid} was given up; no volume is made for it")
        labels = volume_labels(workspace_id, uid, restored_from, spec)
        await self._engine.create_volume(name, labels, self._driver, self._options)
        facts = await self._engine.volume(name)
        if facts is None or uid_of(facts, record) != uid:
            found = "nothing" if facts is None else uid_of(facts, record) or "a volume that is not ours"
            raise StorageError(ErrorCode.VOLUME_CONFLICT, f"{name} is {found}, not {uid}; it is kept")
        return await self._view(workspace_id, facts, record)

    async def inspect(self, workspace_id: str, *, fence: Fence, users: bool = True) -> VolumeView | None:
        """The volume, and the containers that refer to it. There is never anything to settle."""
        name = self.home_store_key(workspace_id)
        record = await fence()
        facts = await self._engine.volume(name)
        return None if facts is None else await self._view(workspace_id, facts, record, users=users)

    async def peek(self, workspace_id: str, record: Record) -> VolumeView | None:
        """The volume, and the containers that refer to it."""
        facts = await self._engine.volume(self.home_store_key(workspace_id))
        return None if facts is None else await self._view(workspace_id, facts, record)

    async def list_volumes(self) -> Mapping[str, str | None]:
        """The volumes of the engine that have the name of a home."""
        homes = [volume for volume in await self._engine.volumes() if _is_home(volume["Name"])]
        return {workspace_of_volume(volume["Name"]): _uid_by_itself(volume) for volume in homes}

    async def fingerprint(self, workspace_id: str, uid: str, *, fence: Fence) -> str:
        """By a container that only reads."""
        record = await fence()
        facts = await self._engine.volume(self.home_store_key(workspace_id))
        if facts is None or uid_of(facts, record) != uid:
            raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"there is no volume {uid} of workspace {workspace_id}")
        await self._evict_leftover(uid, record, fence)
        return await self._walk(workspace_id, uid, record)

    async def delete(self, workspace_id: str, uid: str, *, fence: Fence, deletion: Deletion | None) -> None:
        """Walk, look for containers, seal, delete.

        What a container that starts after the walk writes is lost if it is gone again before the deletion. A DELETE
        that had no response when its run ended can hit a newer volume of the name.
        """
        name = self.home_store_key(workspace_id)
        record = await fence()
        facts = await self._engine.volume(name)
        if facts is None or uid_of(facts, record) != uid:
            return
        if deletion is None and not record.is_disposable(uid):
            raise StorageError(ErrorCode.VOLUME_CONFLICT, f"the record does not say that {name} may be deleted")
        await self._evict_leftover(uid, record, fence)
        if deletion is not None:
            await deletion.check(lambda: self._walk(workspace_id, uid, record))
            await failpoints.reach(_CHECKED)
        # After the walk, which takes long: a container that started meanwhile, and is there still, shows here.
        await self._refuse_users(workspace_id, uid)
        if deletion is not None:
            await deletion.seal()
            await failpoints.reach(_SEALED)
        await self._delete(name, uid, fence)
        await failpoints.reach(_DELETED)

    async def remove_stopped_users(self, workspace_id: str, *, fence: Fence) -> None:
        """Remove containers that do not run and bear the workspace's label."""
        name = self.home_store_key(workspace_id)
        record = await fence()
        facts = await self._engine.volume(name)
        uid = None if facts is None else uid_of(facts, record)
        for container, user in await self._users(workspace_id, uid):
            if user.stopped and user.ours:
                await fence()
                await evict(self._engine, container["Id"], self._wait_policy)

    async def attach(self, spec: MoverSpec, *, fence: Fence, adopt_only: bool = False) -> Mover:
        """Adopt the run's own container, or evict whichever has the name and start one."""
        record = await fence()
        await self._ours(spec.workspace_id, spec.volume_uid, record)
        for _ in range(_RACES):
            found = await holder(self._engine, spec.volume_uid, spec.workspace_id)
            if found is not None and is_of(found, spec) and runs(found):
                return self._mover(found["Id"], spec)
            if adopt_only:
                raise await self._not_adopted(spec, found)
            await fence()
            # The fence first: to start a container is a write of the run that it works for.
            if found is not None and is_of(found, spec) and is_new(found):
                await self._engine.start(found["Id"])  # another attempt of ours made it, and starts it too
                return self._mover(found["Id"], spec)
            if found is not None:
                await evict(self._engine, found["Id"], self._wait_policy)
                await fence()
            container = await start_named(self._engine, spec.volume_uid, self._config(spec, MOVER))
            if container is not None:
                await failpoints.reach(_ATTACHED)
                return self._mover(container, spec)
            await asyncio.sleep(_RACE_SECONDS)  # the engine keeps a name from before it shows the container that has it
        raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"others keep starting movers of volume {spec.volume_uid}")

    async def detach(self, workspace_id: str, uid: str, *, fence: Fence, run_id: str | None = None) -> None:
        """Evict the volume's container: that of ``run_id``, or any."""
        check_workspace_id(workspace_id)
        await fence()
        found = await holder(self._engine, uid, workspace_id)
        if found is not None and run_id in (None, run_of(found)):
            await evict(self._engine, found["Id"], self._wait_policy)

    async def aclose(self) -> None:
        """End the connection to the engine."""
        await self._engine.close()

    async def adopt(self, workspace_id: str) -> str:
        """The uid under which a volume that we did not make can be taken into the record."""
        name = self.home_store_key(workspace_id)
        facts = await self._engine.volume(name)
        if facts is None:
            raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"this engine has no volume {name}")
        if UID_LABEL in labels_of(facts):
            raise StorageError(ErrorCode.VOLUME_CONFLICT, f"{name} was made by this service; its record names it")
        return adopted_uid(facts)

    # ------------------------------------------------------------ pieces

    async def _not_adopted(self, spec: MoverSpec, found: Facts | None) -> StorageError:
        """Why there is no mover to adopt; the run's own of another protocol is ended first."""
        if found is None or is_of(found, spec) or not is_of(found, spec, any_protocol=True):
            return StorageError(ErrorCode.MOVER_FAILED, f"the mover on queue {spec.queue} is gone")
        await evict(self._engine, found["Id"], self._wait_policy)
        return StorageError(ErrorCode.MOVER_FAILED, other_protocol(spec, protocol_of(found)))

    def _mover(self, container: str, spec: MoverSpec) -> DockerMover:
        return DockerMover(container, spec, self._engine, self._wait_policy)

    async def _ours(self, workspace_id: str, uid: str, record: Record) -> None:
        """``VolumeNotFound``, or ``VolumeConflict`` for a volume that no run may work on under this uid."""
        name = self.home_store_key(workspace_id)
        facts = await self._engine.volume(name)
        if facts is None:
            raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"there is no volume {name}")
        found = uid_of(facts, record)
        volume = record.volume
        is_doomed = volume is not None and volume.uid == uid and volume.state is VolumeState.DELETING
        if found != uid or is_doomed or record.is_given_up(uid):
            raise StorageError(
                ErrorCode.VOLUME_CONFLICT, f"{name} (uid {found}) is not volume {uid}, or is to be deleted"
            )

    async def _view(self, workspace_id: str, facts: Facts, record: Record, *, users: bool = True) -> VolumeView:
        uid = uid_of(facts, record)
        seen = await self._users(workspace_id, uid) if users else None
        return VolumeView(
            home_store_key=facts["Name"],
            uid=uid,
            restored_from=origin_of(facts),
            users=tuple(user for _, user in seen) if seen is not None else None,
            spec=spec_of(facts),
        )

    async def _users(self, workspace_id: str, uid: str | None) -> list[tuple[Facts, VolumeUser]]:
        return await users_of(
            self._engine, self.home_store_key(workspace_id), uid, workspace_id=workspace_id, label=self._label
        )

    async def _refuse_users(self, workspace_id: str, uid: str) -> None:
        """``VolumeInUse`` naming every container that refers to the volume, a mover of ours among them."""
        users = [user.name for _, user in await self._users(workspace_id, uid)]
        if await holder(self._engine, uid, workspace_id) is not None:
            users.append("a mover of ours")
        if users:
            raise StorageError(
                ErrorCode.VOLUME_IN_USE, f"{self.home_store_key(workspace_id)} is used by {', '.join(users)}"
            )

    async def _evict_leftover(self, uid: str, record: Record, fence: Fence) -> None:
        """A mover of another run, or one that ended. This run's own, alive, is the caller's to end."""
        found = await holder(self._engine, uid, record.workspace_id)
        if found is None:
            return
        if run_of(found) == record.owner.run_id and runs(found) and not is_walk(found):
            raise StorageError(ErrorCode.VOLUME_IN_USE, f"the mover of volume {uid} still runs")
        await fence()
        await evict(self._engine, found["Id"], self._wait_policy)

    async def _walk(self, workspace_id: str, uid: str, record: Record) -> str:
        spec = MoverSpec(workspace_id, uid, record.owner.run_id, queue=WALK, writable=False)
        return await walk(self._engine, uid, self._config(spec, WALK), self._wait_policy)

    def _config(self, spec: MoverSpec, role: str) -> dict[str, object]:
        home = self.home_store_key(spec.workspace_id)
        return container_config(self._image, spec, home, role=role, network=self._network)

    async def _delete(self, name: str, uid: str, fence: Fence) -> None:
        """Delete, and ask until the engine reports for sure that the volume is gone, or that another has its name.

        A DELETE without a response may still be under way: nothing else is done before that is known.
        """

        async def attempt() -> bool | None:
            record = await fence()
            try:
                facts = await self._engine.volume(name)
                if facts is None or uid_of(facts, record) != uid:
                    return True
                # By name: the engine knows no precondition. So the uid is read right before, and the fence before that.
                await self._engine.delete_volume(name)
            except StorageError as error:
                if error.code is not ErrorCode.BACKEND_UNAVAILABLE:
                    raise
                log.warning("volume %s: %s", name, error.message)
            return None

        await self._wait_policy.until(attempt, lambda: f"volume {name} does not go away")


def _uid_by_itself(volume: Facts) -> str | None:
    """An adopted one has the uid that it would be adopted under. Only the record shows whether it was adopted."""
    if UID_LABEL not in labels_of(volume):
        return adopted_uid(volume)
    return labels_of(volume)[UID_LABEL] if workspace_of(volume) == workspace_of_volume(volume["Name"]) else None


def _is_home(name: str) -> bool:
    try:
        workspace_of_volume(name)
    except StorageError:
        return False
    return True
