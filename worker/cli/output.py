"""What a command prints: its answer on stdout, all else on stderr.

With `--json` stdout gets exactly one object, whatever happens. The progress bar is for a terminal only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from worker.cli.bars import Bar, Standing

if TYPE_CHECKING:
    from codehub_storage.contracts import Operation
    from codehub_storage.errors import StorageError


class Output:
    """Where a command speaks. ``context`` is what every later object says, such as the run that was started.

    ``operation``: the one that the command is about, if any. ``link``: where the web UI shows a workspace's run, if
    that is known. Both are for failures.
    """

    def __init__(self, *, as_json: bool, stdout: TextIO, stderr: TextIO) -> None:
        self.as_json = as_json
        self.context: dict[str, Any] = {}
        self.operation: Operation | None = None
        self.link: Callable[[str, str], str | None] = lambda workspace_id, run_id: None
        self._stdout = stdout
        self._stderr = stderr
        self._bar: Bar | None = None
        self._is_asking = False

    @property
    def is_terminal(self) -> bool:
        """True where a progress bar is seen by a person."""
        return self._stderr.isatty()

    def answer(self, value: Mapping[str, Any], text: str) -> None:
        """The one answer: ``value`` for programs, else ``text`` (nothing if empty)."""
        if self.as_json:
            text = json.dumps({**self.context, **value}, ensure_ascii=False)
        if text:
            print(text, file=self._stdout, flush=True)

    def note(self, line: str) -> None:
        """What a person should know besides, on stderr."""
        self.clear_progress()
        print(line, file=self._stderr, flush=True)

    def progress(self, at: Standing) -> None:
        """Show where it stands, in place of what was shown last. Only on a terminal, and not amid a question."""
        if self.is_terminal and not self._is_asking:
            self._bar = self._bar or Bar(self._stderr)
            self._bar.show(at)

    def clear_progress(self) -> None:
        """Take the bar away."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def ask(self, question: str) -> None:
        """Show a question, and no bar until ``asked``."""
        self.clear_progress()
        self._is_asking = True
        self._stderr.write(question)
        self._stderr.flush()

    def asked(self) -> None:
        """There is an answer, or none is needed any more."""
        self._is_asking = False

    def failure(self, error: StorageError) -> None:
        """What happened, what is safe, what to do, where to look; the object for programs."""
        told = self._told(error)
        self.note(f"error: {one_line(str(error))}")
        for name, words in (("safe", told["safe"]), ("do", error.hint), ("look at", told["web_ui"])):
            if words:
                self.note(f"  {name + ':':<9}{one_line(words)}")
        if self.as_json:
            self.answer({"error": {**error_object(error), **{key: words for key, words in told.items() if words}}}, "")

    def _told(self, error: StorageError) -> dict[str, str | None]:
        run_id, workspace_id = self.context.get("run_id"), self.context.get("workspace_id")
        safe = None
        if self.operation is not None:
            from worker.cli.safety import what_is_safe

            safe = what_is_safe(self.operation, error.code, started="run_id" in self.context)
        return {"safe": safe, "web_ui": self.link(workspace_id, run_id) if workspace_id and run_id else None}


def error_object(error: StorageError) -> dict[str, Any]:
    """An error for programs."""
    return {
        "code": error.code.value,
        "message": error.message,
        "retryable": error.retryable,
        "hint": error.hint,
        **({"details": error.details} if error.details else {}),
    }


def one_line(text: str) -> str:
    """A message that came from elsewhere, safe for a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
