"""The Kubernetes backend: the Protocol's methods on the claims and Pods of one namespace.

There is no lock but a name: whatever Pod of ours has a volume bears the volume's uid in its name. Every effect names
the uid of what it changes, so a late one meets another uid and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from activities.backends.base import Deletion, Fence, Mover, MoverSpec, VolumeView
from activities.backends.containers import other_protocol
from activities.backends.kubernetes import removal, states
from activities.backends.kubernetes.admission import Admission
from activities.backends.kubernetes.claims import ClaimDefaults, is_terminating, manifest, uid_of, view
from activities.backends.kubernetes.client import Api, Json
from activities.backends.kubernetes.errors import Refused
from activities.backends.kubernetes.lifecycle import PodLifecycle, Waits
from activities.backends.kubernetes.movers import PodMover
from activities.backends.kubernetes.namespace import Namespace, claim_name
from activities.backends.kubernetes.pods import MOVER, PodShape, mover_pod, protocol_of, role, run_of, serves
from activities.backends.kubernetes.removal import Removal
from activities.backends.kubernetes.walks import Walks
from activities.backends.wait_policy import WaitPolicy
from activities.runtime import failpoints
from activities.state.record import Record
from codehub_storage.errors import ErrorCode, StorageError

_CLEARED = failpoints.declare("kubernetes.attach.cleared", effect="others are evicted, the mover's Pod is not created")
_ATTACHED = failpoints.declare("kubernetes.attach.started", effect="the mover's Pod runs, its lease does not know it")


class KubernetesBackend:
    """Claims of one namespace, moved by Pods.

    ``workspace_label``: the platform's label on its own Pods, whose value is the workspace id.
    """

    name = "k8s"
    movers_outlive_worker = True

    def __init__(
        self,
        api: Api,
        shape: PodShape,
        *,
        defaults: ClaimDefaults | None = None,
        workspace_label: str = "codehub.workspace",
        wait_policy: WaitPolicy | None = None,
        waits: Waits | None = None,
    ) -> None:
        self._api = api
        self._shape = shape
        self._defaults = defaults or ClaimDefaults()
        self._wait_policy = wait_policy or WaitPolicy()
        self._namespace = Namespace(api, workspace_label)
        self._pods = PodLifecycle(api, self._wait_policy, waits or Waits())
        self._admission = Admission(api, shape)
        self._walks = Walks(self._pods, shape)
        self._removal = Removal(api, self._wait_policy)

    async def aclose(self) -> None:
        """End the connection."""
        await self._api.aclose()

    def home_store_key(self, workspace_id: str) -> str:
        """``ws-{id}-home``."""
        return claim_name(workspace_id)

    async def identity(self) -> str | None:
        """The uid of the namespace; ``None`` if there is no such namespace.

        A worker asks for it first when it starts, and ends where no mover would be admitted.
        """
        found = await self._namespace.identity()
        if found is not None:
            await self._admission.check()
        return found

    async def mark(self, identity: str, *, adopt: bool) -> str:
        """The namespace has an identity of its own. Refused where claims of our names are not ours."""
        found, name = await self.identity(), self._namespace.name
        if found is None:
            raise StorageError(
                ErrorCode.WRONG_STORE, f"there is no namespace {name}", hint="Create it, or correct the setting."
            )
        foreign = [] if adopt else await self._namespace.foreign_homes()
        if foreign:
            raise StorageError(
                ErrorCode.WRONG_STORE,
                f"namespace {name} has homes that are not ours: {', '.join(foreign[:5])}",
                hint="Mark it with --adopt if this is the right namespace.",
            )
        return found

    async def create(
        self, workspace_id: str, uid: str, *, restored_from: str | None, spec: Mapping[str, str], fence: Fence
    ) -> VolumeView:
        """A claim of the asked size and class. It may stay unbound until its first Pod.

        Where a home will be restored no Pod may wait for the name already: it would start on half of it.
        """
        await self._begin(workspace_id, fence)
        wanted = manifest(claim_name(workspace_id), workspace_id, uid, restored_from, spec, self._defaults)
        claim = await self._namespace.claim(workspace_id)
        if claim is None:
            await self._namespace.check_class(wanted["spec"].get("storageClassName"))
            if restored_from is not None:
                await self._namespace.check_unused(workspace_id, uid, but_stopped=True)
            if (await fence()).is_given_up(uid):
                raise StorageError(ErrorCode.VOLUME_CONFLICT, f"uid {uid} was given up; no volume is made for it")
            try:
                return view(await self._api.create(self._api.path("persistentvolumeclaims"), wanted))
            except Refused as error:
                if not error.is_taken:
                    raise
                claim = await self._namespace.claim(workspace_id)
        if claim is None or is_terminating(claim):
            raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"{claim_name(workspace_id)} is still being deleted")
        if uid_of(claim) != uid:
            raise StorageError(
                ErrorCode.VOLUME_CONFLICT, f"{claim_name(workspace_id)} has uid {uid_of(claim)}, not {uid}"
            )
        return view(claim)

    async def inspect(self, workspace_id: str, *, fence: Fence, users: bool = True) -> VolumeView | None:
        """The claim and the Pods that name it, but for the run's own mover. Pods of ours that were left are evicted.

        A deletion cannot be undone, only waited for: for a short while here.
        """
        record = await self._begin(workspace_id, fence)
        claim = await self._namespace.claim(workspace_id)
        if claim is None:
            return None
        uid = uid_of(claim)
        own = await self._pods.find(uid, workspace_id) if uid else None
        if own is not None and (is_terminating(claim) or run_of(own) != record.owner.run_id):
            await self._pods.end(own)
        if is_terminating(claim):
            claim = await self._removal.settled(claim)
            if claim is None:
                return None
        return view(claim, await self._namespace.users(workspace_id, uid) if users else None)

    async def peek(self, workspace_id: str, record: Record) -> VolumeView | None:
        """The claim, and the Pods that name it."""
        claim = await self._namespace.claim(workspace_id)
        return None if claim is None else view(claim, await self._namespace.users(workspace_id, uid_of(claim)))

    async def list_volumes(self) -> Mapping[str, str | None]:
        """The claims of the namespace that have the name of a home, those too that are being deleted."""
        await self._namespace.check()
        return await self._namespace.homes()

    async def fingerprint(self, workspace_id: str, uid: str, *, fence: Fence) -> str:
        """By a walk in a Pod."""
        record = await self._begin(workspace_id, fence)
        claim = await self._namespace.claim(workspace_id)
        if claim is None or uid_of(claim) != uid:
            raise StorageError(ErrorCode.VOLUME_NOT_FOUND, f"there is no volume {uid} of workspace {workspace_id}")
        if is_terminating(claim):
            raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"{claim_name(workspace_id)} is being deleted")
        await self._free(uid, record)
        await fence()
        async with self._walks.walked(claim, workspace_id, uid, record.owner.run_id) as found:
            return found

    async def delete(self, workspace_id: str, uid: str, *, fence: Fence, deletion: Deletion | None) -> str | None:
        """Walk, look for users, seal, mark the claim as deleted while the walk holds it, let go, wait until it is gone.

        The window: a Pod that is scheduled between the second look and the mark keeps the claim until it ends; what it
        writes is lost. The error then names it, and the claim can still be rescued (``Retain`` on its volume).
        """
        record = await self._begin(workspace_id, fence)
        claim = await self._namespace.claim(workspace_id)
        if claim is None or uid_of(claim) != uid:
            return None
        if deletion is None and not record.is_disposable(uid):
            raise StorageError(
                ErrorCode.VOLUME_CONFLICT, f"the record does not say that {claim_name(workspace_id)} may be deleted"
            )
        await self._free(uid, record)
        if not is_terminating(claim):
            await self._seal_and_mark(claim, workspace_id, uid, fence, deletion)
        elif deletion is not None:
            raise StorageError(
                ErrorCode.BACKEND_UNAVAILABLE, f"{claim_name(workspace_id)} is being deleted, and not by us"
            )
        return await self._removal.until_gone(claim, lambda: self._namespace.users(workspace_id, uid))

    async def remove_stopped_users(self, workspace_id: str, *, fence: Fence) -> None:
        """Delete the finished Pods of this workspace that still hold the claim."""
        await self._begin(workspace_id, fence)
        for pod in await self._namespace.finished_pods(workspace_id):
            await fence()
            await self._api.delete(self._api.path("pods", pod["metadata"]["name"]), pod["metadata"]["uid"])

    async def attach(self, spec: MoverSpec, *, fence: Fence, adopt_only: bool = False) -> Mover:
        """See the Protocol. While a node does not respond nothing is evicted from it, nor started elsewhere."""
        record = await self._begin(spec.workspace_id, fence)
        claim = await self._namespace.claim_for(spec, record)

        async def attempt() -> PodMover | None:
            found = await self._pods.find(spec.volume_uid, spec.workspace_id)
            if found is not None and serves(found, spec) and not states.is_over(found) and not is_terminating(found):
                return PodMover(self._pods, await self._pods.adopt(found, claim, keep=adopt_only))
            if adopt_only:
                raise await self._not_adopted(spec, found)
            if found is not None:
                await self._pods.end(found)
            if spec.writable:  # a reader disturbs no user; a second writer would be mixed into what is restored
                await self._namespace.check_unused(spec.workspace_id, spec.volume_uid, but_stopped=True)
            await failpoints.reach(_CLEARED)
            await self._namespace.claim_for(spec, await fence())  # to end another Pod took time: is it still our volume
            pod = await self._pods.start(mover_pod(self._shape, spec, claim_name(spec.workspace_id)), claim)
            return PodMover(self._pods, pod) if pod is not None else None

        mover = await self._wait_policy.until(attempt, lambda: f"others keep starting movers of {spec.volume_uid}")
        await failpoints.reach(_ATTACHED)
        return mover

    async def detach(self, workspace_id: str, uid: str, *, fence: Fence, run_id: str | None = None) -> None:
        """End the volume's Pod of ours: that of ``run_id``, or any if it is ``None``."""
        await self._begin(workspace_id, fence)
        found = await self._pods.find(uid, workspace_id)
        if found is not None and run_id in (None, run_of(found)):
            await self._pods.end(found)

    # ------------------------------------------------------------ parts of the above

    async def _begin(self, workspace_id: str, fence: Fence) -> Record:
        """The right place, then the fence."""
        claim_name(workspace_id)
        await self._namespace.check()
        return await fence()

    async def _not_adopted(self, spec: MoverSpec, found: Json | None) -> StorageError:
        """Why there is no mover to adopt; the run's own of another protocol is ended first."""
        if found is not None and serves(found, spec, any_protocol=True) and not serves(found, spec):
            await self._pods.end(found)
            return StorageError(ErrorCode.MOVER_FAILED, other_protocol(spec, protocol_of(found)))
        how = f": {await self._pods.termination_message(found)}" if found is not None else ""
        return StorageError(ErrorCode.MOVER_FAILED, f"the mover on queue {spec.queue} is gone{how}")

    async def _seal_and_mark(
        self, claim: Json, workspace_id: str, uid: str, fence: Fence, deletion: Deletion | None
    ) -> None:
        """Up to the point of no return. The walk, if the check takes it, holds the claim until it is marked."""
        async with AsyncExitStack() as holding:
            if deletion is not None:
                run_id = (await fence()).owner.run_id
                await self._namespace.check_unused(workspace_id, uid)
                await deletion.check(
                    lambda: holding.enter_async_context(self._walks.walked(claim, workspace_id, uid, run_id))
                )
                await failpoints.reach(removal.CHECKED)
                await self._namespace.check_unused(workspace_id, uid)  # again: a Pod may have come during the walk
                await deletion.seal()
            await failpoints.reach(removal.SEALED)
            await fence()
            # The Pod of the walk, if any, holds the claim. Once that is marked, no new Pod is scheduled on it.
            await self._removal.mark(claim)

    async def _free(self, uid: str, record: Record) -> None:
        """No Pod of ours on the volume. A mover of this very run is waited for, not evicted: its lease ends it."""
        found = await self._pods.find(uid, record.workspace_id)
        if found is not None and role(found) == MOVER and run_of(found) == record.owner.run_id:
            await self._pods.until_over(found, "the mover of this run still lives")
        if found is not None:
            await self._pods.end(found)
