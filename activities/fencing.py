"""The fence: who may write is read again right before each write, from the one record that changes atomically.

The record names the run that claimed it, as ``activity.info()`` has it. A reset run that replays an old claim has a
new run id and is locked out; late attempts and zombies of older runs likewise. Only the record's PUT If-Match is
atomic. Every other write is check-then-act and leans on a uid, an upload id, `deleting`, a lock or waiting.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from activities.objectstore.base import ObjectStore, PreconditionFailed
from activities.record import Owner, Record
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import record_key

RACES = 5
"""So often a refused PUT is looked at again before it counts as the store's fault."""


async def read_record(store: ObjectStore, workspace_id: str) -> tuple[Record, str] | None:
    """The record and its ETag; ``None`` if the workspace has none. ``ArchiveCorrupt`` if it cannot be read."""
    found = await store.get(record_key(workspace_id))
    if found is None:
        return None
    data, info = found
    try:
        return Record.model_validate_json(data), info.etag
    except ValidationError as error:
        raise StorageError(
            ErrorCode.ARCHIVE_CORRUPT,
            f"the record {record_key(workspace_id)} cannot be read",
            hint="Somebody else wrote to it. Restore an older version of that object.",
        ) from error


class FencedRecord:
    """The record of one workspace as one run may read and change it."""

    def __init__(self, store: ObjectStore, workspace_id: str, run_id: str) -> None:
        self._store = store
        self._workspace_id = workspace_id
        self._run_id = run_id

    @property
    def workspace_id(self) -> str:
        """The workspace whose record this is."""
        return self._workspace_id

    @property
    def run_id(self) -> str:
        """The run whose fence this is."""
        return self._run_id

    async def claim(self, place: str, operation: str) -> Record | None:
        """Become the owner; claiming again is fine. Answers the record as it was before, ``None`` if there was none.

        ``WrongStore`` if the workspace lives in another place.
        """
        found = await read_record(self._store, self._workspace_id)
        owner = Owner(run_id=self._run_id, operation=operation)
        if found is None:
            record = Record(workspace_id=self._workspace_id, place=place, owner=owner)
            etag, before = None, None
        else:
            before, etag = found
            if before.place != place:
                raise StorageError(
                    ErrorCode.WRONG_STORE,
                    f"workspace {self._workspace_id} lives in place {before.place!r}, not in {place!r}",
                    hint="Call with the place of the workspace.",
                )
            if before.owner.run_id == self._run_id:
                return before
            record = before.model_copy(update={"owner": owner, "revision": before.revision + 1})
        if await self._put(record, etag):
            return before
        # No second look here: a late claim of a dead run would take the record from the one that lives.
        raise self._contended()

    async def check(self) -> Record:
        """The record as it is now. ``NotYours`` if another run owns it."""
        return (await self._read())[0]

    async def change(self, edit: Callable[[Record], Record]) -> Record:
        """Change the record by PUT If-Match and answer it. ``edit`` sees the record as it is now; may refuse.

        An edit that changes nothing writes nothing. A late attempt looks again here and may get through, so every
        edit must be right whenever it lands in its run: it compares the state that it goes by.
        """
        for _ in range(RACES):
            record, etag = await self._read()
            edited = edit(record)
            if edited == record:
                return record
            edited = edited.model_copy(update={"revision": record.revision + 1})
            if await self._put(edited, etag):
                return edited
        raise self._contended()

    async def sign_off(self) -> None:
        """Say that this run writes nothing more; again is fine. After it every other read here is ``NotYours``."""
        found = await read_record(self._store, self._workspace_id)
        if found is not None and found[0].owner.run_id == self._run_id and found[0].owner.signed_off:
            return

        def edit(record: Record) -> Record:
            return record.model_copy(update={"owner": record.owner.model_copy(update={"signed_off": True})})

        await self.change(edit)

    async def _read(self) -> tuple[Record, str]:
        found = await read_record(self._store, self._workspace_id)
        signed_off = found is not None and found[0].owner.signed_off
        if found is None or found[0].owner.run_id != self._run_id or signed_off:
            raise StorageError(
                ErrorCode.NOT_YOURS,
                f"workspace {self._workspace_id} is owned by "
                f"{'nobody' if found is None else 'run ' + found[0].owner.run_id}, not by run {self._run_id}"
                + (", which signed off" if signed_off else ""),
            )
        return found

    async def _put(self, record: Record, etag: str | None) -> bool:
        """False if somebody else wrote first."""
        try:
            await self._store.put_if(
                record_key(self._workspace_id), record.model_dump_json(exclude_none=True).encode(), etag=etag
            )
        except PreconditionFailed:
            return False
        return True

    def _contended(self) -> StorageError:
        return StorageError(
            ErrorCode.STORE_UNAVAILABLE,
            f"the record of workspace {self._workspace_id} was changed while it was being written",
        )
