"""Typed signatures of all activities: what workflows call without importing what does the work.

Names are part of histories and never change. What a step does and returns is described at its body, in the file that
each stub names. A test compares names, signatures and files.
"""

from __future__ import annotations

from temporalio import activity

from workflows.messages import (
    AbortInput,
    AnnounceInput,
    ArchivedInput,
    ClaimInput,
    ClaimResult,
    CompleteInput,
    CopyInput,
    CopyResult,
    HoldMoverInput,
    InspectInput,
    InspectResult,
    PlanSummary,
    ProofInput,
    ProofResult,
    ProveInput,
    PurgeStepInput,
    PurgeStepResult,
    ReleaseInput,
    RestoreStepInput,
    RestoreStepResult,
    ScanInput,
    StepInput,
    StoredArchive,
    TailInput,
    TailResult,
    Upload,
    VolumeInput,
)

# ---------------------------------------------------------------- the record


@activity.defn
async def claim(step: ClaimInput) -> ClaimResult:
    """Take the record for this run; the first step of every run.

    Body: activities/control/claim.py
    """
    raise NotImplementedError


@activity.defn
async def release(step: ReleaseInput) -> None:
    """Write into the record that this run has no write in flight; the last step of every run.

    Body: activities/control/claim.py
    """
    raise NotImplementedError


# ---------------------------------------------------------------- volumes


@activity.defn
async def inspect_for_provision(step: InspectInput) -> InspectResult:
    """Decide what provision has to do.

    Body: activities/control/inspection.py
    """
    raise NotImplementedError


@activity.defn
async def inspect_for_archive(step: InspectInput) -> InspectResult:
    """Decide what archive has to do.

    Body: activities/control/inspection.py
    """
    raise NotImplementedError


@activity.defn
async def inspect_after_cancel(step: InspectInput) -> InspectResult:
    """Decide what is left to do for an archive that was cancelled.

    Body: activities/control/inspection.py
    """
    raise NotImplementedError


@activity.defn
async def inspect_for_restore(step: InspectInput) -> InspectResult:
    """Decide what restore has to do.

    Body: activities/control/inspection.py
    """
    raise NotImplementedError


@activity.defn
async def announce_volume(step: AnnounceInput) -> None:
    """Write a new uid, `restoring`, into the record before any volume bears it.

    Body: activities/control/volumes.py
    """
    raise NotImplementedError


@activity.defn
async def create_volume(step: VolumeInput) -> None:
    """Create the volume that the record announces.

    Body: activities/control/volumes.py
    """
    raise NotImplementedError


@activity.defn
async def hand_out_volume(step: VolumeInput) -> None:
    """Write `ready`: from here on the volume may be given to a user.

    Body: activities/control/volumes.py
    """
    raise NotImplementedError


@activity.defn
async def abandon_volume(step: VolumeInput) -> None:
    """Give a `restoring` uid up in the record, then delete its volume.

    Body: activities/control/volumes.py
    """
    raise NotImplementedError


@activity.defn
async def mark_archived(step: ArchivedInput) -> None:
    """See the proven version once more, then write `archived`.

    Body: activities/control/volumes.py
    """
    raise NotImplementedError


@activity.defn
async def mark_ready_again(step: VolumeInput) -> None:
    """Take `archived` back: the volume changed since, so the archive no longer equals it.

    Body: activities/control/volumes.py
    """
    raise NotImplementedError


@activity.defn
async def delete_volume(step: VolumeInput) -> None:
    """Check for the last time, seal, delete.

    Body: activities/control/volumes.py
    """
    raise NotImplementedError


# ---------------------------------------------------------------- archives


@activity.defn
async def begin_archive(step: StepInput) -> Upload:
    """Abort what was left open, make sure of a manifest to replace, begin an upload.

    Body: activities/control/archive_object.py
    """
    raise NotImplementedError


@activity.defn
async def complete_archive(step: CompleteInput) -> StoredArchive:
    """Make the object of its parts.

    Body: activities/control/archive_object.py
    """
    raise NotImplementedError


@activity.defn
async def sync_store(step: StepInput) -> None:
    """Force what the embedded store holds onto the disk.

    Body: activities/control/archive_object.py
    """
    raise NotImplementedError


@activity.defn
async def prove_again(step: ProveInput) -> None:
    """Read the archive back whole where it lies today, and rewrite its manifest with today's ETag and version.

    Body: activities/control/archive_object.py
    """
    raise NotImplementedError


@activity.defn
async def prune_archive(step: ArchivedInput) -> None:
    """Delete archive versions older than the proven one, and older manifests.

    Body: activities/control/archive_object.py
    """
    raise NotImplementedError


@activity.defn
async def abort_archive(step: AbortInput) -> None:
    """Forget the upload; on a versioned bucket delete exactly the version that failed its verification.

    Body: activities/control/archive_object.py
    """
    raise NotImplementedError


# ---------------------------------------------------------------- purge


@activity.defn
async def inspect_for_purge(step: PurgeStepInput) -> PurgeStepResult:
    """Refuse before anything is removed.

    Body: activities/control/purge.py
    """
    raise NotImplementedError


@activity.defn
async def purge_archive(step: PurgeStepInput) -> PurgeStepResult:
    """Delete archive and manifest with all versions, markers and unfinished uploads.

    Body: activities/control/purge.py
    """
    raise NotImplementedError


@activity.defn
async def purge_volume(step: PurgeStepInput) -> PurgeStepResult:
    """Delete the volume.

    Body: activities/control/purge.py
    """
    raise NotImplementedError


@activity.defn
async def confirm_purge(step: PurgeStepInput) -> PurgeStepResult:
    """List again; where both are gone the record becomes a tombstone.

    Body: activities/control/purge.py
    """
    raise NotImplementedError


# ---------------------------------------------------------------- movers and what runs inside them


@activity.defn
async def hold_mover(step: HoldMoverInput) -> None:
    """The lease: start or adopt the mover, watch it, stop it on cancel. Never returns by itself.

    Body: activities/control/lease.py
    """
    raise NotImplementedError


@activity.defn
async def detach_mover(step: VolumeInput) -> None:
    """End the volume's mover, if there is one still, and return when it is known to be gone.

    Body: activities/control/volumes.py
    """
    raise NotImplementedError


@activity.defn
async def scan_volume(step: ScanInput) -> PlanSummary:
    """Walk and cut.

    Body: activities/mover/archive.py
    """
    raise NotImplementedError


@activity.defn
async def copy_segments(step: CopyInput) -> CopyResult:
    """Pack and send a batch of data segments; each accepted one is heartbeated.

    Body: activities/mover/archive.py
    """
    raise NotImplementedError


@activity.defn
async def copy_tail(step: TailInput) -> TailResult:
    """Pack the last data segment, walk again, pack the tail, send the last parts.

    Body: activities/mover/archive.py
    """
    raise NotImplementedError


@activity.defn
async def verify_archive(step: ProofInput) -> ProofResult:
    """Read the object back whole and compare everything.

    Body: activities/mover/archive.py
    """
    raise NotImplementedError


@activity.defn
async def write_manifest(step: ProofInput) -> ProofResult:
    """Prove: write the manifest in place of its predecessor.

    Body: activities/mover/archive.py
    """
    raise NotImplementedError


@activity.defn
async def prepare_restore(step: RestoreStepInput) -> RestoreStepResult:
    """Pre-flight, then the directories.

    Body: activities/mover/restore.py
    """
    raise NotImplementedError


@activity.defn
async def restore_segments(step: RestoreStepInput) -> RestoreStepResult:
    """Restore a batch of data segments.

    Body: activities/mover/restore.py
    """
    raise NotImplementedError


@activity.defn
async def finish_restore(step: RestoreStepInput) -> RestoreStepResult:
    """Links and metadata, comparison with the content fingerprint, sync.

    Body: activities/mover/restore.py
    """
    raise NotImplementedError


@activity.defn
async def restore_foreign_archive(step: RestoreStepInput) -> RestoreStepResult:
    """Restore an archive that we did not make, as one stream.

    Body: activities/mover/restore.py
    """
    raise NotImplementedError
