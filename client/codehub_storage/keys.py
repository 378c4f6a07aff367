"""Object keys, volume names, workspace ids and workflow ids: pure functions, injective both ways.

The shapes are fixed by the platform: a volume is ``ws_{id}_home`` (Docker, directory) or ``ws-{id}-home``
(Kubernetes), an archive is ``{id}/home.tar.gz``, a foreign archive ``archives/{id}.tar.gz``.
"""

from __future__ import annotations

import re

from codehub_storage.errors import ErrorCode, StorageError

_ID = r"[a-z0-9](?:[-a-z0-9]{0,38}[a-z0-9])?"
_WORKSPACE_ID = re.compile(_ID)
_VOLUME = re.compile(rf"ws_({_ID})_home|ws-({_ID})-home")
_ARCHIVE = re.compile(rf"({_ID})/home\.tar\.gz|archives/({_ID})\.tar\.gz")
_VOLUME_NAMES = {"directory": "ws_{}_home", "local-docker": "ws_{}_home", "k8s": "ws-{}-home"}
RESERVED_IDS = frozenset({"archives"})


def is_workspace_id(text: str) -> bool:
    """True for what matches ``[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?`` and is not reserved."""
    return isinstance(text, str) and _WORKSPACE_ID.fullmatch(text) is not None and text not in RESERVED_IDS


def check_workspace_id(workspace_id: str) -> str:
    """The id itself. ``InvalidInput`` unless ``is_workspace_id``."""
    if not is_workspace_id(workspace_id):
        raise StorageError(
            ErrorCode.INVALID_INPUT,
            f"{workspace_id!r} is not a workspace id",
            hint="1 to 40 characters of a-z, 0-9 and -, neither first nor last a -, and not 'archives'.",
        )
    return workspace_id


def is_volume_key(text: str) -> bool:
    """True for what has the shape of a ``home_store_key``, of any backend."""
    return _VOLUME.fullmatch(text) is not None


def is_archive_key(text: str) -> bool:
    """True for what has the shape of an ``archive_key``."""
    return _ARCHIVE.fullmatch(text) is not None


def workspace_of_volume(home_store_key: str) -> str:
    """The workspace of the volume ``home_store_key``. ``InvalidInput`` if it is not the name of a volume."""
    match = _VOLUME.fullmatch(home_store_key) if isinstance(home_store_key, str) else None
    if match is None:
        raise StorageError(
            ErrorCode.INVALID_INPUT,
            f"{home_store_key!r} is not a home_store_key",
            hint="It looks like ws_{workspace_id}_home or ws-{workspace_id}-home.",
        )
    return check_workspace_id(match[1] or match[2])


def workspace_of_archive(archive_key: str) -> str:
    """The workspace of the archive ``archive_key``. ``InvalidInput`` if it is not the key of an archive."""
    match = _ARCHIVE.fullmatch(archive_key) if isinstance(archive_key, str) else None
    if match is None:
        raise StorageError(
            ErrorCode.INVALID_INPUT,
            f"{archive_key!r} is not an archive_key",
            hint="It looks like {workspace_id}/home.tar.gz or archives/{workspace_id}.tar.gz.",
        )
    return check_workspace_id(match[1] or match[2])


def is_foreign(archive_key: str) -> bool:
    """True for keys of the shape ``archives/{id}.tar.gz``, which hold archives that we did not make."""
    return archive_key.startswith("archives/")


def volume_key(workspace_id: str, backend: str) -> str:
    """The ``home_store_key`` of a workspace on a backend, which is called as in ``CODEHUB_STORAGE_BACKEND``."""
    return _VOLUME_NAMES[backend].format(check_workspace_id(workspace_id))


def foreign_archive_key(workspace_id: str) -> str:
    """Where an archive of a workspace is stored that we did not make."""
    return f"archives/{workspace_id}.tar.gz"


def archive_key(workspace_id: str) -> str:
    """Where the archive of a workspace is stored."""
    return f"{workspace_id}/home.tar.gz"


def manifest_key(archive: str) -> str:
    """Where the manifest of the archive at key ``archive`` is stored."""
    return f"{archive}.meta"


def record_key(workspace_id: str) -> str:
    """Where the record of a workspace is stored."""
    return f"{workspace_id}/home.state"


def workflow_id(workspace_id: str) -> str:
    """The one workflow id of a workspace, whatever the operation: the server then runs one at a time."""
    return f"storage/{workspace_id}"


def storage_queue(place: str) -> str:
    """The task queue of workflows and control activities of one place."""
    return f"storage/{place}"


def place_of_queue(queue: str) -> str:
    """The place that ``storage_queue`` or ``movers_queue`` made this of."""
    return queue.partition("/")[2]


def movers_queue(place: str) -> str:
    """The task queue of the mover leases of one place."""
    return f"movers/{place}"


def mover_queue(token: str, number: int) -> str:
    """The task queue of one mover. ``token`` is the run's own, so a zombie of another run gets no work."""
    return f"mover/{token}/{number}"
