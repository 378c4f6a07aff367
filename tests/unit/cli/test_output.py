"""What commands print, and what the waiting shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from io import StringIO
from typing import Any

import pytest

from codehub_storage.contracts import Operation, OperationResult, Phase, Progress
from codehub_storage.errors import ErrorCode, StorageError
from worker.cli import following
from worker.cli.answers import CompletionAnswer
from worker.cli.following import follow, progress_line, summary
from worker.cli.format import duration, size, table
from worker.cli.output import Output
from worker.cli.progress import ProgressState


class Terminal(StringIO):
    """Somebody watches."""

    def isatty(self) -> bool:
        """They do."""
        return True


def output_to(*, as_json: bool = False, stderr: StringIO | None = None) -> tuple[Output, StringIO, StringIO]:
    """An output, and what it wrote to stdout and stderr."""
    out, err = StringIO(), stderr or StringIO()
    return Output(as_json=as_json, stdout=out, stderr=err), out, err


def at(phase: Phase, **fields: Any) -> Progress:
    """A look at an archive in this phase."""
    return Progress(operation="archive", workspace_id="ws1", phase=phase, **fields)


def test_answer_for_people_and_for_programs() -> None:
    """Text, or the model, as one line."""
    answer = CompletionAnswer(shell="bash", script="x")
    output, out, _ = output_to()
    output.answer(answer, "text")
    assert out.getvalue() == "text\n"
    output, out, _ = output_to(as_json=True)
    output.answer(answer, "text")
    assert out.getvalue() == answer.model_dump_json() + "\n"


def test_failure_says_what_is_wrong_and_what_to_do() -> None:
    """Whatever a server put into the message, it is one line of the terminal; the next says what to do."""
    output, out, err = output_to()
    output.failure(StorageError(ErrorCode.NO_SPACE, "disk\nfull\x1b[2J"))
    assert out.getvalue() == ""
    assert "\x1b" not in err.getvalue()
    hint = StorageError(ErrorCode.NO_SPACE, "").hint
    assert err.getvalue() == f"error: NoSpace: disk full [2J\n  do:      {hint}\n"


def test_failure_of_an_operation_says_what_is_safe_and_where_to_look() -> None:
    """For people in lines, for programs in the error; the link is of the run that was started."""
    output, _, err = output_to()
    output.operation = Operation.ARCHIVE
    output.link = lambda workspace_id, run_id: f"http://ui/{workspace_id}/{run_id}"
    output.known.update(workspace_id="ws1", run_id="r")
    output.failure(StorageError(ErrorCode.VOLUME_IN_USE, "busy", hint="stop it"))
    assert err.getvalue().splitlines() == [
        "error: VolumeInUse: busy",
        "  safe:    the volume is intact",
        "  do:      stop it",
        "  look at: http://ui/ws1/r",
    ]
    output, out, _ = output_to(as_json=True)
    output.operation = Operation.ARCHIVE
    output.failure(StorageError(ErrorCode.BACKEND_UNAVAILABLE, "no server"))
    error = json.loads(out.getvalue())["error"]
    assert error["safe"] == "nothing was started"
    assert "web_ui" not in error


def test_failure_as_json_says_what_a_program_needs() -> None:
    """Code, message, retryable, hint, details, and the run that it is about."""
    output, out, _ = output_to(as_json=True)
    output.known["run_id"] = "r"
    output.failure(StorageError(ErrorCode.VOLUME_IN_USE, "busy", hint="stop it", details={"users": ["x"]}))
    assert json.loads(out.getvalue()) == {
        "run_id": "r",
        "error": {
            "code": "VolumeInUse",
            "message": "busy",
            "retryable": True,
            "hint": "stop it",
            "details": {"users": ["x"]},
        },
    }


def test_progress_is_for_terminals_only() -> None:
    """A log file gets no bar; a terminal gets it in place, and rid of it before the next line."""
    output, _, err = output_to()
    output.progress(ProgressState("half way"))
    assert err.getvalue() == ""
    output, _, err = output_to(stderr=Terminal())
    output.progress(ProgressState("half way", 1 << 20, 2 << 20, "attempt 2"))
    output.note("done")
    assert "half way" in err.getvalue()
    assert "1.0 MiB of 2.0 MiB" in err.getvalue()
    assert "attempt 2" in err.getvalue()
    assert err.getvalue().endswith("\x1b[2Kdone\n")


def test_no_bar_amid_a_question() -> None:
    """It would be drawn over what is typed."""
    output, _, err = output_to(stderr=Terminal())
    output.ask("sure? ")
    output.progress(ProgressState("half way"))
    assert err.getvalue() == "sure? "
    output.asked()
    output.progress(ProgressState("half way"))
    output.clear_progress()
    assert "half way" in err.getvalue()


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (at(Phase.COPYING, bytes_done=512, bytes_total=1024), "archive: copying, 512 B of 1.0 KiB (50%)"),
        (at(Phase.SETTLING), "archive: settling"),
        (at(Phase.COPYING, bytes_done=2048, bytes_total=1024), "archive: copying, 2.0 KiB of 1.0 KiB (100%)"),
        (
            at(Phase.VERIFYING, attempt=3, last_error="StoreUnavailable: no\nanswer"),
            "archive: verifying, attempt 3, StoreUnavailable: no answer",
        ),
        (at(Phase.DONE, closed=True), "archive: done"),
        (at(Phase.UNDOING, closed=True, last_error="x"), "archive: ended without success: x"),
    ],
)
def test_progress_line(progress: Progress, line: str) -> None:
    """Phase, bytes, and why it does not get on."""
    assert progress_line(progress) == line


def test_summary_warns_of_what_is_left() -> None:
    """An archive whose volume could not be deleted is a success with a warning; skipped entries are counted."""
    lines = summary(
        OperationResult(
            operation="archive",
            workspace_id="ws1",
            home_store_key="ws_ws1_home",
            moved=True,
            cleanup_required=True,
            leftovers=("ws_ws1_home",),
            files=1200,
            raw_bytes=3 << 20,
            stored_bytes=1 << 20,
            skipped={"sockets": 2},
            seconds={"copying": 61.0},
        )
    )
    assert lines[0] == "archived in 1 min 01 s: 1,200 files, 3.0 MiB, 1.0 MiB stored"
    assert lines[1] == "not carried: sockets 2"
    assert lines[2].startswith("warning: the archive is proven, but volume ws_ws1_home still stands")
    assert lines[3] == "left: ws_ws1_home"


def _looks(*answers: Progress | None) -> tuple[Callable[[], Awaitable[Progress | None]], asyncio.Event]:
    """A look that gives these answers, the last one for ever; and the event that they have all been given."""
    given = iter(answers)
    last = answers[-1]
    seen = asyncio.Event()

    async def look() -> Progress | None:
        answer = next(given, None)
        if answer is None:
            seen.set()
            return last
        return answer

    return look, seen


async def test_follow_shows_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sees each look; the line is gone at the end, and the result is answered."""
    monkeypatch.setattr(following, "_LOOK_SECONDS", 0)
    look, seen = _looks(at(Phase.PLANNING), at(Phase.COPYING))
    output, _, err = output_to(stderr=Terminal())

    async def ending() -> str:
        await seen.wait()
        return "result"

    assert await follow(ending(), look, output) == "result"
    assert "archive: planning" in err.getvalue()
    assert "archive: copying" in err.getvalue()
    assert err.getvalue().endswith("\x1b[2K")


async def test_follow_says_that_no_worker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody watches: a start in a place without a worker would wait silently for ever. Once."""
    monkeypatch.setattr(following, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(following, "_LATER_LOOK_SECONDS", 0)
    waits = at(Phase.UNKNOWN).model_copy(update={"waits_for": "a worker: none asks for work on storage/nosuch"})
    look, seen = _looks(*[waits] * 10)
    output, _, err = output_to()
    await follow(seen.wait(), look, output)
    assert err.getvalue().count("waits for a worker: none asks for work on storage/nosuch") == 1


async def test_follow_raises_what_the_operation_raises() -> None:
    """The error comes through as it is."""
    output, _, _ = output_to()

    async def ending() -> None:
        raise StorageError(ErrorCode.NO_SPACE, "full")

    with pytest.raises(StorageError, match="full"):
        await follow(ending(), _looks(at(Phase.COPYING))[0], output)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (size(0), "0 B"),
        (size(1023), "1023 B"),
        (size(1536), "1.5 KiB"),
        (size(5 << 40), "5.0 TiB"),
        (duration(3.21), "3.2 s"),
        (duration(65), "1 min 05 s"),
        (duration(7_620), "2 h 07 min"),
        (table([("A", "B"), ("long", "x")]), "A     B\nlong  x"),
    ],
)
def test_texts_for_people(text: str, wanted: str) -> None:
    """Sizes, durations, tables."""
    assert text == wanted
