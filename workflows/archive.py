"""archive: volume to proven archive, then the volume deleted.

Everything before the gate can be undone and is; behind it the archive is proven and only the deletion remains, which
no cancel stops. So at every instant the volume is intact or a proven archive exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from codehub_storage.contracts import ArchiveInput, OperationResult, Phase
from codehub_storage.converter import storage_error
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import archive_key, workspace_of_volume
from codehub_storage.search_attributes import WS_BYTES
from workflows import policies, steps
from workflows.lease import MoverLease
from workflows.messages import (
    UPLOAD_LOST,
    AbortInput,
    ArchivedInput,
    CompleteInput,
    CopyInput,
    InspectInput,
    InspectResult,
    NextStep,
    ProofInput,
    ProofResult,
    ScanInput,
    StepInput,
    StoredArchive,
    TailInput,
    Upload,
    VolumeInput,
)
from workflows.operation import (
    EXPECTED,
    MAX_INSPECTIONS,
    OperationWorkflow,
    is_cancel,
    shield_until_done,
    unsteady,
)

ROUNDS = 3
"""Maximum number of times that the copy is begun: a volume may change meanwhile, or the store lose the upload."""

KEEPS_VOLUME = frozenset({ErrorCode.VOLUME_CHANGED, ErrorCode.VOLUME_IN_USE, ErrorCode.NOT_YOURS})
"""The deletion met another process's work: the operation fails and the volume stays. All else is `cleanup_required`."""


@dataclass(frozen=True)
class Evidence:
    """What the deletion takes: this volume, with this change fingerprint, is in this archive."""

    volume_uid: str
    archive_id: str
    fingerprint: str


@dataclass(frozen=True)
class Copied:
    """A complete, not yet proven archive. ``fields``: those of ``ArchiveStep``."""

    fields: dict[str, Any]
    stored: StoredArchive
    records: bytes


@workflow.defn(name="archive")
class ArchiveWorkflow(OperationWorkflow):
    """See the module."""

    @workflow.init
    def __init__(self, request: ArchiveInput) -> None:
        super().__init__(request)
        self.upload: Upload | None = None
        self.corrupt: StoredArchive | None = None
        self.proof = ProofResult()
        self.sent_bytes = 0
        self.lost_volume_uid: str | None = None

    @workflow.run
    async def run(self, request: ArchiveInput) -> OperationResult:
        """Archive, or finish what an earlier run left behind its gate."""
        self._check(request)
        while True:
            try:
                look = await self._look(request)
                evidence = await self._prove(look) if look.next_step == NextStep.RUN else _evidence(look)
                self.check_cancelled()  # the gate: from here on no cancel counts
            except EXPECTED as error:
                look = await shield_until_done(self._undo(request, error))
                evidence = _evidence(look)
            self.lost_volume_uid = look.lost_volume_uid
            result = await shield_until_done(self._commit(look, evidence))
            if result is not None:
                return result

    def _check(self, request: ArchiveInput) -> None:
        self.check_names()
        key = request.home_store_key
        if key is not None and workspace_of_volume(key) != request.workspace_id:
            raise StorageError(ErrorCode.INVALID_INPUT, f"{key} is not a volume of workspace {request.workspace_id}")

    def _look_input(self, request: ArchiveInput) -> InspectInput:
        return self.input(
            InspectInput,
            home_store_key=request.home_store_key,
            expected_volume_uid=request.expected_volume_uid,
            remove_stopped=request.remove_stopped,
        )

    # ------------------------------------------------------------ before the gate

    async def _look(self, request: ArchiveInput) -> InspectResult:
        if self.claimed is None:
            await self.claim()
        if request.cancel_only:
            raise StorageError(ErrorCode.CANCELLED, "only asked to cancel")
        for _ in range(MAX_INSPECTIONS):
            self.check_cancelled()
            self.enter(Phase.INSPECTING)
            look = await self.step(
                steps.inspect_for_archive, self._look_input(request), "inspect volume, record and archive"
            )
            if look.next_step != NextStep.PROVE_AGAIN:
                return look
            await self._prove_again(look)
        raise unsteady()

    async def _prove_again(self, look: InspectResult) -> None:
        """See ``OperationWorkflow.prove_again``. A rotten archive no longer replaces a volume that is whole: the volume
        is `ready` again, and the next inspection begins from the start."""
        try:
            await self.prove_again(look)
        except FailureError as error:
            if not look.is_whole or storage_error(error).code != ErrorCode.ARCHIVE_CORRUPT:
                raise
            self.note_error(error)
            volume = self.input(VolumeInput, volume_uid=look.volume_uid or "")
            await self.step(steps.mark_ready_again, volume, "record: ready, the stored archive is not whole")

    async def _prove(self, look: InspectResult) -> Evidence:
        """Copy, settle, verify, write the manifest. The mover is gone when this returns."""
        uid = look.volume_uid or ""
        self.enter(Phase.ATTACHING)
        async with MoverLease(self, uid, str(workflow.uuid4()), 1, writable=False) as mover:
            copied = await self._copy(mover, look)
            await self.settle()  # before the read-back: what is read must be what the store keeps through a crash
            self.check_cancelled()
            proof = self.input(ProofInput, stored=copied.stored, records=copied.records, **copied.fields)
            self.enter(Phase.VERIFYING)
            try:
                await mover.run(steps.verify_archive, proof, "read the archive back and compare", "verify")
            except FailureError as error:
                if storage_error(error).code == ErrorCode.ARCHIVE_CORRUPT:
                    self.corrupt = copied.stored
                raise
            # Only now: a manifest is the proof, and every reader believes it.
            self.proof = await mover.run(steps.write_manifest, proof, "write the manifest: the proof", "manifest")
        return Evidence(uid, copied.stored.archive_id, copied.fields["fingerprint"])

    async def _copy(self, mover: MoverLease, look: InspectResult) -> Copied:
        """Copy; again from a new walk where the volume changed, or with a new upload where the store lost it."""
        for round_number in range(1, ROUNDS + 1):
            try:
                return await self._copy_once(mover, look, round_number)
            except FailureError as error:
                lost = _is_upload_lost(error)
                if not lost and storage_error(error).code != ErrorCode.VOLUME_CHANGED:
                    raise
                if round_number == ROUNDS and lost:
                    what = f"the store lost {ROUNDS} uploads in a row: {error.cause}"
                    raise StorageError(ErrorCode.STORE_UNAVAILABLE, what) from error
                if round_number == ROUNDS:
                    raise
                self.note_error(error)
                await workflow.sleep(policies.mover_backoff(round_number), summary="pause before the next round")
        raise AssertionError("unreachable")

    async def _copy_once(self, mover: MoverLease, look: InspectResult, number: int) -> Copied:
        self.enter(Phase.PLANNING)
        scan = self.input(ScanInput, volume_uid=look.volume_uid)
        plan = await mover.run(steps.scan_volume, scan, "walk the volume", f"scan-{number}")
        self.bytes_done, self.bytes_total = 0, plan.file_bytes
        workflow.upsert_search_attributes([WS_BYTES.value_set(plan.file_bytes)])
        # After the walk: no upload is begun for a volume that cannot be read. From here on `_undo` has one to abort.
        self.upload = upload = await self.step(steps.begin_archive, self.input(StepInput), "begin an upload")
        fields: dict[str, Any] = {
            "volume_uid": look.volume_uid,
            "fingerprint": plan.fingerprint,
            "cut_digest": plan.cut_digest,
            "restored_from": look.restored_from,
            "spec": look.spec,
            "upload": upload,
        }
        self.enter(Phase.COPYING)
        records: list[bytes] = []
        segment, part, at_end = 1, 1, plan.data_segments == 0
        while not at_end:
            batch = await mover.run(
                steps.copy_segments,
                self.input(CopyInput, first_segment=segment, first_part=part, **fields),
                f"copy segments from {segment} of {plan.data_segments}",
                f"copy-{number}-{segment:05d}",
            )
            records.append(batch.records)
            self.sent_bytes += batch.sent_bytes
            segment, part, at_end = batch.next_segment, batch.next_part, batch.at_end
            self.bytes_done = plan.file_bytes * (segment - 1) // plan.data_segments
            self.describe()
        self.enter(Phase.FINISHING)
        tail = await mover.run(
            steps.copy_tail,
            self.input(TailInput, first_segment=segment, first_part=part, records=b"".join(records), **fields),
            "copy the rest, walk again, copy the tail",
            f"tail-{number}",
        )
        self.sent_bytes += tail.sent_bytes
        self.bytes_done = plan.file_bytes
        all_records = b"".join([*records, tail.records])
        stored = await self.step(
            steps.complete_archive,
            self.input(CompleteInput, upload=upload, records=all_records),
            "make the object of its parts",
            timeouts=policies.complete(),
        )
        return Copied(fields, stored, all_records)

    # ------------------------------------------------------------ undone, or too late

    async def _undo(self, request: ArchiveInput, error: BaseException) -> InspectResult:
        """Take back what this run did. Raises ``error``; returns the inspection for a cancel that comes too late."""
        self.enter(Phase.UNDOING)
        failure = self.failure(error)
        if self.upload is not None:
            abort = self.input(AbortInput, key=self.upload.key, upload_id=self.upload.upload_id, corrupt=self.corrupt)
            await self.best_effort(steps.abort_archive, abort, "forget the upload")
        if is_cancel(error):
            try:
                if self.claimed is None:
                    await self.claim()  # an earlier run may be past its gate: to find out, the record must be ours
                look = await self._look_after_cancel(request)
            except (FailureError, StorageError) as refused:
                failure = self.note_error(refused)
            else:
                if look.next_step != NextStep.RUN:
                    return look
        await self.release()
        raise failure from error

    async def _look_after_cancel(self, request: ArchiveInput) -> InspectResult:
        for _ in range(MAX_INSPECTIONS):
            look = await self.run_uncancellable(
                steps.inspect_after_cancel, self._look_input(request), "see whether the cancel comes too late"
            )
            if look.next_step != NextStep.PROVE_AGAIN:
                return look
            await self.prove_again(look)
        raise unsteady()

    # ------------------------------------------------------------ behind the gate

    async def _commit(self, look: InspectResult, evidence: Evidence | None) -> OperationResult | None:
        """Delete the volume on evidence. ``None``: an old archive no longer equals it, begin again."""
        if look.next_step == NextStep.NOTHING or evidence is None:
            return await self._done(look.archive_id, look.volume_uid, look.elsewhere)
        volume = self.input(
            VolumeInput,
            volume_uid=evidence.volume_uid,
            archive_id=evidence.archive_id,
            fingerprint=evidence.fingerprint,
        )
        leftovers, cleanup = look.elsewhere, False
        try:
            if look.next_step == NextStep.RUN:
                self.enter(Phase.COMMITTING)
                await self.run_uncancellable(steps.mark_archived, self._archived(evidence), "record: archived")
            self.enter(Phase.DELETING)
            await self.run_uncancellable(steps.delete_volume, volume, "delete the volume", timeouts=policies.deletion())
        except FailureError as error:
            found = self.note_error(error)
            if look.next_step == NextStep.DELETE_VOLUME and found.code == ErrorCode.VOLUME_CHANGED:
                try:
                    await self.run_uncancellable(
                        steps.mark_ready_again, volume, "record: ready, the old archive is outdated"
                    )
                except FailureError as refused:
                    await self.release()
                    raise self.note_error(refused) from error
                return None
            # Not archived yet, or the deletion met another user: what becomes of the volume is not for this run to say.
            if self.phase == Phase.COMMITTING or found.code in KEEPS_VOLUME:
                await self.release()
                raise found from error
            cleanup, leftovers = True, (self.claimed.home_store_key,) if self.claimed else ()
            workflow.logger.error("archive is proven but its volume could not be deleted: %s", found)
        # After the deletion, and best effort: older versions only take space, and the next archive prunes what stays.
        await self.best_effort(steps.prune_archive, self._archived(evidence), "prune older versions")
        return await self._done(evidence.archive_id, evidence.volume_uid, leftovers, cleanup_required=cleanup)

    def _archived(self, evidence: Evidence) -> ArchivedInput:
        return self.input(
            ArchivedInput,
            volume_uid=evidence.volume_uid,
            fingerprint=evidence.fingerprint,
            archive_id=evidence.archive_id,
        )

    async def _done(
        self,
        archive_id: str | None,
        volume_uid: str | None,
        leftovers: tuple[str, ...],
        *,
        cleanup_required: bool = False,
    ) -> OperationResult:
        """``cleanup_required``: the volume still exists; else this run saw that it is gone."""
        await self.release(gone_uid=None if cleanup_required else volume_uid)
        return self.result(
            archive_key=archive_key(self.workspace_id),
            archive_id=archive_id,
            volume_uid=volume_uid,
            lost_volume_uid=self.lost_volume_uid,
            moved=self.upload is not None,
            cleanup_required=cleanup_required,
            leftovers=leftovers,
            files=self.proof.files,
            raw_bytes=self.proof.raw_bytes,
            stored_bytes=self.proof.stored_bytes,
            sent_again_bytes=max(0, self.sent_bytes - self.proof.stored_bytes) if self.proof.stored_bytes else 0,
            skipped=self.proof.skipped,
        )


def _evidence(look: InspectResult) -> Evidence | None:
    """The evidence that an earlier run left in the record; ``None`` where there is nothing to delete."""
    if look.next_step == NextStep.NOTHING:
        return None
    return Evidence(look.volume_uid or "", look.archive_id or "", look.fingerprint or "")


def _is_upload_lost(error: FailureError) -> bool:
    """True where the step itself reports it. The cause of its failure (``NoSuchUpload``, say) does not matter."""
    failure = error.cause if isinstance(error, ActivityError) else error
    return isinstance(failure, ApplicationError) and failure.type == UPLOAD_LOST
