"""The commands of a page: what stands in its fenced blocks of `bash`, in the order in which a reader types it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

HERE, DOCKER = "bash", "bash docker"
"""A block of the first kind is typed on an empty Debian, one of the second on a machine with a Docker engine."""

_OTHER_SHELLS = frozenset({"bash", "console", "sh", "shell", "shell-session", "terminal", "zsh"})
_COMMAND = re.compile(r"\$ |(sudo|make|docker|git|pip|pipx|python3|(\S*/)?codehub-(storage|archive)) [a-z-]")


@dataclass(frozen=True)
class Block:
    """``heading``: the last one before it."""

    heading: str
    kind: str
    commands: tuple[str, ...]


@dataclass(frozen=True)
class _Code:
    heading: str
    info: str | None
    content: str
    line: int


def blocks(page: Path, kind: str) -> list[Block]:
    """All of that kind, in order."""
    return [
        Block(code.heading, kind, _commands(code.content))
        for code in _codes(page)
        if code.info is not None and code.info.split() == kind.split()
    ]


def not_executed(page: Path) -> list[str]:
    """What a reader would type, and no test does: blocks of another shell, indented ones, commands among output."""
    found = []
    for code in _codes(page):
        words = (code.info or "").split()
        if words in (HERE.split(), DOCKER.split()):
            continue
        shown = code.info is None or not words or words[0] == "text"
        if (words and words[0] in _OTHER_SHELLS) or (
            shown and any(_COMMAND.match(line) for line in code.content.splitlines())
        ):
            found.append(f"{page.name}:{code.line}: {code.content.splitlines()[0]}")
    return found


def _codes(page: Path) -> list[_Code]:
    """Every block of code; ``info`` is what stands behind the fence, ``None`` for an indented one."""
    found, heading = [], ""
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and before.type == "heading_open":
            heading = token.content
        elif token.type in ("fence", "code_block"):
            assert token.map is not None
            info = token.info.strip() if token.type == "fence" else None
            found.append(_Code(heading, info, token.content, token.map[0] + 1))
    return found


def _commands(content: str) -> tuple[str, ...]:
    """A command is a line, or several of which each but the last ends with a backslash."""
    lines = content.replace("\\\n", " ").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
