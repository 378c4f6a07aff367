"""The object store as a mover uses it: every call keeps the activity's heartbeat going."""

from __future__ import annotations

import contextlib
import inspect
from functools import wraps
from typing import Any, cast

from activities.objectstore.base import ObjectStore
from activities.runtime.heartbeats import current_progress


class _BeatingStore:
    """Passes on every call, and touches the current activity's progress while it waits for the result."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._store, name)
        if not inspect.iscoroutinefunction(member):
            return member

        @wraps(member)
        async def beaten(*args: Any, **kwargs: Any) -> Any:
            progress = current_progress()
            async with progress.bounded() if progress is not None else contextlib.nullcontext():
                return await member(*args, **kwargs)

        return beaten


def beating_store(store: ObjectStore) -> ObjectStore:
    """The store as data activities use it: a call may take as long as its own time-out, far beyond a heartbeat's."""
    return cast(ObjectStore, _BeatingStore(store))
