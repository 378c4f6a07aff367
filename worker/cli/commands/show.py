"""`show [WORKSPACE_ID] [--limit N]`: all that is known of one workspace; without one, what runs and what ran."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from worker.cli.exits import Exit
from worker.cli.format import duration, size, table
from worker.cli.options import argument
from worker.cli.output import Output, one_line

if TYPE_CHECKING:
    from worker.cli.answers import RunRow, ShowAnswer, ShownArchive
    from worker.settings import Settings

HELP = "one workspace: operation, record, volume, archives, last runs; without one: what runs and what ran"
ARGUMENTS = (
    argument("workspace_id", metavar="WORKSPACE_ID", nargs="?"),
    argument("--limit", type=int, default=20, metavar="N", help="ended runs shown (default: 20)"),
)
_RUNS_HEADING = ("WORKSPACE", "OPERATION", "STATUS", "PHASE", "BYTES", "STARTED", "TOOK", "RUN")


async def run(args: Namespace, output: Output) -> int:
    """Prints what is known, also where one of the servers does not respond."""
    from codehub_storage.keys import check_workspace_id
    from worker.cli.session import load_settings
    from worker.cli.workspace import workspace_of

    limit = max(args.limit, 0)
    if args.workspace_id is None:
        return await _all_runs(load_settings(args), limit, output)
    workspace_id = check_workspace_id(args.workspace_id)
    output.known.update(workspace_id=workspace_id)
    found, errors = await workspace_of(load_settings(args), workspace_id, limit)
    if errors:
        return output.partly(found, _as_text(found, errors), next(iter(errors.values())))
    output.answer(found, _as_text(found))
    return Exit.DONE


# ------------------------------------------------------------ of all workspaces


async def _all_runs(settings: Settings, limit: int, output: Output) -> int:
    from worker.cli.answers import RunsAnswer
    from worker.cli.runs import ENDED, OPEN, executions, problems_of, row
    from worker.cli.session import connect_temporal

    client = await connect_temporal(settings)
    web_ui = settings.web_ui_address
    running = [each async for each in executions(client, OPEN)]
    problems = await problems_of(client, running)
    answer = RunsAnswer(
        open=[row(each, web_ui, problems.get(each.run_id)) for each in running],
        ended=[row(each, web_ui) async for each in executions(client, ENDED, limit)],
    )
    output.answer(answer, _as_table([*answer.open, *answer.ended]))
    for each in answer.open:
        if each.problem:
            output.note(f"{each.operation} of {each.workspace_id or '?'} {one_line(each.problem)}")
    return Exit.DONE


def _as_table(rows: Sequence[RunRow]) -> str:
    if not rows:
        return "no operation is known"
    return table([_RUNS_HEADING, *map(_cells, rows)])


def _cells(row: RunRow) -> tuple[str, ...]:
    return (
        row.workspace_id or "?",
        row.operation,
        row.status,
        row.phase or "",
        size(row.bytes) if row.bytes else "",
        row.started_at,
        duration(row.seconds),
        row.run_id,
    )


# ------------------------------------------------------------ of one workspace


def _as_text(found: ShowAnswer, silent: Collection[str] = ()) -> str:
    """What is known. Of ``store`` or ``temporal``, if it is silent, nothing is: that there is none would be a lie."""
    has_runs, has_records = "temporal" not in silent, "store" not in silent
    return "\n".join(
        [
            *(_operation_lines(found) if has_runs else ()),
            *(_record_lines(found) if has_records else ()),
            *_volume_lines(found),
            *(_archive_lines(found) if has_records else ()),
            *(_run_lines(found.runs) if has_runs else ()),
        ]
    )


def _operation_lines(found: ShowAnswer) -> list[str]:
    from worker.cli.following import progress_line

    if found.operation is None:
        return ["operation: none is known"]
    return [f"operation: {progress_line(found.operation)} (run {found.operation.run_id})"]


def _record_lines(found: ShowAnswer) -> list[str]:
    record = found.record
    if record is None:
        return ["record: none"]
    owner, held = record.owner, record.volume
    state = f"volume {held.uid} {held.state.value}" if held else "no volume"
    handed_out = f", handed out at {held.handed_out_at}" if held and held.handed_out_at else ""
    ended = "signed off" if owner.signed_off else "not signed off"
    return [
        f"record: {state}, place {record.place}, revision {record.revision}{handed_out}",
        f"  owner: {owner.operation}, run {owner.run_id}, {ended}",
        *(f"  may still stand: volume {each.uid} at place {each.place}" for each in record.left_behind),
    ]


def _volume_lines(found: ShowAnswer) -> list[str]:
    record, volume, lines = found.record, found.volume, []
    if found.volume_lost and record is not None and record.volume is not None:
        lines.append(f"LOST: volume {record.volume.uid} is not there, and nobody of ours deleted it")
    if found.volume_unknown:
        return [*lines, f"volume: not known: {one_line(found.volume_unknown)}"]
    if volume is None:
        return [*lines, "volume: none"]
    uid = f"uid {volume.uid}" if volume.uid else "not ours"
    lines.append(f"volume: {volume.home_store_key}, {uid}, {volume.presence.value}")
    if volume.restored_from:
        lines.append(f"  restored from {volume.restored_from}")
    return [*lines, *(f"  used by {one_line(user.name)}" for user in volume.users)]


def _archive_lines(found: ShowAnswer) -> list[str]:
    lines = ["archive: none"] if found.archive is None else _archive_found(found.archive)
    if found.archive is not None and _may_be_proven(found, found.archive):
        lines.append(f"  `codehub-storage verify {found.archive.archive_key} --write-manifest` may help")
    for kept in found.kept:
        lines.append(f"  kept: {kept.archive_id}, made {kept.created_at}, {size(kept.stored_bytes)}")
    return lines


def _may_be_proven(found: ShowAnswer, archive: ShownArchive) -> bool:
    """An open run proves it by itself, and what is not stored or was made elsewhere cannot be proven."""
    from codehub_storage.keys import is_foreign

    is_moving = found.operation is not None and not found.operation.closed
    return not archive.proven and archive.stored_bytes > 0 and not is_moving and not is_foreign(archive.archive_key)


def _archive_found(archive: ShownArchive) -> list[str]:
    proven = "proven" if archive.proven else "not proven"
    lines = [f"archive: {archive.archive_key}, {proven}, {size(archive.stored_bytes)} stored"]
    totals = archive.totals
    if totals is None:
        return lines
    lines.append(f"  id {archive.archive_id}, made {archive.created_at}")
    lines.append(
        f"  {totals.files:,} files, {size(totals.file_bytes)}, {totals.directories:,} folders, "
        f"{totals.symlinks:,} links, {archive.segments:,} segments, format {archive.format_version}"
    )
    if totals.skipped:
        counts = (f"{kind} {count:,}" for kind, count in sorted(totals.skipped.items()))
        lines.append(f"  not carried: {', '.join(counts)}")
    if archive.source:
        lines.append(f"  made from volume {archive.source.volume_uid}, place {archive.source.place}")
    return [*lines, f"  content {archive.content_fingerprint}"]


def _run_lines(runs: Sequence[RunRow]) -> list[str]:
    if not runs:
        return ["runs: none is known"]
    heading = ("OPERATION", "STATUS", "STARTED", "TOOK", "RUN")
    rows = [
        (each.operation, each.status, each.started_at, duration(each.seconds), each.link or each.run_id)
        for each in runs
    ]
    problems = [f"  {each.operation} {one_line(each.problem)}" for each in runs if each.problem]
    return ["runs:", *(f"  {line}" for line in table([heading, *rows]).splitlines()), *problems]
