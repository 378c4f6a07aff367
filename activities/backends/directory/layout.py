"""Where things are below a volume root, and the note beside each volume.

ws_{id}_home                  the volume
.codehub/place.json           identity of the root; absent on a disk that is not mounted
.codehub/volumes/{id}.json    note: which directory the volume is (by inode), its uid and origin
.codehub/making/{id}          a volume before it has its name
.codehub/trash/{id}           a volume whose deletion is being decided or done
.codehub/locks/{id}.lock      held by the process that changes any of these, and by the mover
.codehub/logs/{id}.log        output of the last mover
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from activities.runtime.linux.syscalls import Inode, sync_folder
from codehub_storage.keys import volume_key

OWN_FOLDER = ".codehub"
PARTS = ("volumes", "making", "trash", "locks", "logs")


class Layout:
    """The paths of one root."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(os.path.realpath(root))
        self.own = self.root / OWN_FOLDER
        self.identity = self.own / "place.json"

    @staticmethod
    def name(workspace_id: str) -> str:
        """The name of the workspace's volume."""
        return volume_key(workspace_id, "directory")

    def volume(self, workspace_id: str) -> Path:
        """The directory that is handed out."""
        return self.root / self.name(workspace_id)

    def note(self, workspace_id: str) -> Path:
        """The note that names the directory which is the volume."""
        return self.own / "volumes" / f"{workspace_id}.json"

    def making(self, workspace_id: str) -> Path:
        """Where a new volume is until its note is durable."""
        return self.own / "making" / workspace_id

    def trash(self, workspace_id: str) -> Path:
        """The one trash slot of the workspace."""
        return self.own / "trash" / workspace_id

    def lock(self, workspace_id: str) -> Path:
        """The lock file. Never removed: a lock on a file without a name excludes no process."""
        return self.own / "locks" / f"{workspace_id}.lock"

    def log(self, workspace_id: str) -> Path:
        """What the last mover printed."""
        return self.own / "logs" / f"{workspace_id}.log"


class Note(BaseModel):
    """The sidecar of a volume. It names the directory by inode, so the uid moves with the directory and not with the
    name.

    The device number is not kept, since it changes from boot to boot: the directory must be on the root's own device.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = 1
    workspace_id: str
    uid: str
    inode: int
    born_ns: int | None = None
    restored_from: str | None = None
    spec: Mapping[str, str] = Field(default_factory=dict)

    def is_of(self, folder: Inode, root: Inode) -> bool:
        """True if this note was written for ``folder``."""
        same_birth = self.born_ns is None or folder.born_ns is None or self.born_ns == folder.born_ns
        return folder.is_folder and folder.is_same_mount(root) and folder.number == self.inode and same_birth


def read_note(path: Path) -> Note | None:
    """``None`` if there is none, or none that can be read: the directory is then not ours."""
    try:
        return Note.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small file so that after a power cut it is the old or the new one, whole."""
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(fresh, path)
    sync_folder(path.parent)
