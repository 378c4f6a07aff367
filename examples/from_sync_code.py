"""codehub-storage from code that is not async: a script, a Django command, a Celery task.

``SyncStorage`` keeps one event loop and one connection, and runs each call on them to its end. It belongs to the thread
that made it; give each thread one of its own. Where a loop runs already (async views), use ``StorageClient`` itself.

In a Django management command:

    def handle(self, *args, **options):
        with SyncStorage() as storage:
            for workspace in Workspace.objects.filter(status="WARM", last_used__lt=month_ago):
                workspace.archive_key = storage.archive(workspace.home_store_key)
                workspace.save()

As a script it takes a workspace through its life, with TEMPORAL_ADDRESS and the like in the environment:

    python examples/from_sync_code.py ws1
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from codehub_storage import OperationHandle, StorageClient, StorageError

LOOK_SECONDS = 0.5

T = TypeVar("T")


class SyncStorage:
    """``StorageClient`` whose calls block. Use it in a ``with`` block, or ``close`` it.

    Ctrl-C ends the call, not the operation: made again, it joins the run that is open.
    """

    def __init__(self, place: str = "default") -> None:
        self._runner = asyncio.Runner()
        try:
            self.client = self.run(StorageClient.connect(place=place))
        except BaseException:
            self.close()
            raise

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Any call of ``client``, or of a handle that it gave, to its end."""
        return self._runner.run(call)

    def provision(self, workspace_id: str) -> str:
        """See ``StorageProvider.provision``."""
        return self.run(self.client.provision(workspace_id))

    def archive(self, home_store_key: str) -> str:
        """See ``StorageProvider.archive``."""
        return self.run(self.client.archive(home_store_key))

    def restore(self, archive_key: str) -> str:
        """See ``StorageProvider.restore``."""
        return self.run(self.client.restore(archive_key))

    def purge(self, home_store_key: str | None, archive_key: str | None) -> None:
        """See ``StorageProvider.purge``."""
        self.run(self.client.purge(home_store_key, archive_key))

    def close(self) -> None:
        """End the loop; open operations go on."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def follow(storage: SyncStorage, handle: OperationHandle) -> None:
    """Print each phase of a started operation as it is seen, until the end. ``StorageError`` if it fails."""
    told = None
    while not (seen := storage.run(handle.progress())).closed:
        if seen.phase != told:
            told = seen.phase
            print(f"  {seen.phase}: {seen.bytes_done:,} of {seen.bytes_total:,} bytes")
        time.sleep(LOOK_SECONDS)
    storage.run(handle.result())


def main() -> None:
    """A workspace's life: made, archived with a look now and then, restored, removed."""
    parser = argparse.ArgumentParser(description="Take a new workspace through its life, without async code.")
    parser.add_argument("workspace_id")
    parser.add_argument("--place", default="default")
    arguments = parser.parse_args()
    try:
        with SyncStorage(arguments.place) as storage:
            home_store_key = storage.provision(arguments.workspace_id)
            print(f"provisioned {home_store_key}")
            follow(storage, storage.run(storage.client.start_archive(home_store_key)))
            archive_key = storage.archive(home_store_key)  # it is archived: the same call returns at once
            print(f"archived    {archive_key}")
            print(f"restored    {storage.restore(archive_key)}")
            storage.purge(home_store_key, archive_key)
            print("purged")
    except StorageError as error:
        sys.exit(f"{error} ({error.hint})")


if __name__ == "__main__":
    main()
