"""The directories of a root, moved between their places: what is done while the workspace's lock is held.

Every method here blocks and is called in a thread. The next inspection settles what a crash between any two lines left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from activities.backends.base import VolumeView, not_ours
from activities.backends.directory.errors import translated
from activities.backends.directory.layout import Layout, Note, read_note, write_durably
from activities.backends.directory.trash import remove_tree
from activities.runtime import failpoints
from activities.runtime.linux.mounts import mounts_below
from activities.runtime.linux.syscalls import Inode, inode, rename_new, sync_folder
from activities.state.record import Record
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.keys import workspace_of_volume

MODE = 0o700
"""Of a new volume. A restore sets the archive's own; a new home is its owner's alone, as useradd makes it."""

_MADE = failpoints.declare("directory.create.made", effect="the folder stands under its temporary name, without a note")
_NOTED = failpoints.declare("directory.create.noted", effect="the note is durable, the folder has not its name yet")
_PLACED = failpoints.declare("directory.create.placed", effect="the folder has its name, not yet made durable")
_TO_TRASH = failpoints.declare("directory.delete.rename", effect="nothing; the volume is about to be renamed to trash")
_IN_TRASH = failpoints.declare("directory.delete.renamed", effect="the volume stands in the trash")
_TO_BACK = failpoints.declare("directory.trash.back", effect="the volume is in the trash, about to be renamed back")
_BACK = failpoints.declare("directory.trash.restored", effect="the volume has its name again")
_TO_REMOVE = failpoints.declare("directory.trash.remove", effect="a sealed volume is whole in the trash")
_REMOVED = failpoints.declare("directory.trash.removed", effect="the folder is gone, its note still stands")


@dataclass(frozen=True)
class FoundVolume:
    """A directory that exists somewhere, and the note that proves it ours; without a note it is not ours."""

    path: Path
    inode: Inode
    note: Note | None

    @property
    def uid(self) -> str | None:
        """``None`` for a directory that is not ours."""
        return self.note.uid if self.note else None


class VolumeDirectory:
    """All directories of one workspace."""

    def __init__(self, layout: Layout, workspace_id: str) -> None:
        self._layout = layout
        self._workspace_id = workspace_id
        self._volume = layout.volume(workspace_id)
        self._trash = layout.trash(workspace_id)
        self._making = layout.making(workspace_id)
        self._note = layout.note(workspace_id)

    def volume(self) -> FoundVolume | None:
        """What exists under the volume's name, even a directory that is not ours, a file or a link."""
        return self._at(self._volume)

    def settle(self, record: Record, *, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Clear what a crash left: a sealed or given up volume is removed from the trash, another renamed back.

        ``VolumeConflict`` where something else took the name meanwhile; both are kept.
        """
        with translated(f"what was left of {self._volume.name} cannot be settled"):
            if inode(self._making) is not None:
                os.rmdir(self._making)
            trash = self._at(self._trash)
            if trash is None:
                self._drop_note(record)
            elif trash.uid is not None and record.is_disposable(trash.uid):
                self.remove(trash, is_stopped=is_stopped)
            else:
                self.put_back()

    def create(self, uid: str, restored_from: str | None, spec: Mapping[str, str]) -> VolumeView:
        """A new empty volume; the one of this uid if it exists already. ``VolumeConflict`` for any other."""
        found = self.volume()
        if found is not None:
            if found.uid != uid:
                raise StorageError(
                    ErrorCode.VOLUME_CONFLICT, f"{self._volume} exists already (uid {found.uid}), it is kept"
                )
            return self.view(found)
        with translated(f"volume {self._volume.name} cannot be created"):
            os.mkdir(self._making, MODE)
            os.chmod(self._making, MODE)
            failpoints.reach_in_thread(_MADE)
            made = inode(self._making)
            assert made is not None
            note = Note(
                workspace_id=self._workspace_id,
                uid=uid,
                inode=made.number,
                born_ns=made.born_ns,
                restored_from=restored_from,
                spec=dict(spec),
            )
            # The note before the name: a directory with a volume's name and no note would never count as ours.
            write_durably(self._note, note.model_dump_json(exclude_none=True).encode() + b"\n")
            failpoints.reach_in_thread(_NOTED)
            try:
                rename_new(self._making, self._volume)
            except FileExistsError as error:
                raise StorageError(
                    ErrorCode.VOLUME_CONFLICT, f"{self._volume} appeared while it was being made; it is kept"
                ) from error
            failpoints.reach_in_thread(_PLACED)
            sync_folder(self._layout.root)
        return self.view(FoundVolume(self._volume, made, note))

    def to_trash(self, found: FoundVolume) -> FoundVolume:
        """Take the volume away from its name, so that no new process can open it. ``VolumeInUse`` for a mount in it."""
        mounts = mounts_below(found.path)
        if mounts:
            raise StorageError(ErrorCode.VOLUME_IN_USE, f"{found.path} has mounts: {', '.join(mounts)}")
        with translated(f"volume {found.path.name} cannot be moved to the trash"):
            failpoints.reach_in_thread(_TO_TRASH)
            rename_new(found.path, self._trash)
            failpoints.reach_in_thread(_IN_TRASH)
        moved = self._at(self._trash)  # by its inode: what was moved may not be what was inspected
        if moved is None or moved.uid != found.uid:
            self.put_back()
            raise StorageError(ErrorCode.VOLUME_CONFLICT, f"{found.path} was replaced meanwhile; it is kept")
        return moved

    def put_back(self) -> None:
        """Undo ``to_trash``, if it was done. ``VolumeConflict`` if something else has taken the name; both are kept."""
        with translated(f"{self._trash} cannot be renamed back"):
            if inode(self._trash) is None:
                return
            failpoints.reach_in_thread(_TO_BACK)
            try:
                rename_new(self._trash, self._volume)
            except FileExistsError as error:
                raise StorageError(
                    ErrorCode.VOLUME_CONFLICT,
                    f"{self._volume} was made by somebody while the volume of that name stands in {self._trash}; "
                    "both are kept",
                    hint="Move away the one that is not wanted, and call again.",
                ) from error
            failpoints.reach_in_thread(_BACK)
            sync_folder(self._layout.root)

    def remove(self, trash: FoundVolume, *, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Destroy what is in the trash, then its note: as long as any of it is left, it can be identified."""
        with translated(f"{self._trash} cannot be removed"):
            failpoints.reach_in_thread(_TO_REMOVE)
            remove_tree(trash.path, trash.inode, is_stopped=is_stopped)
            failpoints.reach_in_thread(_REMOVED)
            # On disk before the note is removed: after a power cut, bytes without a note would not be known as ours.
            sync_folder(self._trash.parent)
            sync_folder(self._layout.root)
            self._note.unlink(missing_ok=True)
            sync_folder(self._note.parent)

    def view(self, found: FoundVolume) -> VolumeView:
        """What the Protocol returns for it, but for its users. Size and class are what was asked for, not enforced."""
        return VolumeView(
            home_store_key=self._volume.name,
            uid=found.uid,
            restored_from=found.note.restored_from if found.note else None,
            spec=dict(found.note.spec) if found.note else {},
        )

    def _at(self, path: Path) -> FoundVolume | None:
        with translated(f"{path} cannot be looked at"):
            found = inode(path)
            if found is None:
                return None
            root = inode(self._layout.root)
            note = read_note(self._note)
            is_ours = note is not None and root is not None and note.is_of(found, root)
            if note is not None and is_ours and note.workspace_id != self._workspace_id:
                raise not_ours(str(path), note.uid, note.workspace_id, self._workspace_id)
            return FoundVolume(path, found, note if is_ours else None)

    def _drop_note(self, record: Record) -> None:
        """Remove a note whose directory is gone, unless the record still has that volume (a person moved it)."""
        note = read_note(self._note)
        if note is not None and self.volume() is None:
            is_awaited = record.volume is not None and record.volume.uid == note.uid
            if not is_awaited or record.is_disposable(note.uid):
                self._note.unlink(missing_ok=True)


def volumes_in(layout: Layout) -> Iterator[tuple[str, str | None]]:
    """The workspaces that have a volume in the root or in the trash, and its uid, where its note says so."""
    with translated(f"{layout.root} cannot be listed"):
        names = {entry.name for entry in layout.root.iterdir()}
        trash = {entry.name for entry in layout.trash("").iterdir()}
    for workspace_id in sorted(trash | {found for found in map(_workspace_of, names) if found}):
        note = read_note(layout.note(workspace_id))
        place = layout.trash(workspace_id) if workspace_id in trash else layout.volume(workspace_id)
        found, root = inode(place), inode(layout.root)
        is_ours = note is not None and found is not None and root is not None and note.is_of(found, root)
        yield workspace_id, note.uid if note is not None and is_ours and note.workspace_id == workspace_id else None


def _workspace_of(name: str) -> str | None:
    try:
        return workspace_of_volume(name)
    except StorageError:
        return None
