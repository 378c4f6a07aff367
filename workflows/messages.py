"""What the steps of a workflow pass to one another: the inputs and results of activities.

They are in histories, so they only grow, like the contracts. Packed segment records are bytes (base64 in JSON).
No path, no credential and no manifest is ever in here.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from codehub_storage.contracts import VolumeSpec


class Message(BaseModel):
    """Base of all step messages."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")


class StepInput(Message):
    """Every step names its workspace and place; the run that may write is the step's own (``activity.info()``)."""

    workspace_id: str
    place: str


class ClaimInput(StepInput):
    """Take the record for this run. The last two are the caller's responsibility, see ``RestoreInput``."""

    operation: str
    accept_loss: str | None = None
    old_place_is_dead: bool = False


class ReleaseInput(StepInput):
    """Write that this run writes nothing more. ``gone_uid``: the volume that it saw to be gone, and archived."""

    gone_uid: str | None = None


class ClaimResult(Message):
    """What the run needs to know of the place. ``settle_seconds`` 0 with ``settle_by_sync``: the store is synced.

    ``wait_seconds``: for so long a write of ``waits_for``, which never released the record, may still take effect.
    """

    home_store_key: str
    settle_seconds: float = 60.0
    settle_by_sync: bool = False
    wait_seconds: float = 0.0
    waits_for: str | None = None


class NextStep(StrEnum):
    """What is to be done, as an inspection found it.

    ``RUN``: do the operation. ``DELETE_VOLUME``: an archive is proven, continue with the deletion. ``FINISH_DELETION``:
    the deletion was sealed, finish it. ``NOTHING``: the postcondition holds. ``PROVE_AGAIN``: the content of the
    volume's archive is there, but it is not the object that was read back (its bucket was copied). Prove it again, then
    inspect again.
    """

    RUN = "run"
    DELETE_VOLUME = "delete_volume"
    FINISH_DELETION = "finish_deletion"
    NOTHING = "nothing"
    PROVE_AGAIN = "prove_again"


class InspectInput(StepInput):
    """Look at volume, record and archive before an operation. Not every operation uses every field."""

    home_store_key: str | None = None
    archive_key: str | None = None
    archive_id: str | None = None
    expected_volume_uid: str | None = None
    remove_stopped: bool = False
    volume: VolumeSpec = VolumeSpec()
    accept_loss: str | None = None


class InspectResult(Message):
    """The next step, and the names and evidence to continue with.

    ``is_whole``, of ``PROVE_AGAIN``: the volume is untouched, so an archive that turns out to be rotten is made again.
    ``lost_volume_uid``: a volume that was ready and is not there. ``lost``: the same in a sentence. ``elsewhere``: what
    may still be at other places, named.
    """

    next_step: NextStep
    volume_uid: str | None = None
    archive_id: str | None = None
    fingerprint: str | None = None
    restored_from: str | None = None
    spec: dict[str, str] = Field(default_factory=dict)
    recorded_uid: str | None = None
    foreign: bool = False
    is_whole: bool = False
    segments: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    lost_volume_uid: str | None = None
    lost: str | None = None
    elsewhere: tuple[str, ...] = ()


class VolumeInput(StepInput):
    """One volume, by uid. ``archive_id``: what it was or shall be restored from."""

    volume_uid: str
    archive_id: str | None = None
    fingerprint: str | None = None
    spec: dict[str, str] = Field(default_factory=dict)


class AnnounceInput(StepInput):
    """A new uid. ``replaces``: the uid that the inspection saw in the record; any other there is another run's.

    ``lost``: the inspection did not find that one, although it was ready. ``is_accepted``: the caller accepted that.
    ``archive_id``: what the volume is restored from.
    """

    volume_uid: str
    replaces: str | None = None
    lost: bool = False
    is_accepted: bool = False
    archive_id: str | None = None


class Upload(Message):
    """A begun multipart upload. ``manifest_etag``: what the proof will replace. ``created_at``: RFC 3339."""

    key: str
    upload_id: str
    archive_id: str
    manifest_etag: str
    created_at: str = ""


MOVER_PROTOCOL = 2
"""Raised when the steps that a mover serves change, or their messages: a lease adopts no mover of another number."""


class HoldMoverInput(StepInput):
    """A mover for one volume, serving one task queue for as long as the lease lives."""

    volume_uid: str
    queue: str
    writable: bool


class ScanInput(StepInput):
    """Walk the volume and cut it into segments."""

    volume_uid: str


class PlanSummary(Message):
    """What the walk found. A mover that lost its plan walks again and must find the same fingerprint and cuts."""

    fingerprint: str
    cut_digest: str = ""
    data_segments: int
    files: int
    file_bytes: int
    entries: int
    skipped: dict[str, int] = Field(default_factory=dict)


class ArchiveStep(StepInput):
    """What all steps that make one archive go by: the volume as it was planned, where it came from, the upload."""

    volume_uid: str
    fingerprint: str
    cut_digest: str = ""
    restored_from: str | None = None
    spec: dict[str, str] = Field(default_factory=dict)
    upload: Upload


class CopyInput(ArchiveStep):
    """A batch: from this segment and this part on, both counted from 1."""

    first_segment: int = 1
    first_part: int = 1


class CopyResult(Message):
    """Packed records of the segments in accepted parts, in order, and where to go on.

    ``at_end``: what data is left makes no whole part, so it goes with the tail. ``sent_bytes``: those that were sent
    again included.
    """

    records: bytes
    next_segment: int
    next_part: int
    at_end: bool
    sent_bytes: int = 0


class TailInput(CopyInput):
    """The rest of the data and the tail. ``records``: of all segments before ``first_segment``."""

    records: bytes = b""


class TailResult(Message):
    """Packed records of what was sent, in order."""

    records: bytes
    sent_bytes: int = 0


class CompleteInput(StepInput):
    """All segments of the archive: the record of a part's last one bears its ETag."""

    upload: Upload
    records: bytes


class StoredArchive(Message):
    """The object as the store reported it."""

    key: str
    archive_id: str
    size_bytes: int
    etag: str
    version_id: str | None = None
    crc64: str = ""


class ProofInput(ArchiveStep):
    """Verify the object and write the manifest that proves it. ``records``: of all segments."""

    stored: StoredArchive
    records: bytes


class ProofResult(Message):
    """Totals of the proven archive."""

    files: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    skipped: dict[str, int] = Field(default_factory=dict)


class ArchivedInput(StepInput):
    """Evidence for `archived`: this volume, with this fingerprint, is in this stored version."""

    volume_uid: str
    fingerprint: str
    archive_id: str


class ProveInput(StepInput):
    """Which archive is read back whole and proven again."""

    archive_id: str


UPLOAD_LOST = "UploadLost"
"""Type of the failure by which a step reports that the store no longer knows the upload."""


class AbortInput(StepInput):
    """Compensation of an archive. ``corrupt``: the version that failed its verification, to be deleted alone."""

    key: str
    upload_id: str | None = None
    corrupt: StoredArchive | None = None


class RestoreStepInput(StepInput):
    """Restore into a volume. ``archive_id`` names the version whose manifest is the map."""

    volume_uid: str
    archive_key: str
    archive_id: str
    first: int = 0
    last: int = 0


class RestoreStepResult(Message):
    """What was written."""

    files: int = 0
    raw_bytes: int = 0
    skipped: dict[str, int] = Field(default_factory=dict)


class PurgeStepInput(StepInput):
    """What is in scope: the two keys as the caller gave them. ``volume_uid``: what the caller expects there.
    ``versions``: of the archive's object, as manifests named them before they were removed."""

    home_store_key: str | None = None
    archive_key: str | None = None
    volume_uid: str | None = None
    remove_stopped: bool = False
    versions: tuple[str, ...] = ()


class PurgeStepResult(Message):
    """What was removed and what is left, named. ``versions``: see ``PurgeStepInput``."""

    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    lost_volume_uid: str | None = None
