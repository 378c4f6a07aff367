"""A place in memory with at most one volume, for tests of who may touch a volume and when.

Each method reads the fence as often as a real backend must, before it changes anything; ``at`` lets the world move on
right before a method begins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from activities.backends.base import Deletion, Fence, Mover, MoverSpec, VolumeView

KEY = "ws_ws1_home"


class MemoryBackend:
    """``volume``: what stands there. ``done``: the changes, in their order. ``remains``: what ``delete`` names as left.

    ``prints``: the change fingerprint. ``stays``: so many deletions the volume outlives.
    """

    name = "memory"
    movers_outlive_worker = False

    def __init__(self, volume: VolumeView | None = None) -> None:
        self.volume = volume
        self.done: list[str] = []
        self.prints = "b3:" + "f" * 64
        self.remains: str | None = None
        self.stays = 0
        self.at: dict[str, Callable[[], Awaitable[object]]] = {}

    def home_store_key(self, workspace_id: str) -> str:
        return f"ws_{workspace_id}_home"

    async def inspect(self, workspace_id: str, *, fence: Fence, users: bool = True) -> VolumeView | None:
        await self._begin("inspect")
        await fence()
        return self.volume if users or self.volume is None else replace(self.volume, users=None)

    async def fingerprint(self, workspace_id: str, uid: str, *, fence: Fence) -> str:
        await self._begin("fingerprint")
        await fence()
        return self.prints

    async def delete(self, workspace_id: str, uid: str, *, fence: Fence, deletion: Deletion | None) -> str | None:
        await self._begin("delete")
        await fence()
        if deletion is not None:
            await deletion.check(lambda: self.fingerprint(workspace_id, uid, fence=fence))
            await deletion.seal()
        self.done.append(f"delete {uid}")
        self.stays -= 1
        if self.stays < 0:
            self.volume = None
        return self.remains

    async def remove_stopped_users(self, workspace_id: str, *, fence: Fence) -> None:
        await self._begin("remove_stopped_users")
        await fence()
        self.done.append("remove stopped users")
        if self.volume is not None:
            self.volume = replace(
                self.volume, users=tuple(user for user in (self.volume.users or ()) if not user.stopped)
            )

    async def detach(self, workspace_id: str, uid: str, *, fence: Fence, run_id: str | None = None) -> None:
        await self._begin("detach")
        await fence()
        self.done.append(f"detach {uid}")

    async def identity(self) -> str | None:
        raise NotImplementedError

    async def mark(self, identity: str, *, adopt: bool) -> str:
        raise NotImplementedError

    async def create(
        self, workspace_id: str, uid: str, *, restored_from: str | None, spec: Mapping[str, str], fence: Fence
    ) -> VolumeView:
        raise NotImplementedError

    async def attach(self, spec: MoverSpec, *, fence: Fence, adopt_only: bool = False) -> Mover:
        raise NotImplementedError

    async def _begin(self, method: str) -> None:
        happens = self.at.pop(method, None)
        if happens is not None:
            await happens()
