"""The root as a place with an identity: what `init` writes, and what every other step checks first."""

from __future__ import annotations

import json
import os
from uuid import uuid4

from activities.backends.directory.errors import translated
from activities.backends.directory.layout import OWN_FOLDER, PARTS, Layout, write_durably
from activities.runtime import failpoints
from activities.runtime.linux.syscalls import rename_new, sync_folder
from codehub_storage.errors import ErrorCode, StorageError

_MARK = failpoints.declare("directory.mark.prepared", effect="the folders stand, the place has no identity yet")


def read_identity(layout: Layout) -> str | None:
    """The root's identity; ``None`` if it has none, or is not there. ``WrongStore`` if it cannot be understood."""
    with translated(f"the identity of {layout.root} cannot be read"):
        try:
            data = layout.identity.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
    try:
        return str(json.loads(data)["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(ErrorCode.WRONG_STORE, f"{layout.identity} is damaged") from error


def write_identity(layout: Layout, identity: str, *, adopt: bool) -> str:
    """Mark the root, or return the mark that it has. Of two calls at a time one wins, and both return its identity.

    ``WrongStore`` for a root that holds something, unless ``adopt``; ``BackendUnavailable`` where the file system
    cannot rename without replacing.
    """
    found = read_identity(layout)
    if found is not None:
        return found
    with translated(f"{layout.root} cannot be marked"):
        layout.root.mkdir(parents=True, exist_ok=True)
        strangers = sorted(set(os.listdir(layout.root)) - {OWN_FOLDER, "lost+found"})
        if strangers and not adopt:
            raise StorageError(
                ErrorCode.WRONG_STORE,
                f"{layout.root} is not empty: {', '.join(strangers[:5])}",
                hint="Is this the right folder? If so, `init --adopt` keeps what is there.",
            )
        layout.own.mkdir(mode=0o700, exist_ok=True)
        for part in PARTS:
            (layout.own / part).mkdir(mode=0o700, exist_ok=True)
        failpoints.reach_in_thread(_MARK)
        draft = layout.own / f"place.{uuid4().hex}.json"
        write_durably(draft, json.dumps({"format_version": 1, "identity": identity}).encode() + b"\n")
        try:
            rename_new(draft, layout.identity)
        except FileExistsError:
            draft.unlink()
        sync_folder(layout.own)
        sync_folder(layout.root)
    return read_identity(layout) or identity
