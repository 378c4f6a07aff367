"""What each command prints with `--json`: a model for each answer, whose JSON is printed as it is.

docs/json.md is written from these classes. Answers only grow: a key is never renamed, retyped or removed. Values are
those of JSON: times are RFC 3339 text, sizes are bytes, durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import to_jsonable_python

from activities.backends.base import Presence
from activities.dataplane.manifest import Source, StoredObject, Totals, VolumeBlock
from activities.state.record import Record
from codehub_storage.contracts import CancelOutcome, OperationResult, Progress
from codehub_storage.errors import StorageError

MAY_BE_ABSENT = "mayBeAbsent"
"""Marks such a field in the schema."""

_PROVEN = "a manifest names it by key, size, id and checksum"


class Answer(BaseModel):
    """Base of all that is printed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _maybe(description: str) -> Any:
    """A field that is absent, and not null, where there is nothing to report."""
    return Field(
        default=None,
        description=description,
        exclude_if=lambda value: value is None,
        json_schema_extra={MAY_BE_ABSENT: True},
    )


# ------------------------------------------------------------ what any command may print


class ErrorObject(Answer):
    """What went wrong."""

    code: str = Field(description="one of the closed list of docs/errors.md")
    message: str = Field(description="what is wrong")
    retryable: bool = Field(description="the same call may succeed later although nobody repaired anything")
    hint: str = Field(description="what a person does about it")
    details: dict[str, JsonValue] | None = _maybe("more for programs, where there is more")
    safe: str | None = _maybe("of an operation: what of the home is certain to be there still")
    web_ui: str | None = _maybe("where Temporal's web UI shows the run")

    @classmethod
    def of(cls, error: StorageError, *, safe: str | None = None, web_ui: str | None = None) -> ErrorObject:
        """The error, and what the command knows besides."""
        return cls(
            code=error.code.value,
            message=error.message,
            retryable=error.retryable,
            hint=error.hint,
            details=to_jsonable_python(error.details, fallback=str) or None,
            safe=safe,
            web_ui=web_ui,
        )


class Known(Answer):
    """What a command knew when it ended; absent is what it did not know."""

    operation: str | None = _maybe("the operation that was started")
    workspace_id: str | None = _maybe("the workspace that was named")
    run_id: str | None = _maybe("the run that was started, or joined")
    home_store_key: str | None = _maybe("the volume that was named")
    archive_key: str | None = _maybe("the archive that was named")


class Failed(Known):
    """A command that failed. The exit status shows the kind of failure."""

    error: ErrorObject = Field(description="why")


class Interrupted(Known):
    """A command that was ended by Ctrl-C or SIGTERM. An operation that it started continues."""

    interrupted: Literal[True] = Field(default=True, description="always true")


# ------------------------------------------------------------ operations


class Started(Answer):
    """With `--no-wait`: which run it is."""

    operation: str = Field(description="provision, archive, restore or purge")
    workspace_id: str = Field(description="whose home it is")
    run_id: str = Field(description="the run, as Temporal names it")


class CancelAnswer(Answer):
    """What the cancel achieved."""

    workspace_id: str = Field(description="whose operation it was")
    outcome: CancelOutcome = Field(description="cancelled: as it was before; too_late: the operation is done")


# ------------------------------------------------------------ setting up


class CapabilitiesAnswer(Answer):
    """What the store does beyond the least that is demanded, as `init` found it."""

    conditional_delete: bool = Field(description="it obeys If-Match on DELETE")
    full_object_crc: bool = Field(description="it keeps CRC-64/NVME over whole objects")


class InitAnswer(Answer):
    """What was marked, now or before."""

    bucket: str = Field(description="the bucket")
    place: str = Field(description="name of the volume place")
    store_id: str = Field(description="identity of the bucket")
    place_identity: str = Field(description="identity of the place")
    capabilities: CapabilitiesAnswer = Field(description="what the store can do")
    settle_seconds: float = Field(description="wait between the end of an upload and its proof")
    epoch: int = Field(description="1, and one more for each time that a copy of the bucket was adopted")


class AdoptAnswer(Answer):
    """The volume that was taken over."""

    home_store_key: str = Field(description="its name")
    volume_uid: str = Field(description="the uid by which it is known from now on")


# ------------------------------------------------------------ looking


class VerifyAnswer(Answer):
    """An archive that is whole."""

    archive_key: str = Field(description="object key of the archive")
    archive_id: str = Field(description="which archive it is")
    volume_uid: str | None = Field(description="the volume that it was made from")
    version_id: str | None = Field(description="the object's version; null on a bucket without versions")
    files: int = Field(description="regular files")
    raw_bytes: int = Field(description="bytes of file content")
    stored_bytes: int = Field(description="bytes of the archive object")
    proven: bool = Field(description=f"{_PROVEN}; false for an archive made elsewhere")
    manifest_written: bool = Field(description="the manifest was missing and has been written")


class RunRow(Answer):
    """A run as the server lists it."""

    workspace_id: str | None = Field(description="whose home it moves")
    operation: str = Field(description="provision, archive, restore or purge")
    status: str = Field(description="running, completed, failed, canceled, terminated, timed_out")
    phase: str | None = Field(description="where it stands, or stood last")
    bytes: int | None = Field(description="bytes moved so far, where it says so")
    run_id: str = Field(description="the run, as Temporal names it")
    started_at: str = Field(description="when it began")
    seconds: float = Field(description="how long it took, or has been running")
    problem: str | None = Field(default=None, description="why it does not get on; null where nothing keeps it")
    link: str | None = Field(description="where Temporal's web UI shows it; null where no web UI is known")


class RunsAnswer(Answer):
    """Without a workspace: what runs and what ran."""

    open: list[RunRow] = Field(description="operations that run")
    ended: list[RunRow] = Field(description="operations that ended, the last one first")


State = Literal["warm", "cold", "both", "moving", "unfinished", "unproven", "lost", "empty", "unknown"]


class WorkspaceRow(Answer):
    """One workspace."""

    workspace_id: str = Field(description="the workspace")
    state: State = Field(
        description="warm: it has a volume; cold: it has a proven archive; both; moving: an operation is open; "
        "unfinished: an operation ended before its end, call it again; unproven: only an archive that no manifest "
        "proves, or that was made elsewhere; lost: its volume was ready and is not there, or "
        "became an archive that is gone; empty: neither; unknown: it could not be found out"
    )
    place: str | None = Field(description="where it lives")
    volume_uid: str | None = Field(description="the volume that it has, by its record")
    volume_seen: bool | None = Field(
        description="that volume stands at the place of these settings; null where nobody could look"
    )
    archive_key: str | None = Field(description="the archive that is stored")
    archive_id: str | None = Field(description="which archive that is")
    archive_bytes: int | None = Field(description="bytes of that object")
    archived_at: str | None = Field(description="when it was made")
    archive_age_seconds: float | None = Field(description="how long ago that was")
    operation: str | None = Field(description="the last operation that is known")
    status: str | None = Field(description="its status; null where only the record knows of it")
    phase: str | None = Field(description="where it stands, or stood last")
    run_id: str | None = Field(description="its run")
    started_at: str | None = Field(description="when it began")
    problem: str | None = Field(description="why the store's side is not known")


class ListAnswer(Answer):
    """The workspaces, by name."""

    workspaces: list[WorkspaceRow] = Field(description="one for each workspace")
    error: ErrorObject | None = _maybe("only where Temporal or the store did not answer")


class ShownArchive(Answer):
    """What is stored of an archive, and what its manifest holds; null where no manifest holds it."""

    archive_key: str = Field(description="object key of the archive")
    archive_id: str | None = Field(description="which archive the manifest names")
    stored_bytes: int = Field(description="bytes of the object")
    proven: bool = Field(description=_PROVEN)
    created_at: str | None = Field(description="when it was made")
    totals: Totals | None = Field(description="what is in it")
    source: Source | None = Field(description="what it was made from")
    object: StoredObject | None = Field(description="the object that the manifest proves")
    volume: VolumeBlock | None = Field(description="what a volume like the archived one needs")
    content_fingerprint: str | None = Field(description="digest over the whole tree")
    segments: int = Field(description="members of the archive that can be read by themselves")
    format_version: int | None = Field(description="format of the manifest")


class KeptArchive(Answer):
    """An older archive that `restore --archive-id` brings back."""

    archive_id: str = Field(description="its id")
    created_at: str = Field(description="when it was made")
    stored_bytes: int = Field(description="bytes of its object")
    files: int = Field(description="regular files")
    version_id: str | None = Field(description="version of its object")


class ShownUser(Answer):
    """Who has the volume."""

    name: str = Field(description="a process, a container or a Pod")
    stopped: bool = Field(description="it holds the volume, but does not run")
    ours: bool = Field(description="it bears the workspace's label")


class ShownVolume(Answer):
    """A volume, as its backend reports it."""

    home_store_key: str = Field(description="its name")
    uid: str | None = Field(description="its uid; null for a volume that is not ours")
    restored_from: str | None = Field(description="the archive that it came from")
    presence: Presence = Field(description="pending: it has no storage yet; terminating: it is being deleted")
    users: list[ShownUser] = Field(description="who has it")
    capacity_bytes: int | None = Field(description="its size, where it has one")
    spec: dict[str, str] = Field(description="what was asked for when it was made")


class ShowAnswer(Answer):
    """With a workspace: all that bucket, backend and Temporal know of it. With ``error``: what the others know."""

    workspace_id: str = Field(description="the workspace")
    operation: Progress | None = Field(
        default=None, description="the latest operation and where it stands; null if the server knows of none"
    )
    record: Record | None = Field(default=None, description="the record; null if the workspace never had one")
    archive: ShownArchive | None = Field(default=None, description="the archive, be it one that was made elsewhere")
    kept: list[KeptArchive] = Field(default=[], description="older archives that are kept, the newest first")
    volume: ShownVolume | None = Field(
        default=None, description="the volume; null if there is none, or it is not known"
    )
    volume_unknown: str | None = Field(default=None, description="why nothing is known of the volume; null if it is")
    volume_lost: bool = Field(
        default=False, description="the record calls it ready, it is not there, and nobody of ours deleted it"
    )
    runs: list[RunRow] = Field(default=[], description="its last runs, the newest first")
    error: ErrorObject | None = _maybe("only where Temporal or the store did not answer")


# ------------------------------------------------------------ about the installation


class SettingAnswer(Answer):
    """One setting."""

    variable: str = Field(description="the environment variable that sets it")
    value: JsonValue = Field(description="the value in force; null if unset; asterisks for a secret that is set")
    source: str = Field(description="environment, stack (running in the data folder), option (--data-dir) or default")


class TemporalAnswer(Answer):
    """How Temporal is reached."""

    address: str = Field(description="host:port")
    namespace: str = Field(description="the namespace")
    profile: str | None = Field(description="profile of Temporal's configuration file, if one was named")
    tls: bool = Field(description="the connection is encrypted")
    api_key: bool = Field(description="an API key is set")
    source: str = Field(description="where the address comes from: environment, stack, file or default")
    web_ui: str | None = Field(description="where links lead to")


class ConfigAnswer(Answer):
    """The settings in force."""

    settings: list[SettingAnswer] = Field(description="all of them, in the order of docs/cli.md")
    temporal: TemporalAnswer = Field(description="the connection, which has variables of its own")


class Verdict(StrEnum):
    """Of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILS = "fails"
    SKIPPED = "skipped"


class CheckAnswer(Answer):
    """One check."""

    check: str = Field(description="its name; names stay")
    state: Verdict = Field(description="skipped: not looked at, because what it needs fails")
    text: str = Field(description="what was found")
    hint: str | None = Field(description="what a person does about it")
    retryable: bool = Field(description="it fails, but may be well later although nobody repaired anything")
    seconds: float = Field(description="how long the look took")


class DoctorAnswer(Answer):
    """What was checked."""

    checks: list[CheckAnswer] = Field(description="one for each check")
    fails: int = Field(description="how many fail")
    warnings: int = Field(description="how many warn")


class VersionAnswer(Answer):
    """Versions of all that takes part."""

    service: str = Field(description="distribution codehub-storage-service")
    client: str = Field(description="distribution codehub-storage")
    python: str = Field(description="the interpreter")
    archive_format: int = Field(description="format of the manifests that are written")
    temporal_sdk: str = Field(description="distribution temporalio")
    temporal_server: str | None = Field(description="the server; null where none is set up, or it does not answer")
    store: str | None = Field(description="what the S3 server calls itself; null as above")


class CompletionAnswer(Answer):
    """A script for a shell."""

    shell: str = Field(description="bash, zsh or fish")
    script: str = Field(description="what the shell sources")


COMMON: tuple[type[Answer], ...] = (Failed, Interrupted)
"""What any command may print instead of its answer."""

_OPERATION = (OperationResult, Started)
ANSWERS: Mapping[str, tuple[type[BaseModel], ...]] = {
    "dev": (),
    "worker": (),
    "init": (InitAnswer,),
    "adopt": (AdoptAnswer,),
    "provision": _OPERATION,
    "archive": _OPERATION,
    "restore": _OPERATION,
    "purge": _OPERATION,
    "cancel": (CancelAnswer,),
    "verify": (VerifyAnswer,),
    "list": (ListAnswer,),
    "show": (ShowAnswer, RunsAnswer),
    "config": (ConfigAnswer,),
    "doctor": (DoctorAnswer,),
    "version": (VersionAnswer,),
    "completion": (CompletionAnswer,),
}
"""What a command prints when it does not fail: one of these. Nothing for those that run until a signal."""
