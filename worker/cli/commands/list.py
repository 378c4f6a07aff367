"""`list [--state STATE] [--limit N]`: every workspace, with its state, its archive and its last operation."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from worker.cli.exits import Exit
from worker.cli.format import age, size, table
from worker.cli.options import argument
from worker.cli.output import Output

if TYPE_CHECKING:
    from worker.cli.answers import ListAnswer, WorkspaceRow

HELP = "every workspace: state, archive, last operation"
STATES = ("warm", "cold", "both", "moving", "unfinished", "unproven", "lost", "empty", "unknown")
"""Of workspaces, as ``answers.State`` explains them."""

ARGUMENTS = (
    argument("--state", action="append", choices=STATES, help="only these; may be said several times"),
    argument("--limit", type=int, metavar="N", help="so many workspaces at most (default: all)"),
)
_HEADING = ("WORKSPACE", "STATE", "ARCHIVE", "AGE", "LAST OPERATION", "STATUS", "STARTED")


async def run(args: Namespace, output: Output) -> int:
    """Prints a table."""
    from worker.cli.progress import ProgressState
    from worker.cli.session import load_settings
    from worker.cli.workspaces import workspaces_of

    def show(seen: int, total: int) -> None:
        output.progress(ProgressState(f"list: {seen:,} of {total:,} workspaces read"))

    limit = None if args.limit is None else max(args.limit, 0)
    try:
        found, errors = await workspaces_of(load_settings(args), args.state or (), limit, show)
    finally:
        output.clear_progress()
    if errors:
        return output.partly(found, _as_table(found), errors[0])
    output.answer(found, _as_table(found))
    return Exit.DONE


def _as_table(found: ListAnswer) -> str:
    if not found.workspaces:
        return "no workspace"
    return table([_HEADING, *map(_cells, found.workspaces)])


def _cells(row: WorkspaceRow) -> tuple[str, ...]:
    return (
        row.workspace_id,
        row.state,
        "" if row.archive_bytes is None else size(row.archive_bytes),
        "" if row.archive_age_seconds is None else age(row.archive_age_seconds),
        row.operation or "",
        (row.status or "") + (f" ({row.phase})" if row.phase and row.status == "running" else ""),
        row.started_at or "",
    )
