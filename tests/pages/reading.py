"""A page as its reader follows it: each command in order, and Ctrl-C for `dev` at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.harness.sources import TOP
from tests.pages.blocks import HERE, Block, blocks
from tests.pages.shell import Ran, Shell

QUICK_START = TOP / "docs/quick-start.md"
README = TOP / "README.md"
PAGES = (README, QUICK_START)
LEFT_OUT = {"make test"}
"""This suite cannot run itself; CI does."""


def follow(page: Path, shell: Shell) -> Iterator[tuple[Block, Ran]]:
    """Type what the page says. Raises ``CommandFailed`` at the first command that does."""
    block = None
    for block in blocks(page, HERE):
        for command in block.commands:
            if not _is_left_out(command):
                yield block, shell.run(command)
    ended = shell.interrupt_dev()
    if ended is not None and block is not None:
        yield block, ended


def typed(page: Path) -> list[str]:
    """The commands that are."""
    return [each for block in blocks(page, HERE) for each in block.commands if not _is_left_out(each)]


def _is_left_out(command: str) -> bool:
    return command.partition("#")[0].strip() in LEFT_OUT
