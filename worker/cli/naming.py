"""What was typed where a key is wanted: the key, or the workspace that it belongs to.

What has the shape of a key is that key, on every backend. So ``ws-a-home`` is the volume of workspace ``a``, although
a workspace may be called so; the keys of such a workspace are typed in full.
"""

from __future__ import annotations

from collections.abc import Callable

from codehub_storage import keys
from codehub_storage.errors import ErrorCode, StorageError


def home_store_key(named: str, backend: str) -> str:
    """The volume that was named. ``InvalidInput``.

    ``backend``: that of the settings. A place of another kind names its volumes otherwise, and refuses the key.
    """
    if keys.is_archive_key(named):
        workspace_id = keys.workspace_of_archive(named)
        raise _invalid(
            f"{named!r} is an archive_key, not a home_store_key",
            f"The volume of workspace {workspace_id} is {keys.volume_key(workspace_id, backend)}.",
        )
    if keys.is_workspace_id(named) and not keys.is_volume_key(named):
        return keys.volume_key(named, backend)
    return _key(named, keys.workspace_of_volume)


def archive_key(named: str) -> str:
    """The archive that was named; of a workspace the one that we make. ``InvalidInput``."""
    if keys.is_volume_key(named):
        workspace_id = keys.workspace_of_volume(named)
        raise _invalid(
            f"{named!r} is a home_store_key, not an archive_key",
            f"The archive of workspace {workspace_id} is {keys.archive_key(workspace_id)}.",
        )
    return keys.archive_key(named) if keys.is_workspace_id(named) else _key(named, keys.workspace_of_archive)


def keys_to_purge(
    workspace_id: str | None, volume: str | None, archive: str | None, backend: str
) -> tuple[str | None, str | None]:
    """Volume and archive that shall go; ``None`` for what stays. ``InvalidInput``."""
    if workspace_id is not None:
        if volume is not None or archive is not None:
            raise _invalid("a workspace names its volume and its archive", "Name the workspace alone, or keys alone.")
        if keys.is_volume_key(workspace_id) or keys.is_archive_key(workspace_id):
            raise _invalid(f"{workspace_id!r} is a key", "Name it with --volume or with --archive.")
        volume = archive = workspace_id
    if volume is None and archive is None:
        raise _invalid("nothing to purge was named", "Name a workspace, --volume KEY, --archive KEY, or both keys.")
    return volume and home_store_key(volume, backend), archive and archive_key(archive)


def _key(named: str, workspace_of: Callable[[str], str]) -> str:
    try:
        workspace_of(named)
    except StorageError as error:
        raise _invalid(error.message, f"{error.hint} Or name the workspace by its id.") from error
    return named


def _invalid(message: str, hint: str) -> StorageError:
    return StorageError(ErrorCode.INVALID_INPUT, message, hint=hint)
