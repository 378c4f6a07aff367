"""The bar that shows how far a long command is: phase, bytes, rate, time left, and what is in the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from worker.cli.format import duration, size

if TYPE_CHECKING:
    from rich.progress import Task

_BAR_COLUMNS = 24


@dataclass(frozen=True)
class ProgressState:
    """How far it is. ``done`` and ``total`` are bytes; 0 where unknown. ``trouble``: why it makes no progress."""

    what: str
    done: int = 0
    total: int = 0
    trouble: str = ""


class Bar:
    """One line of a terminal, drawn again several times a second by a thread. ``close`` takes it away."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # here, since it is slow to import and most commands show no bar
        from rich.progress import BarColumn, Progress, ProgressColumn
        from rich.text import Text

        class Words(ProgressColumn):
            """``render`` of the task's words; texts of others are never read as markup."""

            def __init__(self, of: str) -> None:
                super().__init__()
                self._of = of

            def render(self, task: Task) -> Text:
                return Text(_figures(task) if self._of == "figures" else str(task.fields[self._of]))

        self._console = Console(file=stream)
        self._progress = Progress(
            Words("what"),
            BarColumn(_BAR_COLUMNS),
            Words("figures"),
            Words("trouble"),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=None, what="", trouble="")
        self._what = ""
        self._progress.start()

    def show(self, at: ProgressState) -> None:
        """Show this from now on. Rate and time left are those of the phase that ``what`` names."""
        total = max(at.total, at.done) or None  # a total may be an estimate, and no bar ends beyond its end
        if at.what != self._what:
            self._what = at.what
            self._progress.reset(self._task, total=total, completed=at.done)
        self._progress.update(self._task, total=total, completed=at.done, what=at.what, trouble=at.trouble)

    def close(self) -> None:
        """Take it away."""
        self._progress.stop()


def _figures(task: Task) -> str:
    """Such as: 1.2 GiB of 2.3 GiB, 190.1 MiB/s, 6.0 s left."""
    words = []
    if task.total:
        words.append(f"{size(task.completed)} of {size(task.total)}")
    elif task.completed:
        words.append(size(task.completed))
    if task.speed and task.speed >= 1:
        words.append(f"{size(task.speed)}/s")
    if task.total and task.time_remaining is not None and not task.finished:
        words.append(f"{duration(task.time_remaining)} left")
    return ", ".join(words)
