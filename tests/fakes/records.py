"""A record in memory, with the fence that a backend reads: the truth that survives the processes under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from activities.backends.base import Deletion, Fence, Walk
from activities.state.record import Owner, Record, VolumeRecord, VolumeState
from codehub_storage.errors import ErrorCode, StorageError


class RecordFile:
    """One workspace's record in a file, so that a killed process and its successor share it."""

    def __init__(self, path: Path, workspace_id: str = "ws1", run_id: str = "run-1") -> None:
        self.path = path
        self.workspace_id = workspace_id
        self.run_id = run_id
        if not path.exists():
            self.write(Record(workspace_id=workspace_id, place="default", owner=Owner(run_id=run_id, operation="x")))

    def read(self) -> Record:
        """The record as it is."""
        return Record.model_validate_json(self.path.read_bytes())

    def write(self, record: Record) -> None:
        """Replace it atomically."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(record.model_dump_json())
        fresh.rename(self.path)

    def claim(self, run_id: str) -> RecordFile:
        """The same record, now owned by and seen from another run."""
        self.write(self.read().model_copy(update={"owner": Owner(run_id=run_id, operation="x")}))
        return RecordFile(self.path, self.workspace_id, run_id)

    def volume(self, uid: str, state: VolumeState) -> None:
        """Announce a volume, or its next state."""
        self.write(self.read().with_volume(VolumeRecord(uid=uid, state=state)))

    def give_up(self) -> None:
        """Clear the volume; its uid is given up."""
        self.write(self.read().with_volume(None))

    @property
    def fence(self) -> Fence:
        """``NotYours`` unless our run owns the record."""

        async def check() -> Record:
            record = self.read()
            if record.owner.run_id != self.run_id:
                raise StorageError(ErrorCode.NOT_YOURS, f"owned by {record.owner.run_id}")
            return record

        return check

    def deletion(
        self,
        *,
        fails: Exception | None = None,
        at_check: Callable[[], object] = lambda: None,
        at_seal: Callable[[], object] = lambda: None,
    ) -> Deletion:
        """A check that passes (or raises ``fails``), and the seal; with what happens in the world meanwhile."""

        async def check(walk: Walk) -> None:
            at_check()
            if fails is not None:
                raise fails

        async def seal() -> None:
            record = await self.fence()
            assert record.volume is not None
            self.volume(record.volume.uid, VolumeState.DELETING)
            at_seal()

        return Deletion(check=check, seal=seal)
