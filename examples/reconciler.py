"""A small reconciler: it owns the rows of workspaces and asks codehub-storage to move their homes.

It may be killed at any moment, also with kill -9, and started again without knowing what it was doing. Four rules make
that so, and they are all there is to know about calling the service:

1. **Intent before act.** The operation is written into the row before the call, the result after it, each in one
   statement. So a row never claims what has not happened.
2. **After a crash, call again.** A row that has an operation makes the same call as before. It joins the run that is
   still open, continues where an ended one stopped, or returns at once. Nothing is to be looked up, no run remembered.
3. **Finish before the next.** A new wish waits until the operation in the row has ended. Only an archive is worth
   interrupting, and there the service reports how it ended; never guess it from the row.
4. **Errors name what to do.** A retryable one is called again, a few times; all others, and the last of those, become
   status ERROR with code and hint, and wait for a person. A new request then makes the same call again.

| status       | operation    | call                | then    |
|--------------|--------------|---------------------|---------|
| INITIALIZING | PROVISIONING | provision           | WARM    |
| WARM         | ARCHIVING    | archive (or cancel) | COLD    |
| COLD         | RESTORING    | restore             | WARM    |
| DELETING     | DELETING     | purge               | DELETED |

Usage, with TEMPORAL_ADDRESS and the like in the environment (see ``codehub_storage.connect``):

    python examples/reconciler.py DB request ws1 WARM     # what the user wants: WARM, COLD or DELETED
    python examples/reconciler.py DB run                  # make it so; one such process for a database
    python examples/reconciler.py DB list
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from codehub_storage import CancelOutcome, OperationResult, StorageClient, StorageError, keys

STATUS_DURING = {"PROVISIONING": "INITIALIZING", "ARCHIVING": "WARM", "RESTORING": "COLD", "DELETING": "DELETING"}
NEXT_OPERATION = {
    ("INITIALIZING", "WARM"): "PROVISIONING",
    ("INITIALIZING", "COLD"): "PROVISIONING",
    ("INITIALIZING", "DELETED"): "DELETING",
    ("WARM", "COLD"): "ARCHIVING",
    ("WARM", "DELETED"): "DELETING",
    ("COLD", "WARM"): "RESTORING",
    ("COLD", "DELETED"): "DELETING",
    ("DELETED", "WARM"): "PROVISIONING",
    ("DELETED", "COLD"): "PROVISIONING",
}
"""What to do about a row by (status, wanted). Any other pair is at rest: it is as wanted, or in ERROR."""

TRIES = 6
"""Maximum number of times a call is made. After that a retryable error is written into the row."""
FIRST_PAUSE_SECONDS = 1.0
"""Before the second try; it doubles."""
LOOK_SECONDS = 0.2
"""Interval at which the table is read for new wishes."""


# ------------------------------------------------------------ the table


@dataclass(frozen=True)
class Row:
    """One workspace. ``status`` and ``operation`` as in the table above; ``operation`` None: nothing is under way.

    ``attempts``: calls of this operation that failed so far.
    """

    id: str
    wanted: str
    status: str
    operation: str | None
    home_store_key: str | None
    archive_key: str | None
    attempts: int
    error: str | None
    error_code: str | None
    error_hint: str | None

    @property
    def next_operation(self) -> str | None:
        """What is to be done: first what was begun, then what is wanted. None: the row is at rest."""
        if self.status == "ERROR":
            return None
        return self.operation or NEXT_OPERATION.get((self.status, self.wanted))


class Table:
    """The rows. Each method is one statement, and so is there whole or not at all, whatever kills us."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS workspaces (id TEXT PRIMARY KEY, wanted TEXT NOT NULL,"
            " status TEXT NOT NULL DEFAULT 'INITIALIZING', operation TEXT, home_store_key TEXT, archive_key TEXT,"
            " attempts INTEGER NOT NULL DEFAULT 0, error TEXT, error_code TEXT, error_hint TEXT)"
        )

    def rows(self) -> list[Row]:
        """All workspaces."""
        return [Row(*found) for found in self._db.execute("SELECT * FROM workspaces ORDER BY id")]

    def row(self, workspace_id: str) -> Row | None:
        """One workspace."""
        found = self._db.execute("SELECT * FROM workspaces WHERE id = ?", (workspace_id,)).fetchone()
        return None if found is None else Row(*found)

    def request(self, workspace_id: str, wanted: str) -> None:
        """The user's wish; the row is made with the first one."""
        self._db.execute(
            "INSERT INTO workspaces (id, wanted) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET wanted = excluded.wanted",
            (workspace_id, wanted),
        )

    def begin(self, row: Row, operation: str) -> None:
        """Intent before act. Attempts are counted for each operation."""
        self._db.execute(
            "UPDATE workspaces SET operation = ?, status = ?, attempts = CASE operation WHEN ? THEN attempts ELSE 0 END"
            " WHERE id = ?",
            (operation, STATUS_DURING[operation], operation, row.id),
        )

    def end(self, row: Row, status: str, home_store_key: str | None, archive_key: str | None) -> None:
        """The result: where the workspace is now, and the keys that led there."""
        self._db.execute(
            "UPDATE workspaces SET status = ?, operation = NULL, home_store_key = ?, archive_key = ?, attempts = 0,"
            " error = NULL, error_code = NULL, error_hint = NULL WHERE id = ?",
            (status, home_store_key, archive_key, row.id),
        )

    def note_error(self, row: Row, error: StorageError, *, is_final: bool) -> None:
        """What went wrong. The operation stays in the row, so that it is called again: soon, or upon a request."""
        self._db.execute(
            "UPDATE workspaces SET attempts = attempts + 1, error = ?, error_code = ?, error_hint = ?,"
            " status = CASE WHEN ? THEN 'ERROR' ELSE status END WHERE id = ?",
            (error.message, error.code.value, error.hint, is_final, row.id),
        )

    def forgive(self, row: Row) -> None:
        """Out of ERROR: the same operation is called again, with all its tries."""
        self._db.execute(
            "UPDATE workspaces SET status = ?, attempts = 0, error = NULL, error_code = NULL, error_hint = NULL"
            " WHERE id = ? AND status = 'ERROR'",
            (STATUS_DURING[row.operation or "DELETING"], row.id),
        )


# ------------------------------------------------------------ the reconciler


class Reconciler:
    """Brings every row to what is wanted, all of them at once, each by one operation at a time."""

    def __init__(
        self, table: Table, storage: StorageClient, *, first_pause_seconds: float = FIRST_PAUSE_SECONDS
    ) -> None:
        self._table = table
        self._storage = storage
        self._first_pause_seconds = first_pause_seconds
        self._calls: dict[str, Callable[[Row], Awaitable[None]]] = {
            "PROVISIONING": self._provision,
            "ARCHIVING": self._archive,
            "RESTORING": self._restore,
            "DELETING": self._delete,
        }

    async def run(self, *, until_idle: bool = False) -> None:
        """Look for rows with something to do, for ever; or, ``until_idle``, until all are at rest."""
        working: dict[str, asyncio.Task[None]] = {}
        while True:
            for workspace_id, task in list(working.items()):
                if task.done():
                    del working[workspace_id]
                    task.result()  # a bug ends the process; it starts again and continues
            due = [row for row in self._table.rows() if row.next_operation and row.id not in working]
            working.update({row.id: asyncio.create_task(self._advance(row)) for row in due})
            if until_idle and not working:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _advance(self, row: Row) -> None:
        """One call, from the intent to the result or the error."""
        operation = row.next_operation
        assert operation is not None
        self._table.begin(row, operation)
        try:
            await self._calls[operation](row)
        except StorageError as error:
            attempts = row.attempts + 1 if row.operation == operation else 1
            is_final = not error.retryable or attempts >= TRIES
            self._table.note_error(row, error, is_final=is_final)
            if not is_final:
                # A crash shortens this pause and no more: the tries are counted in the row.
                await asyncio.sleep(self._first_pause_seconds * 2 ** (attempts - 1))

    # Each call below may be the first of its kind, or the tenth after nine crashes. It cannot know, and need not.

    async def _provision(self, row: Row) -> None:
        home_store_key = await self._storage.provision(row.id)
        self._table.end(row, "WARM", home_store_key, row.archive_key)

    async def _restore(self, row: Row) -> None:
        archive_key = row.archive_key or keys.archive_key(row.id)
        home_store_key = await self._storage.restore(archive_key)
        self._table.end(row, "WARM", home_store_key, archive_key)  # the archive stays until the next one replaces it

    async def _delete(self, row: Row) -> None:
        # Both keys, always: an archive or a volume that this row does not know of yet must not outlive it.
        await self._storage.purge(row.home_store_key, keys.archive_key(row.id))
        self._table.end(row, "DELETED", None, None)

    async def _archive(self, row: Row) -> None:
        """Archive, unless the user comes back meanwhile, or came back before a crash."""
        result = await self._archived_unless_wanted_warm(row)
        if result is not None:
            # With `cleanup_required` in the result the volume still exists. The data is safe in the archive, so COLD is
            # true; archive called again finishes the deletion, and restore does so first.
            self._table.end(row, "COLD", row.home_store_key, result.archive_key)
            return
        # The one call that asks a question. It is right with or without an open run, so also where an earlier process
        # asked it and ended before the result came.
        if await self._storage.cancel(row.id) is CancelOutcome.CANCELLED:
            self._table.end(row, "WARM", row.home_store_key, row.archive_key)
        else:  # too late: it is archived, and since WARM is wanted a restore follows
            self._table.end(row, "COLD", row.home_store_key, keys.archive_key(row.id))

    async def _archived_unless_wanted_warm(self, row: Row) -> OperationResult | None:
        """The archive's result; None as soon as the user wants the workspace back. What runs by then runs on."""
        if self._is_wanted_warm(row):
            return None
        assert row.home_store_key is not None
        # Started before it is waited for: a caller that comes to cancel it finds a run.
        handle = await self._storage.start_archive(row.home_store_key)
        result = asyncio.ensure_future(handle.result())
        while not self._is_wanted_warm(row):
            await asyncio.wait([result], timeout=LOOK_SECONDS)
            if result.done():
                return result.result()
        result.cancel()
        return None

    def _is_wanted_warm(self, row: Row) -> bool:
        now = self._table.row(row.id)
        return now is not None and now.wanted == "WARM"


# ------------------------------------------------------------ the command line


async def run(table: Table, place: str, *, until_idle: bool, first_pause_seconds: float) -> None:
    """Connect, and reconcile."""
    storage = await StorageClient.connect(place=place)
    print("running", flush=True)
    await Reconciler(table, storage, first_pause_seconds=first_pause_seconds).run(until_idle=until_idle)


def request(table: Table, workspace_id: str, wanted: str) -> None:
    """Note a wish. For a row in ERROR it also means: the cause is repaired, try again."""
    keys.check_workspace_id(workspace_id)
    table.request(workspace_id, wanted)
    row = table.row(workspace_id)
    if row is not None and row.status == "ERROR":
        table.forgive(row)


def show(table: Table) -> None:
    """All rows, one a line."""
    for row in table.rows():
        cause = f"  {row.error_code}: {row.error} ({row.error_hint})" if row.error_code else ""
        print(f"{row.id:40} {row.status}/{row.operation or '-':12} wanted {row.wanted}{cause}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="A small reconciler over a SQLite table of workspaces.")
    parser.add_argument("database")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="bring every workspace to what is wanted")
    running.add_argument("--place", default="default")
    running.add_argument("--until-idle", action="store_true", help="end when nothing is left to do")
    running.add_argument("--first-pause", type=float, default=FIRST_PAUSE_SECONDS, metavar="SECONDS")
    wish = commands.add_parser("request", help="say what is wanted of a workspace")
    wish.add_argument("id")
    wish.add_argument("state", choices=["WARM", "COLD", "DELETED"])
    commands.add_parser("list", help="show all workspaces")
    arguments = parser.parse_args()
    table = Table(arguments.database)
    try:
        match arguments.command:
            case "run":
                asyncio.run(
                    run(
                        table,
                        arguments.place,
                        until_idle=arguments.until_idle,
                        first_pause_seconds=arguments.first_pause,
                    )
                )
            case "request":
                request(table, arguments.id, arguments.state)
            case "list":
                show(table)
    except StorageError as error:
        sys.exit(f"{error} ({error.hint})")


if __name__ == "__main__":
    main()
