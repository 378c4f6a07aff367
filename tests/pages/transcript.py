"""docs/transcript.md: what the quick start's commands said, and how long each took, when they were last typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from tests.harness.sources import TOP
from tests.pages.shell import Ran, is_dev

PAGE = TOP / "docs/transcript.md"

_LONGEST = 30
_FIRST, _LAST = 6, 12
_PROMPT = "$ "
_ELSEWHERE = re.compile(r"\w+://(?!127\.0\.0\.1|localhost)")
_HEAD = """# A first use, as it went

What the commands of [quick-start.md](quick-start.md) said on {day}, on an empty {system} with {cores} cores: a user who
may use `sudo`, `git`, and a clone of this repository in `~/codehub-storage`. Written by `make walkthrough`; long output
is cut, and lines that name the servers of packages are left out.

From the first command to the last: {total}.
"""


class TellsTooMuch(Exception):
    """What stands in a transcript is the same on every machine; this would name one."""


@dataclass
class Transcript:
    """Commands with their output, below the headings of the page."""

    system: str
    cores: int
    _sections: list[tuple[str, list[Ran]]] = field(default_factory=list)

    def add(self, heading: str, ran: Ran) -> None:
        """What was typed next."""
        if not self._sections or self._sections[-1][0] != heading:
            self._sections.append((heading, []))
        self._sections[-1][1].append(ran)

    def text(self, day: date, private: Sequence[str]) -> str:
        """The page. Raises ``TellsTooMuch`` if one of the ``private`` words is left in it."""
        total = _time(sum(each.seconds for _, all_ran in self._sections for each in all_ran))
        head = _HEAD.format(day=f"{day:%-d %B %Y}", system=self.system, cores=self.cores, total=total)
        parts = [head]
        for heading, all_ran in self._sections:
            parts += [f"\n## {heading}\n", *map(_told, all_ran)]
        text = "".join(parts)
        told = [word for word in private if word in text]
        if told:
            raise TellsTooMuch(f"the transcript has {', '.join(told)}")
        return text


def commands(text: str) -> list[str]:
    """What was typed, by the page; without the last Ctrl-C."""
    return [line.removeprefix(_PROMPT) for line in text.splitlines() if line.startswith(_PROMPT)]


def _told(ran: Ran) -> str:
    verb = "ready after" if is_dev(ran.command) else "ended after" if ran.command == "^C" else "took"
    typed = ran.command if ran.command == "^C" else _PROMPT + ran.command
    return f"\n```text\n{typed}\n{_shortened(ran.output)}```\n\n{verb} {_time(ran.seconds)}\n"


def _shortened(output: str) -> str:
    """Without what names other machines, and without the middle of what is long."""
    shown = [line.rstrip().rpartition("\r")[2] for line in output.rstrip("\n").split("\n")] if output else []
    lines = [line for line in shown if not _ELSEWHERE.search(line)]
    if len(lines) > _LONGEST:
        cut = len(lines) - _FIRST - _LAST
        lines = [*lines[:_FIRST], f"... ({cut} lines)", *lines[-_LAST:]]
    return "".join(f"{line}\n" for line in lines)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
