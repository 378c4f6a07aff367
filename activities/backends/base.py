"""What a volume backend does: the one Protocol that directories, Docker volumes and Kubernetes claims share.

A volume carries only what never changes: our random uid, the workspace, the archive that it was restored from.
Changing state is in the record. Backends do not know Temporal, nor one another. A volume names the workspace that it
belongs to. If that is not the one asked for, every method raises ``VolumeConflict`` and the volume is kept.
Errors: ``BackendUnavailable`` (retry), ``VolumeConflict``, ``VolumeInUse``, ``NoSpace``, ``AccessDenied``,
``WrongStore``, ``MoverFailed``, ``Unsupported``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from activities.state.record import Record
from codehub_storage.errors import ErrorCode, StorageError

Fence = Callable[[], Awaitable[Record]]
"""Reads the record again and returns it; raises ``NotYours`` if another run owns the workspace by now."""

Walk = Callable[[], Awaitable[str]]
"""Walks the volume and returns its change fingerprint."""


def not_ours(name: str, uid: str | None, says: str | None, workspace_id: str) -> StorageError:
    """``VolumeConflict``, for a volume that names another workspace as its own."""
    return StorageError(
        ErrorCode.VOLUME_CONFLICT,
        f"{name} (uid {uid}) says that it belongs to workspace {says!r}, not to {workspace_id}; it is kept",
    )


class Presence(StrEnum):
    """``pending``: exists, but has no storage yet. ``terminating``: is being deleted; wait until it is gone."""

    PRESENT = "present"
    PENDING = "pending"
    TERMINATING = "terminating"


@dataclass(frozen=True)
class VolumeUser:
    """A user of the volume. ``stopped``: holds it, but does not run. ``ours``: has this workspace's label."""

    name: str
    stopped: bool = False
    ours: bool = False


@dataclass(frozen=True)
class VolumeView:
    """A volume as it is now. ``uid`` is ``None`` for a volume that is not ours. ``users`` is ``None`` where no
    users were looked for: that is no volume without users.
    """

    home_store_key: str
    uid: str | None
    restored_from: str | None = None
    presence: Presence = Presence.PRESENT
    users: tuple[VolumeUser, ...] | None = ()
    capacity_bytes: int | None = None
    spec: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MoverSpec:
    """A mover to start. ``environment`` has no credentials; the mover takes those from its own surroundings.

    ``protocol``: which steps and messages it and its lease speak; one of another number is not adopted.
    """

    workspace_id: str
    volume_uid: str
    run_id: str
    queue: str
    writable: bool
    environment: Mapping[str, str] = field(default_factory=dict)
    protocol: int = 0


class Mover(Protocol):
    """A running mover."""

    async def wait(self, timeout: float) -> str | None:
        """``None`` while it lives after ``timeout`` seconds, else why it ended (exit status, last log lines)."""
        ...

    async def stop(self) -> None:
        """End it and all its children, and return only when they are known to be gone. May be called twice."""
        ...


@dataclass(frozen=True)
class Deletion:
    """The two duties of a backend before it destroys a volume that was handed out once.

    ``check`` raises ``VolumeChanged``; it is given the walk that returns the change fingerprint as it is now, and
    need not take it. The walk may raise ``VolumeInUse``, too. ``seal`` writes the record `deleting`. Each backend looks
    for users itself, owns the order of all three and states the window that remains.
    """

    check: Callable[[Walk], Awaitable[None]]
    seal: Callable[[], Awaitable[None]]


@runtime_checkable
class ReadOnlyBackend(Protocol):
    """A backend whose volumes can be read without a run: nothing is settled, locked, evicted or changed."""

    async def peek(self, workspace_id: str, record: Record) -> VolumeView | None:
        """The volume as it is now, with its users; ``None`` if it does not exist. It may change at any moment."""
        ...

    async def list_volumes(self) -> Mapping[str, str | None]:
        """The workspaces that have volumes here, and the uids; ``None`` for one that is not ours by its own marks."""
        ...


class VolumeBackend(Protocol):
    """One place with volumes: a root directory, a Docker engine, a namespace.

    ``movers_outlive_worker``: a mover continues when the process that started it ends, and any other can adopt it.
    """

    name: str
    movers_outlive_worker: bool

    def home_store_key(self, workspace_id: str) -> str:
        """The name of the workspace's volume here. Pure."""
        ...

    async def identity(self) -> str | None:
        """What distinguishes this place from all others (root's identity file, engine id, namespace uid).

        ``None`` where it has none yet. An unmounted disk looks like a directory without one.
        """
        ...

    async def mark(self, identity: str, *, adopt: bool) -> str:
        """Give the place its identity (`init`), or return the one that it has. Refuses a place that is not empty
        unless ``adopt``."""
        ...

    async def create(
        self, workspace_id: str, uid: str, *, restored_from: str | None, spec: Mapping[str, str], fence: Fence
    ) -> VolumeView:
        """Make the volume; there already with this uid: fine. With another uid: ``VolumeConflict``."""
        ...

    async def inspect(self, workspace_id: str, *, fence: Fence, users: bool = True) -> VolumeView | None:
        """The volume as it is now, with its users; ``None`` if it does not exist.

        What an interrupted deletion left behind is settled first: finished where the record says that the uid is
        disposable, else undone.

        ``users=False``: no users are looked for, which costs a look at every process, container or Pod.
        """
        ...

    async def fingerprint(self, workspace_id: str, uid: str, *, fence: Fence) -> str:
        """The volume's change fingerprint as it is now. ``VolumeNotFound`` if no volume has this uid."""
        ...

    async def delete(self, workspace_id: str, uid: str, *, fence: Fence, deletion: Deletion | None) -> str | None:
        """Remove the volume with this uid and return when it is gone. Missing, or another uid there: nothing to do.

        Returns what still has its bytes, named and why; ``None`` where nothing does.

        ``deletion`` is ``None`` for a volume whose deletion is sealed already: ``fence`` checks that in the record.
        """
        ...

    async def remove_stopped_users(self, workspace_id: str, *, fence: Fence) -> None:
        """Remove those stopped holders that bear this workspace's label."""
        ...

    async def attach(self, spec: MoverSpec, *, fence: Fence, adopt_only: bool = False) -> Mover:
        """Start the mover of this run for this volume; adopt the one that bears this run's id, queue and protocol.

        ``adopt_only``: ``MoverFailed`` instead of starting one (a lease that is tried again must not bring a second
        writer to life). The run's mover of another protocol is ended before that is raised.

        Any other mover of the volume is evicted first, and attach waits until it is known to be gone.
        """
        ...

    async def detach(self, workspace_id: str, uid: str, *, fence: Fence, run_id: str | None = None) -> None:
        """Stop the volume's movers (only those of ``run_id``, if given) and return when they are known to be gone."""
        ...
