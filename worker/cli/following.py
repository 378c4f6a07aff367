"""Waiting for an operation: the bar, the question that Ctrl-C asks, and what to print if the wait ends earlier."""

from __future__ import annotations

import asyncio
import itertools
from argparse import Namespace
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from codehub_storage.client import OperationHandle
from codehub_storage.contracts import OperationResult, Phase, Progress
from codehub_storage.errors import StorageError
from codehub_storage.serving import hindered
from worker.cli.answers import Started
from worker.cli.asking import attended
from worker.cli.exits import Exit
from worker.cli.format import duration, size
from worker.cli.output import Output, one_line
from worker.cli.progress import ProgressState

T = TypeVar("T")

_LOOK_SECONDS = 0.5
_FIRST_LOOKS = 6
_LATER_LOOK_SECONDS = 10.0
_DONE_WORDS = {"provision": "provisioned", "archive": "archived", "restore": "restored", "purge": "purged"}


async def finish(handle: OperationHandle, args: Namespace, output: Output, *, key: str = "") -> int:
    """Wait for the end of an operation and print its result; with `--no-wait`, print only which run it is.

    ``key``: the field that is the answer for people.
    """
    output.known.update(operation=handle.operation.value, workspace_id=handle.workspace_id, run_id=handle.run_id)
    if args.no_wait:
        with suppress(StorageError):
            note_hindrance(await handle.progress(), output)
        answer = Started(operation=handle.operation.value, workspace_id=handle.workspace_id, run_id=handle.run_id)
        output.answer(answer, handle.run_id)
        return Exit.DONE

    async def cancel() -> None:
        output.note(f"{handle.operation.value} is asked to stop and undo")
        await handle.cancel()

    try:
        ending = attended(handle.result(), cancel, handle.operation.value, output)
        result = await follow(ending, handle.progress, output)
    except asyncio.CancelledError:
        output.note(
            f"{handle.operation.value} goes on without this command (run {handle.run_id}); "
            f"`codehub-storage show {handle.workspace_id}` shows it, "
            f"`codehub-storage cancel {handle.workspace_id}` stops it"
        )
        raise
    for line in summary(result):
        output.note(line)
    output.answer(result, getattr(result, key) if key else "\n".join(result.removed))
    return Exit.DONE


async def follow(ending: Awaitable[T], look: Callable[[], Awaitable[Progress | None]], output: Output) -> T:
    """Await ``ending``; meanwhile call ``look`` now and then and show what it returns."""
    looking = asyncio.create_task(_show(look, output))
    try:
        return await ending
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        output.clear_progress()


async def _show(look: Callable[[], Awaitable[Progress | None]], output: Output) -> None:
    said = ""
    for looks in itertools.count():
        is_watched = output.is_terminal or looks < _FIRST_LOOKS
        await asyncio.sleep(_LOOK_SECONDS if is_watched else _LATER_LOOK_SECONDS)
        with suppress(StorageError):
            progress = await look()
            if progress is not None:
                said = note_hindrance(progress, output, said)
                output.progress(progress_state(progress))


def note_hindrance(progress: Progress, output: Output, said: str = "") -> str:
    """Print on stderr, once, what hinders the operation. Returns that text, empty where nothing does."""
    found = "" if progress.closed else _hindered(progress)
    if found and found != said:
        output.note(f"{progress.operation} of {progress.workspace_id} {found}")
    return found


def progress_state(progress: Progress) -> ProgressState:
    """For the bar."""
    return ProgressState(
        f"{progress.operation}: {progress.phase.value}",
        progress.bytes_done,
        progress.bytes_total or 0,
        ", ".join(_trouble(progress)),
    )


def _trouble(progress: Progress) -> list[str]:
    words = [f"attempt {progress.attempt}"] if progress.attempt > 1 else []
    words += [one_line(progress.last_error)] if progress.last_error else []
    return [*words, _hindered(progress)] if _hindered(progress) else words


def _hindered(progress: Progress) -> str:
    return one_line(hindered(progress.waits_for, progress.task_attempt, progress.task_failure))


def progress_line(progress: Progress) -> str:
    """Phase, bytes, and why it makes no progress if it makes none."""
    if progress.closed:
        why = f": {one_line(progress.last_error)}" if progress.last_error else ""
        return f"{progress.operation}: " + ("done" if progress.phase is Phase.DONE else f"ended without success{why}")
    words = [f"{progress.operation}: {progress.phase.value}"]
    if progress.bytes_total:
        share = min(1.0, progress.bytes_done / progress.bytes_total)
        words.append(f"{size(progress.bytes_done)} of {size(progress.bytes_total)} ({share:.0%})")
    elif progress.bytes_done:
        words.append(size(progress.bytes_done))
    return ", ".join([*words, *_trouble(progress)])


def summary(result: OperationResult) -> list[str]:
    """What a person wants to know of a result besides its key."""
    done = _DONE_WORDS.get(result.operation, result.operation)
    words = [f"{done} in {duration(sum(result.seconds.values()))}"]
    if result.files or result.raw_bytes:
        words.append(f"{result.files:,} files, {size(result.raw_bytes)}")
    if result.stored_bytes:
        words.append(f"{size(result.stored_bytes)} stored")
    if result.sent_again_bytes:
        words.append(f"{size(result.sent_again_bytes)} sent again")
    if not result.moved and result.operation in ("archive", "restore"):
        words.append("no bytes had to be moved")
    lines = [": ".join([words[0], ", ".join(words[1:])]) if words[1:] else words[0]]
    if result.skipped:
        counts = ", ".join(f"{kind} {count:,}" for kind, count in sorted(result.skipped.items()))
        lines.append(f"not carried: {counts}")
    if result.lost_volume_uid:
        lines.append(f"warning: lost: volume {result.lost_volume_uid}, with what no archive has of it")
    if result.cleanup_required:
        lines.append(
            f"warning: the archive is proven, but volume {result.home_store_key} still stands; archive again to "
            "finish its deletion"
        )
    lines += [f"left: {one_line(each)}" for each in result.leftovers]
    return lines
