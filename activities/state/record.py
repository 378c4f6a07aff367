"""The record: the one place of changing state of a workspace, and the fence around every write.

``{id}/home.state`` is a small JSON object, created with If-None-Match and changed only by PUT If-Match, so of two
writers one wins. ``revision`` grows with every PUT: no two contents are ever equal, hence no two ETags.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from activities.state.fields import ArchiveId, Count, Ordinal
from codehub_storage.contracts import Place, VolumeUid
from codehub_storage.errors import ErrorCode, StorageError

FORMAT_VERSION = 1
GIVEN_UP_KEPT = 16
LEFT_BEHIND_KEPT = 16

RunId = Annotated[str, Field(pattern=r"^[0-9A-Za-z][-0-9A-Za-z]{0,99}$")]
FINGERPRINT = r"^b3:[0-9a-f]{64}$"
Fingerprint = Annotated[str, Field(pattern=FINGERPRINT)]
Moment = Annotated[str, Field(max_length=64)]
"""RFC 3339."""


class VolumeState(StrEnum):
    """``deleting`` is final for its uid: each run that finds it finishes the deletion, and none hands it out."""

    RESTORING = "restoring"
    READY = "ready"
    ARCHIVED = "archived"
    DELETING = "deleting"


COLD = frozenset({VolumeState.ARCHIVED, VolumeState.DELETING})
"""An archive was made of this volume, and was reported as the home."""


class Owner(BaseModel):
    """The run whose attempts may write. ``signed_off``: it released the record, so no write of it is in flight."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: RunId = Field(description="the run that claimed the workspace last")
    operation: str = Field(pattern=r"^[a-z][-a-z]{0,39}$", description="what that run does, or did")
    signed_off: bool = Field(default=False, description="it has ended its last write")
    epoch: Ordinal = Field(default=1, description="the store's epoch when it claimed; its claim is for that one only")


class VolumeRecord(BaseModel):
    """The volume that the workspace has, or is getting, or is losing.

    ``archive_id``: the archive that it equals. ``fingerprint``: its change fingerprint when that was so.
    ``made_by``: the run that announced it, while it is `restoring`. ``place``: where it is, be the record elsewhere.
    ``gone``: a run saw that it is, and that the archive which it became is proven.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    uid: VolumeUid = Field(description="the volume's name for ever")
    state: VolumeState = Field(description="restoring: not handed out yet; deleting stays when the volume is gone")
    archive_id: ArchiveId | None = Field(default=None, description="the archive that it equals")
    fingerprint: Fingerprint | None = Field(default=None, description="its change fingerprint when that was so")
    made_by: RunId | None = Field(default=None, description="the run that announced it, while it is restoring")
    place: Place | None = Field(default=None, description="where it is")
    handed_out_at: Moment | None = Field(default=None, description="when it became ready, RFC 3339")
    epoch: Ordinal = Field(default=1, description="the store's epoch when this volume's entry was written last")
    gone: bool = Field(default=False, description="it was seen to be gone, and archived")
    purged_by: RunId | None = Field(default=None, description="the purge that sealed it, if one did")

    @property
    def has_evidence(self) -> bool:
        """False where the volume may be deleted, or is being deleted, and neither an archive nor a purge allows it."""
        is_archived = self.archive_id is not None and self.fingerprint is not None
        if self.state == VolumeState.DELETING:
            return is_archived or self.purged_by is not None
        return is_archived or self.state != VolumeState.ARCHIVED


class LeftBehind(BaseModel):
    """A volume that may still exist at a place which the record has left. No user is given it any more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uid: VolumeUid = Field(description="the volume")
    place: Place = Field(description="where it may still stand")

    def __str__(self) -> str:
        return f"volume {self.uid} at place {self.place}"


class Record(BaseModel):
    """The state of one workspace. Without a volume it is a tombstone, or a workspace that never had one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: Ordinal = Field(default=1, description="format of the record")
    revision: Count = Field(default=1, description="grows with every write")
    workspace_id: str = Field(max_length=40, description="whose record it is")
    place: Place = Field(description="where the workspace lives")
    owner: Owner = Field(description="the run whose attempts may write")
    volume: VolumeRecord | None = Field(default=None, description="the volume that it has, is getting, or is losing")
    given_up: Annotated[tuple[VolumeUid, ...], Field(max_length=GIVEN_UP_KEPT)] = Field(
        default=(), description="uids that are never handed out again"
    )
    left_behind: Annotated[tuple[LeftBehind, ...], Field(max_length=LEFT_BEHIND_KEPT)] = Field(
        default=(), description="volumes that may still stand at places which the record has left"
    )

    lost_volume_uid: VolumeUid | None = Field(
        default=None, description="a volume that was lost and replaced; told by every run until it no longer matters"
    )
    last_archive: ArchiveId | None = Field(
        default=None, description="the archive of a volume that was given up before it was handed out"
    )
    last_epoch: Ordinal = Field(default=1, description="the store's epoch when that archive was named")

    @property
    def missing(self) -> VolumeRecord | None:
        """What is lost if no volume is seen at the record's place: a ready volume, or one that was lost before."""
        volume, lost = self.volume, self.lost_volume_uid
        if volume is not None and volume.state == VolumeState.READY:
            return volume
        is_untold = lost is not None and (volume is None or volume.state == VolumeState.RESTORING)
        return VolumeRecord(uid=lost, state=VolumeState.READY) if is_untold else None

    @property
    def is_rolled_back(self) -> bool:
        """True if the bucket was copied since the volume's entry was written: much may have come after it."""
        return self.volume is not None and self.volume.epoch < self.owner.epoch

    @property
    def named_archive(self) -> tuple[str | None, int]:
        """The archive that the workspace was last known by, and the store's epoch when it was named."""
        if self.volume is None:
            return self.last_archive, self.last_epoch
        return self.volume.archive_id, self.volume.epoch

    def is_doubted(self, uid: str) -> bool:
        """True for a volume that was half-made when the bucket was copied: it may have been handed out since."""
        volume = self.volume
        is_half = volume is not None and volume.uid == uid and volume.state == VolumeState.RESTORING
        return is_half and self.is_rolled_back

    @property
    def volume_place(self) -> str:
        """Where the record's volume is: not here, as long as nothing is announced at the place that took the record."""
        return (self.volume.place if self.volume else None) or self.place

    @property
    def is_elsewhere(self) -> bool:
        """True if the record's volume is at a place that the record has left."""
        return self.volume_place != self.place

    @property
    def elsewhere(self) -> tuple[LeftBehind, ...]:
        """All volumes of the workspace that may exist at other places than the record's."""
        volume = self.volume
        if volume is None or volume.gone or not self.is_elsewhere:
            return self.left_behind
        return (*self.left_behind, LeftBehind(uid=volume.uid, place=self.volume_place))[-LEFT_BEHIND_KEPT:]

    def with_volume(self, volume: VolumeRecord | None, *, lost: bool = False) -> Record:
        """This record with another volume. A uid that is replaced or cleared is given up in the same write.

        One at another place is also remembered as left there. ``lost``: no process of ours deleted it. If it ever
        comes back it is not disposable, but in the way. Every run reports it until ``with_no_loss``.
        """
        old = self.volume
        if old is None or (volume is not None and volume.uid == old.uid):
            return self.model_copy(update={"volume": volume})
        is_ours_to_delete = not lost or self.is_elsewhere or old.state != VolumeState.READY
        given_up = (*self.given_up, old.uid)[-GIVEN_UP_KEPT:] if is_ours_to_delete else self.given_up
        facts: dict[str, Any] = {"volume": volume, "given_up": given_up, "left_behind": self.elsewhere}
        if volume is None and old.archive_id is not None:
            facts |= {"last_archive": old.archive_id, "last_epoch": old.epoch}
        return self.model_copy(update={**facts, "lost_volume_uid": old.uid if lost else self.lost_volume_uid})

    def found_clear(self) -> Record:
        """This record after an inspection that found no volume at its place: nothing is left behind there any more."""
        kept = tuple(each for each in self.left_behind if each.place != self.place)
        return self if kept == self.left_behind else self.model_copy(update={"left_behind": kept})

    def with_state(
        self, uid: str | None, state: VolumeState, archive_id: str | None = None, *, fingerprint: str | None = None
    ) -> Record:
        """This record with its volume in another state. `deleting` is final: it is never taken back.

        ``NotYours`` if the volume is another by now, or being deleted.
        """
        volume = self.volume
        if volume is None or volume.uid != uid or volume.state == VolumeState.DELETING:
            raise StorageError(ErrorCode.NOT_YOURS, f"volume {uid} cannot become {state}: the record changed")
        if volume.state == state == VolumeState.READY:
            return self
        facts = {
            "state": state,
            "archive_id": archive_id,
            "fingerprint": fingerprint,
            "made_by": None,
            "gone": False,
            "epoch": self.owner.epoch,
        }
        return self.with_volume(volume.model_copy(update=facts))

    def purged(self) -> Record:
        """The tombstone, after an inspection that found nothing at its place."""
        return self.found_clear().with_volume(None).with_no_loss().model_copy(update={"last_archive": None})

    def with_given_up(self, uid: str) -> Record:
        """This record after the caller said that the volume ``uid``, which still exists, is worth nothing."""
        if self.volume is not None and self.volume.uid == uid:
            return self.with_volume(None)
        return self.model_copy(update={"given_up": (*self.given_up, uid)[-GIVEN_UP_KEPT:]})

    def with_no_loss(self) -> Record:
        """This record after the loss was accepted, or after an archive was reported as the home since."""
        return self.model_copy(update={"lost_volume_uid": None})

    def handed_out(self, uid: str) -> Record:
        """This record with its volume `ready` for the first time. ``NotYours`` as in ``with_state``."""
        record = self.with_state(uid, VolumeState.READY)
        if record is self or record.volume is None:
            return record
        now = datetime.now(UTC).isoformat(timespec="seconds")
        volume = record.volume.model_copy(update={"handed_out_at": now})
        return record.model_copy(update={"volume": volume, "last_archive": None})

    def sealed(self, uid: str, *, purged_by: str | None = None) -> Record:
        """This record with its volume `deleting`, evidence kept. ``NotYours`` if the volume is another by now.

        ``purged_by``: the purge that needs no archive for it.
        """
        volume = self.volume
        if volume is None or volume.uid != uid:
            raise StorageError(ErrorCode.NOT_YOURS, f"volume {uid} is no longer the record's")
        facts = {"state": VolumeState.DELETING, "gone": False, "epoch": self.owner.epoch}
        if volume.state != VolumeState.DELETING:
            facts["purged_by"] = purged_by
        return self.with_volume(volume.model_copy(update=facts))

    def is_given_up(self, uid: str) -> bool:
        """True for a volume that must never be handed out again."""
        return uid in self.given_up

    def is_disposable(self, uid: str) -> bool:
        """True for a volume that no user was ever given, or whose deletion was decided: any run that finds it deletes
        it."""
        if self.is_doubted(uid):
            return False
        mine = self.volume is not None and self.volume.uid == uid
        half = mine and self.volume is not None and self.volume.state in (VolumeState.RESTORING, VolumeState.DELETING)
        return half or self.is_given_up(uid)
