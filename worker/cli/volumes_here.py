"""The records compared with the volumes that are at this place: homes that are lost, and what was left behind."""

from __future__ import annotations

from collections.abc import Mapping

from activities.backends.base import ReadOnlyBackend, VolumeBackend
from activities.objectstore.base import ObjectStore
from activities.objectstore.identity import StoreIdentity, check_place
from activities.state.fence import read_record
from activities.state.record import LeftBehind, Record, VolumeState
from codehub_storage.errors import ErrorCode, StorageError
from worker.backends import open_backend
from worker.settings import Settings

VolumesHere = Mapping[str, str | None]
"""The workspaces that have a volume at a place, and its uid; ``None`` for one that is not ours."""


async def volumes_here(settings: Settings, identity: StoreIdentity | None) -> VolumesHere:
    """The volumes at the place of these settings. ``WrongStore`` for another place under its address, and the
    backend's own errors: a missing volume is believed only in the right place."""
    async with open_backend(settings) as backend:
        await check_here(backend, settings, identity)
        if not isinstance(backend, ReadOnlyBackend):
            raise StorageError(ErrorCode.UNSUPPORTED, f"backend {backend.name} shows no volumes")
        return await backend.list_volumes()


async def check_here(backend: VolumeBackend, settings: Settings, identity: StoreIdentity | None) -> None:
    """``WrongStore`` unless what is reached is the place that the bucket knows."""
    found = await backend.identity()
    if found is None:
        raise StorageError(ErrorCode.WRONG_STORE, f"place {settings.place!r} is not here: not mounted, or never marked")
    if identity is not None:
        check_place(identity, settings.place, found)


def is_told_ready(record: Record, place: str) -> bool:
    """True if by the record a volume of ``place`` was handed out, and no run is about to change that."""
    volume = record.volume
    is_ready = volume is not None and volume.state is VolumeState.READY
    return is_ready and record.owner.signed_off and place == record.place == record.volume_place


async def is_lost(store: ObjectStore, record: Record, standing: VolumesHere) -> bool:
    """True if the ready volume of ``record`` was not there, and its record is still the same."""
    volume = record.volume
    if volume is None or standing.get(record.workspace_id) == volume.uid:
        return False
    found = await read_record(store, record.workspace_id)  # an archive may have ended between the two reads
    return found is not None and found[0] == record


def left_here(record: Record, place: str, standing: VolumesHere) -> LeftBehind | None:
    """The volume that is at ``place`` and that the record gave up when it left. No user is given it any more."""
    uid = standing.get(record.workspace_id)
    return next((each for each in record.left_behind if (each.place, each.uid) == (place, uid)), None)


def is_home_here(record: Record, place: str, standing: VolumesHere) -> bool:
    """True if the record's own volume is at ``place`` while the record is at another place: it comes back to it."""
    volume = record.volume
    is_here = volume is not None and standing.get(record.workspace_id) == volume.uid
    return is_here and record.is_elsewhere and record.volume_place == place
