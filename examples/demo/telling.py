"""What a person sees of the demo: each step as it happens, and a table of them at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker.cli.format import duration, table
from worker.cli.output import Output
from worker.cli.progress import ProgressState


@dataclass
class Step:
    """One row of the table. ``what`` is filled in by the step itself."""

    name: str
    what: str = ""
    seconds: float = 0.0


class Telling:
    """Collects the steps and prints each."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._steps: list[Step] = []
        self._remarks: list[str] = []

    def say(self, line: str) -> None:
        """A line."""
        self.output.clear_progress()
        self.output.say(line)

    def remark(self, line: str) -> None:
        """Something to be known when reading the table; said at once, and again below it."""
        self._remarks.append(line)
        self.say(f"  {line}")

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """A step, timed."""
        step = Step(name)
        self.output.progress(ProgressState(name))
        began = time.monotonic()
        yield step
        step.seconds = time.monotonic() - began
        self._steps.append(step)
        self.say(f"{name}: {step.what} ({duration(step.seconds)})")

    def report(self, *, equal: bool) -> None:
        """The table, and the verdict."""
        rows = [("STEP", "TIME", "WHAT"), *((each.name, duration(each.seconds), each.what) for each in self._steps)]
        self.say(f"\n{table(rows)}\n")
        for remark in self._remarks:
            self.say(f"note: {remark}")
        self.say("equal: the restored tree is the one that was archived" if equal else "DIFFERENT: see above")
