"""The record: the one place of changing state of a workspace, and the fence around every write.

``{id}/home.state`` is a small JSON object, created with If-None-Match and changed only by PUT If-Match, so of two
writers one wins. ``revision`` grows with every PUT: no two contents are ever equal, hence no two ETags.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from codehub_storage.errors import ErrorCode, StorageError

GIVEN_UP_KEPT = 16


class VolumeState(StrEnum):
    """``deleting`` is final for its uid: whoever finds it finishes the deletion, nobody hands that volume out."""

    RESTORING = "restoring"
    READY = "ready"
    ARCHIVED = "archived"
    DELETING = "deleting"


class Owner(BaseModel):
    """The run whose attempts may write. ``signed_off``: it ended its last write and has none in flight."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str = Field(description="the run that claimed the workspace last")
    operation: str = Field(description="what that run does, or did")
    signed_off: bool = Field(default=False, description="it has ended its last write")


class VolumeRecord(BaseModel):
    """The volume that the workspace has, or is getting, or is losing.

    ``archive_id``: the archive that it equals. ``fingerprint``: its change fingerprint when that was so, as hex.
    ``made_by``: the run that announced it, while it is `restoring`.
    ``gone``: a run saw that it is, and that the archive which it became is proven.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    uid: str = Field(description="the volume's name for ever")
    state: VolumeState = Field(description="restoring: not handed out yet; deleting stays when the volume is gone")
    archive_id: str | None = Field(default=None, description="the archive that it equals")
    fingerprint: str | None = Field(default=None, description="its change fingerprint when that was so, as hex")
    made_by: str | None = Field(default=None, description="the run that announced it, while it is restoring")
    gone: bool = Field(default=False, description="it was seen to be gone, and archived")


class Record(BaseModel):
    """The state of one workspace. Without a volume it is a tombstone, or a workspace that never had one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = Field(default=1, description="format of the record")
    revision: int = Field(default=1, description="grows with every write")
    workspace_id: str = Field(description="whose record it is")
    place: str = Field(description="where the workspace lives")
    owner: Owner = Field(description="the run whose attempts may write")
    volume: VolumeRecord | None = Field(default=None, description="the volume that it has, is getting, or is losing")
    given_up: tuple[str, ...] = Field(default=(), description="uids that are never handed out again")

    def with_volume(self, volume: VolumeRecord | None) -> Record:
        """This record with another volume. A uid that is replaced or cleared is given up in the same write."""
        given_up = self.given_up
        if self.volume is not None and (volume is None or volume.uid != self.volume.uid):
            given_up = (*given_up, self.volume.uid)[-GIVEN_UP_KEPT:]
        return self.model_copy(update={"volume": volume, "given_up": given_up})

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
        changed = VolumeRecord(uid=volume.uid, state=state, archive_id=archive_id, fingerprint=fingerprint)
        return self.with_volume(changed)

    def sealed(self, uid: str) -> Record:
        """This record with its volume `deleting`, evidence kept. ``NotYours`` if the volume is another by now."""
        volume = self.volume
        if volume is None or volume.uid != uid:
            raise StorageError(ErrorCode.NOT_YOURS, f"volume {uid} is no longer the record's")
        return self.with_volume(volume.model_copy(update={"state": VolumeState.DELETING}))

    def is_given_up(self, uid: str) -> bool:
        """True for a volume that must never be handed out again."""
        return uid in self.given_up

    def is_disposable(self, uid: str) -> bool:
        """True for a volume that nobody was ever handed, or whose deletion was decided: whoever meets it deletes it."""
        mine = self.volume is not None and self.volume.uid == uid
        half = mine and self.volume is not None and self.volume.state in (VolumeState.RESTORING, VolumeState.DELETING)
        return half or self.is_given_up(uid)
