"""What crosses the wire between a reconciler and the service.

Frozen models that only grow: a field is never renamed, retyped or removed, every later field has a default, and
a reader ignores what it does not know.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
DEFAULT_PLACE = "default"
Place = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")]
VolumeUid = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


class Contract(BaseModel):
    """Base of all that crosses the wire."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = Field(default=SCHEMA_VERSION, description="version of this object's fields, which only grow")


class Operation(StrEnum):
    """The four transitions. The value is the workflow's type name."""

    PROVISION = "provision"
    ARCHIVE = "archive"
    RESTORE = "restore"
    PURGE = "purge"


class Phase(StrEnum):
    """How far an operation is: what a user reads, and what ``WsPhase`` holds."""

    CLAIMING = "claiming"
    INSPECTING = "inspecting"
    CREATING = "creating"
    ATTACHING = "attaching"
    PLANNING = "planning"
    COPYING = "copying"
    FINISHING = "finishing"
    SETTLING = "settling"
    VERIFYING = "verifying"
    COMMITTING = "committing"
    DELETING = "deleting"
    COMPARING = "comparing"
    UNDOING = "undoing"
    DONE = "done"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> Phase:
        """A newer service may name a phase that this reader does not know."""
        return cls.UNKNOWN


class VolumeSpec(Contract):
    """What a new volume shall be like. ``None`` leaves the choice to the backend's settings."""

    size_bytes: Annotated[int, Field(gt=0)] | None = None
    storage_class: str | None = None


class ProvisionInput(Contract):
    """A new, empty volume for a workspace. ``accept_loss``: begin again although this volume of it was lost."""

    workspace_id: str
    place: Place = DEFAULT_PLACE
    volume: VolumeSpec = VolumeSpec()
    accept_loss: VolumeUid | None = None


class ArchiveInput(Contract):
    """Volume to proven archive, then the volume deleted.

    ``cancel_only``: do not archive, only find out whether an earlier archive is past its point of no return (this is
    how ``StorageClient.cancel`` asks where no run is open).
    """

    workspace_id: str
    home_store_key: str | None = None
    place: Place = DEFAULT_PLACE
    expected_volume_uid: str | None = None
    remove_stopped: bool = False
    cancel_only: bool = False


class RestoreInput(Contract):
    """Archive to new volume. ``archive_id`` asks for a kept older version instead of the current one.

    ``accept_loss``: go on although this volume stays behind at another place, or may have been handed out before the
    bucket was copied. ``old_place_is_dead``: whatever the last run did there, nothing of it runs any more.
    """

    workspace_id: str
    archive_key: str
    place: Place = DEFAULT_PLACE
    archive_id: str | None = None
    volume: VolumeSpec = VolumeSpec()
    accept_loss: VolumeUid | None = None
    old_place_is_dead: bool = False


class PurgeInput(Contract):
    """Remove the volume, the archive, or both; what is ``None`` is out of scope and stays.

    ``accept_loss``, ``old_place_is_dead``: as for a restore.
    """

    workspace_id: str
    home_store_key: str | None = None
    archive_key: str | None = None
    place: Place = DEFAULT_PLACE
    expected_volume_uid: str | None = None
    remove_stopped: bool = False
    accept_loss: VolumeUid | None = None
    old_place_is_dead: bool = False


class OperationResult(Contract):
    """What an operation leaves behind. Fields that do not apply to it are ``None`` or zero."""

    operation: str = Field(description="provision, archive, restore or purge")
    workspace_id: str = Field(description="whose home it is")
    run_id: str = Field(default="", description="the run, as Temporal names it")
    home_store_key: str | None = Field(default=None, description="name of the volume")
    archive_key: str | None = Field(default=None, description="object key of the archive")
    volume_uid: str | None = Field(default=None, description="which volume bears that name")
    archive_id: str | None = Field(default=None, description="which archive stands under that key")
    lost_volume_uid: str | None = Field(
        default=None, description="a volume that the record called ready, and that was not there or was left behind"
    )
    moved: bool = Field(default=False, description="bytes were moved; False where the postcondition already held")
    cleanup_required: bool = Field(default=False, description="the archive is proven, but the volume still stands")
    leftovers: tuple[str, ...] = Field(default=(), description="what is left of this workspace, named")
    removed: tuple[str, ...] = Field(default=(), description="purge: what was removed and confirmed gone, named")
    files: int = Field(default=0, description="regular files")
    raw_bytes: int = Field(default=0, description="bytes of file content")
    stored_bytes: int = Field(default=0, description="bytes of the archive object")
    sent_again_bytes: int = Field(default=0, description="bytes that had to be uploaded more than once")
    skipped: dict[str, int] = Field(default_factory=dict, description="what was not carried, counted by kind")
    seconds: dict[str, float] = Field(default_factory=dict, description="time by phase")


class Progress(Contract):
    """The state of an operation while it runs (a query; no history is written)."""

    operation: str = Field(description="provision, archive, restore or purge")
    workspace_id: str = Field(description="whose home it is")
    run_id: str = Field(default="", description="the run, as Temporal names it")
    phase: Phase = Field(default=Phase.UNKNOWN, description="where it stands; unknown where no worker answers")
    bytes_done: int = Field(default=0, description="bytes of this phase that are done")
    bytes_total: int = Field(default=0, description="bytes of this phase; 0 where it is not known")
    last_error: str | None = Field(default=None, description="why the last attempt, or the run, failed")
    attempt: int = Field(default=1, description="attempt of the step under way; above 1 while it is tried again")
    next_attempt_at: str | None = Field(default=None, description="RFC 3339 time of the next attempt while retrying")
    closed: bool = Field(default=False, description="the run has ended")
    waits_for: str | None = Field(
        default=None, description="what it waits for: a worker, an earlier owner's last write, ...; null: for nothing"
    )
    task_attempt: int = Field(
        default=1, description="attempt of the workflow task; above 1 while workers fail at carrying the run on"
    )
    task_failure: str | None = Field(default=None, description="why they do; null where they do not")


class CancelOutcome(StrEnum):
    """What ``cancel`` achieved: the volume is as it was, or the operation was past its point of no return."""

    CANCELLED = "cancelled"
    TOO_LATE = "too_late"
