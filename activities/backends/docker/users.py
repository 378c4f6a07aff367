"""Who has a Docker volume: every container that refers to it, whether it runs or not, but for our own movers.

By the volume's name, or by a path into the directory in which the engine keeps it. For the latter the engine itself
would not keep the volume.
"""

from __future__ import annotations

from pathlib import PurePath

from activities.backends.base import VolumeUser
from activities.backends.docker.engine import Engine, Facts
from activities.backends.docker.labels import is_ours, labels_of

_STOPPED = ("created", "exited", "dead")


async def users_of(
    engine: Engine, name: str, uid: str | None, *, workspace_id: str, label: str
) -> list[tuple[Facts, VolumeUser]]:
    """Containers that have volume ``name``, as the engine lists them and as users. ``label`` names their workspace.

    The engine's filter also finds a container that mounts another volume *at* a path of that name. That cannot be, as
    a path is absolute and a volume's name has no slash.
    """
    found = {each["Id"]: each for each in (*await engine.containers(volume=name), *await _binding(engine, name))}
    return [
        (each, _user(each, workspace_id=workspace_id, label=label))
        for each in found.values()
        if uid is None or not is_ours(each, uid)
    ]


async def _binding(engine: Engine, name: str) -> list[Facts]:
    """Containers that bind the volume's directory, or something in it, by its path. Volumes of other drivers may have
    no directory."""
    folder = PurePath((await engine.volume(name) or {}).get("Mountpoint") or "")
    if not folder.is_absolute():
        return []
    return [
        each
        for each in await engine.containers()
        if any(
            mount.get("Type") == "bind" and PurePath(mount.get("Source", "")).is_relative_to(folder)
            for mount in each["Mounts"]
        )
    ]


def _user(facts: Facts, *, workspace_id: str, label: str) -> VolumeUser:
    names = [name.lstrip("/") for name in facts["Names"] or ()]
    return VolumeUser(
        name=f"container {names[0] if names else facts['Id'][:12]} ({facts['State']})",
        stopped=facts["State"] in _STOPPED,
        ours=labels_of(facts).get(label) == workspace_id,
    )
