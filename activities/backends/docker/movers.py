"""Movers and walks as containers: created under the one name that a volume allows, watched, evicted.

They are the engine's children, so they outlive the worker that started them and the next one adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field

from activities.backends.base import MoverSpec, not_ours
from activities.backends.containers import READING, SCRATCH, VOLUME, WRITING, MoverImage
from activities.backends.docker.engine import Engine, Facts
from activities.backends.docker.labels import MOVER, container_labels, container_name, is_ours, workspace_of
from activities.backends.wait_policy import WaitPolicy
from activities.runtime.cancellation import make_or_undo, shield_until_done
from codehub_storage.errors import ErrorCode, StorageError

_ENDED = ("exited", "dead")
_LOOK_SECONDS = 0.25

log = logging.getLogger(__name__)


def container_config(
    image: MoverImage, spec: MoverSpec, home: str, *, role: str, network: str | None
) -> dict[str, object]:
    """What the engine is asked for. Nothing but the volume and a scratch directory can be written to."""
    is_mover = role == MOVER
    writable = is_mover and spec.writable
    volume = {
        "Type": "volume",
        "Source": home,
        "Target": VOLUME,
        "ReadOnly": not writable,
        "VolumeOptions": {"NoCopy": True},  # else the engine fills an empty volume from the image
    }
    host: dict[str, object] = {
        "Mounts": [volume, {"Type": "volume", "Target": SCRATCH}],
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "CapAdd": list(WRITING if writable else READING),
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": image.pids,
        "Memory": image.memory_bytes,
        "MemorySwap": image.memory_bytes,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "Init": True,  # reaps what a mover might leave
    }
    if not is_mover:
        host["NetworkMode"] = "none"
    elif network is not None:
        host["NetworkMode"] = network
    return {
        "Image": image.image,
        "Entrypoint": [],
        "Cmd": image.mover_arguments(spec) if is_mover else list(image.walk_command),
        "Env": [f"{name}={value}" for name, value in image.variables(spec if is_mover else None).items()],
        "Labels": container_labels(role, spec),
        "User": "0:0",
        "WorkingDir": "/",
        "HostConfig": host,
    }


@dataclass(frozen=True)
class DockerMover:
    """A mover's container. Two that name the same container are equal."""

    container: str
    spec: MoverSpec = field(compare=False)
    engine: Engine = field(compare=False, repr=False)
    wait_policy: WaitPolicy = field(compare=False, repr=False)

    async def wait(self, timeout: float) -> str | None:
        """``None`` while it lives after ``timeout`` seconds, else why it ended."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while True:
            facts = await self.engine.container(self.container)
            if facts is None:
                return f"container {self.container[:12]} was removed"
            if facts["State"]["Status"] in _ENDED:
                return await self._reason(facts)
            left = deadline - clock()
            if left <= 0:
                return None
            await asyncio.sleep(min(left, _LOOK_SECONDS))

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL, then away; returns when the engine no longer knows it."""
        await evict(self.engine, self.container, self.wait_policy)

    async def _reason(self, facts: Facts) -> str:
        state = facts["State"]
        how = "ran out of memory" if state.get("OOMKilled") else f"ended with exit status {state.get('ExitCode')}"
        if state.get("Error"):
            how += f" ({state['Error']})"
        lines = await self.engine.output(self.container)
        log.warning("container %s %s; the end of its log:\n%s", facts["Name"], how, lines)
        return f"mover {facts['Name'].lstrip('/')} {how}" + (f"; its last lines:\n{lines}" if lines else "")


async def evict(engine: Engine, container: str, wait_policy: WaitPolicy) -> None:
    """End a container and wait until the engine no longer knows it."""
    await engine.stop(container, wait_policy.grace_seconds)

    async def attempt() -> bool | None:
        await engine.remove(container)
        return True if await engine.container(container) is None else None

    await wait_policy.until(attempt, lambda: f"container {container} does not end")


async def start_named(engine: Engine, uid: str, config: dict[str, object]) -> str | None:
    """The id of a new, running container under the volume's one name; ``None`` if the name is taken.

    One that does not start is removed: ``created`` it would hold the volume, and be adopted as if it ran.
    """

    async def remove(created: str | None) -> None:
        if created is not None:
            with contextlib.suppress(StorageError):  # the cancellation matters more, and the next attempt evicts it
                await engine.remove(created)

    container = await make_or_undo(engine.create_container(container_name(uid), config), remove)
    if container is None:
        return None
    try:
        await engine.start(container)
    except BaseException:
        await engine.remove(container)
        raise
    return container


async def holder(engine: Engine, uid: str, workspace_id: str) -> Facts | None:
    """The container that has the volume's name now. ``VolumeConflict`` if it is not of this workspace."""
    facts = await engine.container(container_name(uid))
    if facts is not None and is_ours(facts, uid) and workspace_of(facts) != workspace_id:
        raise not_ours(f"container {container_name(uid)}", uid, workspace_of(facts), workspace_id)
    if facts is not None and not is_ours(facts, uid):
        raise StorageError(
            ErrorCode.VOLUME_CONFLICT, f"container {container_name(uid)} is not ours; remove or rename it"
        )
    return facts


async def walk(engine: Engine, uid: str, config: dict[str, object], wait_policy: WaitPolicy) -> str:
    """What a walk's container prints. It is gone when this returns, however it ends.

    The walk's own error where it prints one; ``BackendUnavailable`` where another container took the name.
    """
    container = await start_named(engine, uid, config)
    if container is None:
        raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"another container works on volume {uid}")
    try:
        while True:
            facts = await engine.container(container)
            if facts is None or facts["State"]["Status"] in _ENDED:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        printed = await engine.output(container, errors=False, lines=1)
        if facts is None or facts["State"]["ExitCode"] != 0 or not printed:
            raise await _walk_error(engine, container, facts)
        return printed
    finally:
        await shield_until_done(evict(engine, container, wait_policy))


async def _walk_error(engine: Engine, container: str, facts: Facts | None) -> StorageError:
    said = await engine.output(container)
    code, _, message = said.rpartition("\n")[2].partition(": ")
    if code in set(ErrorCode):
        return StorageError(ErrorCode(code), message)
    how = "was removed" if facts is None else f"ended with exit status {facts['State']['ExitCode']}"
    return StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"the walk {how}: {said or 'it said nothing'}")


def runs(facts: Facts) -> bool:
    """True for a container that does something, or could at once."""
    return facts["State"]["Status"] in ("running", "restarting", "paused")


def is_new(facts: Facts) -> bool:
    """True for one that was made and not started yet."""
    return bool(facts["State"]["Status"] == "created")
