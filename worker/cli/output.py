"""What a command prints: its answer on stdout, all else on stderr.

With `--json` stdout gets exactly one object, whatever happens: a model of ``answers``. The progress bar is for a
terminal only. What is slow to import is imported where it is needed, since `--help` comes through here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from worker.cli.exits import Exit, exit_of
from worker.cli.progress import Bar, ProgressState

if TYPE_CHECKING:
    from pydantic import BaseModel

    from codehub_storage.contracts import Operation
    from codehub_storage.errors import StorageError
    from worker.cli.answers import ListAnswer, ShowAnswer


class Output:
    """Where a command prints.

    The rest is for failures. ``known``: fields of ``answers.Known``, such as the run that was started. ``operation``:
    the one that the command is about, if any. ``link``: where the web UI shows a workspace's run, if that is known.
    """

    def __init__(self, *, as_json: bool, stdout: TextIO, stderr: TextIO) -> None:
        self.as_json = as_json
        self.known: dict[str, str] = {}
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

    def answer(self, value: BaseModel, text: str) -> None:
        """The one answer: ``value`` for programs, else ``text`` (nothing if empty)."""
        self.say(value.model_dump_json() if self.as_json else text)

    def say(self, text: str) -> None:
        """Text on stdout, if there is any."""
        if text:
            print(text, file=self._stdout, flush=True)

    def note(self, line: str) -> None:
        """What a person should know besides, on stderr."""
        self.clear_progress()
        print(line, file=self._stderr, flush=True)

    def progress(self, at: ProgressState) -> None:
        """Show how far it is, in place of what was shown last. Only on a terminal, and not amid a question."""
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
        safe, web_ui = self._safe(error), self._web_ui()
        self._say(error, safe, web_ui)
        if self.as_json:
            from worker.cli.answers import ErrorObject, Failed

            self.say(Failed(**self.known, error=ErrorObject.of(error, safe=safe, web_ui=web_ui)).model_dump_json())

    def partly(self, value: ListAnswer | ShowAnswer, text: str, error: StorageError) -> Exit:
        """What is known although ``error`` hides the rest; returns the exit status."""
        if not self.as_json:
            self.say(text)
        self._say(error)
        if self.as_json:
            from worker.cli.answers import ErrorObject

            self.say(value.model_copy(update={"error": ErrorObject.of(error)}).model_dump_json())
        return exit_of(error)

    def interrupted(self) -> None:
        """A signal ended the command."""
        self.note("interrupted")
        if self.as_json:
            from worker.cli.answers import Interrupted

            self.say(Interrupted(**self.known).model_dump_json())

    def _say(self, error: StorageError, safe: str | None = None, web_ui: str | None = None) -> None:
        self.note(f"error: {one_line(str(error))}")
        for name, words in (("safe", safe), ("do", error.hint), ("look at", web_ui)):
            if words:
                self.note(f"  {name + ':':<9}{one_line(words)}")

    def _safe(self, error: StorageError) -> str | None:
        if self.operation is None:
            return None
        from worker.cli.safety import what_is_safe

        return what_is_safe(self.operation, error.code, started="run_id" in self.known)

    def _web_ui(self) -> str | None:
        run_id, workspace_id = self.known.get("run_id"), self.known.get("workspace_id")
        return self.link(workspace_id, run_id) if workspace_id and run_id else None


def one_line(text: str) -> str:
    """A message that came from elsewhere, safe for a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
