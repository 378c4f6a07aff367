"""What a command prints: its answer on stdout, all else on stderr.

With `--json` stdout gets exactly one object, whatever happens. The progress line is for a terminal only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from codehub_storage.errors import StorageError

_CLEAR_LINE = "\r\x1b[K"


class Output:
    """Where a command speaks. ``context`` is what every later object says, such as the run that was started."""

    def __init__(self, *, as_json: bool, stdout: TextIO, stderr: TextIO) -> None:
        self.as_json = as_json
        self.context: dict[str, Any] = {}
        self._stdout = stdout
        self._stderr = stderr
        self._line_shown = False

    @property
    def is_terminal(self) -> bool:
        """True where a progress line is seen by a person."""
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

    def progress(self, line: str) -> None:
        """Show where it stands, in place of what was shown last. Only on a terminal."""
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stderr.write(_CLEAR_LINE + line[:width])
            self._stderr.flush()
            self._line_shown = True

    def clear_progress(self) -> None:
        """Take the progress line away."""
        if self._line_shown:
            self._stderr.write(_CLEAR_LINE)
            self._stderr.flush()
            self._line_shown = False

    def failure(self, error: StorageError) -> None:
        """One line on stderr that says what is wrong and what to do; the object for programs."""
        self.note(f"error: {one_line(str(error))} ({error.hint})")
        if self.as_json:
            self.answer({"error": error_object(error)}, "")


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
